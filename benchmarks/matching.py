"""Time max-IoU matching beside torchvision's, and measure its memory.

    python benchmarks/matching.py [--boxes 10 100 500] [--repeats 7]

RetinaNet's anchors of an 800 x 816 image (9 in a cell, 122k), and one image's boxes: 8 to 400 px (the root
of the area), log-uniform, at most 3 : 1. *grid* finds anchors by their place; *list* has them in random
order: no grid is left. torchvision's is ``Matcher(0.5, 0.4, allow_low_quality_matches=True)`` on ``box_iou``;
all matches are compared before a time is printed. Times are the least CPU time of some repeats on one thread;
memory is what one call adds to a process of its own at its peak (Linux).
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

import dethead
from dethead.anchors import AnchorGrid
from dethead.assigners import MaxIoUAssigner
from dethead.structures import Anchors, GroundTruth

HEIGHT, WIDTH = 800, 816
STRIDES = (8, 16, 32, 64, 128)
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
CONTENDERS = ("torchvision", "grid", "list")


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


def milliseconds(call: Callable[[], Tensor], repeats: int) -> float:
    """Give the least CPU time of ``repeats`` calls; one more is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def peak_mib(contender: str, count: int) -> float:
    """Give what one call adds to a new process at its peak."""
    command = [sys.executable, __file__, "--peak", contender, "--boxes", str(count)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(contender: str, count: int) -> None:
    """Measure in this process: ``VmHWM`` is its highest ``VmRSS``, and a 5 in ``clear_refs`` resets it."""
    prepare(contender, 1)()  # what is loaded at the first call is not the call's
    call = prepare(contender, count)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    call()
    print((_status("VmHWM") - before) / 1024)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def check_equal(count: int) -> None:
    """Refuse to go on where matches differ from torchvision's."""
    wanted = prepare("torchvision", count)()
    assert torch.equal(prepare("grid", count)(), wanted)
    assert torch.equal(prepare("list", count)(), wanted[shuffled(len(wanted))])


def main() -> None:
    """Parse, check, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boxes", type=int, nargs="+", default=[10, 100, 500])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peak", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print_peak(options.peak, options.boxes[0])
        return
    print(
        f"dethead {dethead.__version__}, torch {torch.__version__}, torchvision {torchvision.__version__}; "
        f"{len(place_anchors('grid').boxes)} anchors, one thread"
    )
    print(f"{'boxes':>5} {'':<11} {'CPU ms':>8} {'times':>6} {'MiB':>8} {'times':>6}")
    for count in options.boxes:
        check_equal(count)
        measured = {
            name: (milliseconds(prepare(name, count), options.repeats), peak_mib(name, count))
            for name in CONTENDERS
        }
        peer = measured["torchvision"]
        for name, (ms, mib) in measured.items():
            print(f"{count:5} {name:<11} {ms:8.2f} {peer[0] / ms:6.1f} {mib:8.1f} {peer[1] / mib:6.1f}")


if __name__ == "__main__":
    main()
