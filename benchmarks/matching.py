"""Time max-IoU matching beside torchvision's, and measure its memory.

    python benchmarks/matching.py [--quick] [--json FILE] [--boxes 10 100 500] [--rounds 7]

RetinaNet's anchors of an 800 x 816 image (9 in a cell, 122k), and one image's boxes: 8 to 400 px (the root
of the area), log-uniform, at most 3 : 1. *grid* finds anchors by their place; *list* has them in random
order: no grid is left. The grid is recognised, and the list sorted, once for a set of anchors: that is not in
the times. torchvision's is ``Matcher(0.5, 0.4, allow_low_quality_matches=True)`` on ``box_iou``; all matches
are compared before a time is printed. Times are the least of some rounds, contenders in turn; memory is what
one call adds at its peak to a process of its own (Linux), 1 MiB where it is less.
"""

import argparse
import json
import math
from collections.abc import Callable
from typing import Final

import torch
from side_by_side import Row, added_mib, alone, compare, environment, finish, least, ms, parser
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from dethead.anchors import AnchorGrid
from dethead.assigners import MaxIoUAssigner
from dethead.structures import Anchors, GroundTruth

HEIGHT, WIDTH = 800, 816
STRIDES = (8, 16, 32, 64, 128)
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
CONTENDERS = ("torchvision", "grid", "list")
ASKED: Final = {"grid": {10: 8.0, 100: 60.0, 500: 60.0}, "list": {10: 3.0, 100: 6.0, 500: 6.0}}


def place_anchors(contender: str) -> Anchors:
    """Give RetinaNet's anchors, in random order for *list*."""
    grid = AnchorGrid.from_sizes(STRIDES, [4 * s for s in STRIDES], ratios=[0.5, 1, 2], scales=SCALES)
    anchors = grid.place((HEIGHT, WIDTH))
    if contender != "list":
        return anchors
    count = len(anchors.boxes)
    return Anchors(anchors.boxes[shuffled(count)], (slice(0, count),), (1,), ((1, count),))


def shuffled(count: int) -> Tensor:
    """Give an order, the same at every call."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def draw_boxes(count: int) -> Tensor:
    """(count, 4) boxes whose centres are in the image."""
    generator = torch.Generator().manual_seed(count)
    center = torch.rand(count, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
    side = 8 * torch.exp(torch.rand(count, 1, generator=generator) * math.log(400 / 8))
    ratio = torch.exp((torch.rand(count, 1, generator=generator) - 0.5) * math.log(3))
    size = torch.cat([side * ratio, side / ratio], dim=1)
    return torch.cat([center - size / 2, center + size / 2], dim=1)


def prepare(contender: str, count: int) -> Callable[[], Tensor]:
    """Give the call to measure; its result is the (A,) match of each anchor."""
    anchors, boxes = place_anchors(contender), draw_boxes(count)
    if contender == "torchvision":
        matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
        return lambda: matcher(box_iou(boxes, anchors.boxes))
    truth = GroundTruth.from_labels(boxes, torch.zeros(count, dtype=torch.int64), 1)
    return lambda: MaxIoUAssigner(0.5, 0.4, low_quality=True)(anchors, [truth]).matched[0]


def check_equal(count: int) -> None:
    """Refuse to go on where matches differ from torchvision's."""
    wanted = prepare("torchvision", count)()
    assert torch.equal(prepare("grid", count)(), wanted)
    assert torch.equal(prepare("list", count)(), wanted[shuffled(len(wanted))])


def measure(count: int, rounds: int, options: argparse.Namespace) -> list[Row]:
    """Compare the matches, then time and memory."""
    check_equal(count)
    times = least({name: prepare(name, count) for name in CONTENDERS}, rounds * max(1, 100 // count))
    peak = {}
    if not options.quick:
        peak = {name: max(1.0, alone(__file__, "--peak", name, str(count))) for name in CONTENDERS}
    return [
        compare(
            "max-IoU matching",
            f"{len(place_anchors('grid').boxes) // 1000}k anchors, {count} boxes, {name}",
            "torchvision",
            ms(options),
            1000 * times["torchvision"].that_counts(options),
            1000 * times[name].that_counts(options),
            asked=ASKED[name].get(count),
            memory_ratio=peak["torchvision"] / peak[name] if peak else None,
        )
        for name in ("grid", "list")
    ]


def print_peak(contender: str, count: int) -> None:
    """Measure in this process, after a small call: what is loaded at the first is not the call's."""
    prepare(contender, 1)()
    print(json.dumps(added_mib(prepare(contender, count))))


def main() -> None:
    """Parse, check, measure."""
    made = parser(__doc__)
    made.add_argument("--boxes", type=int, nargs="+", default=[10, 100, 500])
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print_peak(options.peak[0], int(options.peak[1]))
        return
    print(environment())
    counts, rounds = ([10], 2) if options.quick else (options.boxes, options.rounds)
    rows = [row for count in counts for row in measure(count, rounds, options)]
    finish(rows, options)


if __name__ == "__main__":
    main()
