"""Show how time and memory of what surrounds the convolutions grow with anchors, boxes and classes.

    python benchmarks/growth.py [--quick] [--json FILE] [--only WORK ...] [--rounds 2]

One image. One size grows at a time, from a base of 20k anchors, 100 boxes and 8 classes; more anchors come
with a larger image, boxes of the same size. *max_iou*, *sim_ota* and *task_aligned* assign; *criterion* is
loss and gradient of focal loss on all anchors; *postprocess* scores, decodes and suppresses. A row's peer is
linear growth: what the smallest size took, times the factor; a ratio below 1 is worse than linear. Times are
the least CPU time of some rounds on one thread. Memory is what one call adds at its peak to a process of its
own (Linux), at least 1 MiB; what a call gives back (the assignment, the gradient) is in it.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import torch
from side_by_side import Row, added_mib, alone, compare, environment, finish, least, number, parser
from sim_ota import STRIDES, draw_boxes, draw_predictions, draw_truth, place_anchors

from dethead.assigners import Assigner, MaxIoUAssigner, SimOTAAssigner, TaskAlignedAssigner
from dethead.boxes import BoxCodec
from dethead.criterion import DetectionLoss
from dethead.losses import smooth_l1
from dethead.postprocess import Postprocessor
from dethead.schemes import Focal
from dethead.structures import HeadOutput, Resize

CELLS_PER_PIXEL: Final = sum(stride**-2 for stride in STRIDES)


class Size(NamedTuple):
    """One case."""

    anchors: int = 20_000
    boxes: int = 100
    classes: int = 8

    def image(self) -> int:
        """Give the side in px of a square image of so many anchors, about."""
        return 32 * round((self.anchors / CELLS_PER_PIXEL) ** 0.5 / 32)


AXES: Final = {
    "anchors": (10_000, 140_000, 2_000_000),
    "boxes": (1, 50, 2000),
    "classes": (3, 80, 1203),
}
SMALL: Final = {"anchors": (10_000, 20_000), "boxes": (1, 20), "classes": (3, 20)}
"""For --quick."""


def prepare_max_iou(size: Size) -> Callable[[], object]:
    """Give the call to measure, as the others do."""
    anchors = place_anchors(size.image())
    truth = draw_truth(draw_boxes(size.boxes, size.image()), size.classes)
    return lambda: MaxIoUAssigner()(anchors, [truth])


def prepare_sim_ota(size: Size) -> Callable[[], object]:
    """See ``prepare_max_iou``."""
    return _prepare_matching(SimOTAAssigner("sigmoid"), size)


def prepare_task_aligned(size: Size) -> Callable[[], object]:
    """See ``prepare_max_iou``."""
    return _prepare_matching(TaskAlignedAssigner(), size)


def _prepare_matching(assigner: Assigner, size: Size) -> Callable[[], object]:
    anchors, boxes = place_anchors(size.image()), draw_boxes(size.boxes, size.image())
    truth, seen = draw_truth(boxes, size.classes), draw_predictions(anchors, boxes, size.classes)
    return lambda: assigner(anchors, [truth], seen)


def prepare_criterion(size: Size) -> Callable[[], object]:
    """See ``prepare_max_iou``."""
    anchors = place_anchors(size.image())
    truth = draw_truth(draw_boxes(size.boxes, size.image()), size.classes)
    assignment = MaxIoUAssigner()(anchors, [truth])
    criterion = DetectionLoss(
        Focal(alpha=0.25, gamma=2.0), partial(smooth_l1, beta=0.1), BoxCodec(), class_on="all"
    )
    output = draw_output(len(anchors.boxes), size.classes).requires_grad_()

    def step() -> object:
        output.grad = None
        criterion(HeadOutput(output), assignment, [truth], anchors).total.backward()
        return output.grad

    return step


def prepare_postprocess(size: Size) -> Callable[[], object]:
    """See ``prepare_max_iou``."""
    anchors, side = place_anchors(size.image()), size.image()
    output = HeadOutput(draw_output(len(anchors.boxes), size.classes))
    postprocessor = Postprocessor(Focal(alpha=0.25, gamma=2.0), BoxCodec())
    resize = Resize((side, side), (1.0, 1.0))
    return lambda: postprocessor(output, anchors, [resize])


def draw_output(anchors: int, classes: int) -> torch.Tensor:
    """(1, A, C + 5) of a head that says little: probabilities and confidences of some 1 %."""
    generator = torch.Generator().manual_seed(0)
    raw = 0.5 * torch.randn(1, anchors, classes + 5, generator=generator)
    raw[..., :-4] -= 4.0
    return raw


WORKS: Final = {
    "max_iou": (prepare_max_iou, ("anchors", "boxes")),
    "sim_ota": (prepare_sim_ota, ("anchors", "boxes", "classes")),
    "task_aligned": (prepare_task_aligned, ("anchors", "boxes", "classes")),
    "criterion": (prepare_criterion, ("anchors", "boxes", "classes")),
    "postprocess": (prepare_postprocess, ("anchors", "classes")),
}


def measure(work: str, axis: str, rounds: int, *, quick: bool) -> list[Row]:
    """Compare all sizes of an axis with the smallest, and print them as they come."""
    rows, counts = [], (SMALL if quick else AXES)[axis]
    first_ms = first_mib = 0.0
    for count in counts:
        ms = 1000 * least({"it": WORKS[work][0](Size(**{axis: count}))}, rounds)["it"].cpu
        mib = 1.0 if quick else max(1.0, alone(__file__, "--peak", work, axis, str(count)))
        print(f"{work:>12} {count:>9,} {axis:<8} {number(ms):>9} ms {number(mib):>9} MiB", flush=True)
        if count == counts[0]:
            first_ms, first_mib = ms, mib
            continue
        factor = count / counts[0]
        rows.append(
            compare(
                f"growth of {work}",
                f"{counts[0]:,} -> {count:,} {axis}",
                "linear growth",
                "ms",
                first_ms * factor,
                ms,
                asked=1.0,
                memory_ratio=None if quick else first_mib * factor / mib,
                peer_version="",
            )
        )
    return rows


def print_peak(work: str, axis: str, count: int) -> None:
    """Measure in this process, after a small call: what is loaded at the first is not the call's."""
    prepare, _ = WORKS[work]
    prepare(Size(1000, 2, 3))()
    print(json.dumps(added_mib(prepare(Size(**{axis: count})))))


def main() -> None:
    """Parse, measure."""
    made = parser(__doc__, timed=False)
    made.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), metavar="WORK")
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = made.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        work, axis, count = options.peak
        print_peak(work, axis, int(count))
        return
    print(environment())
    rounds = 1 if options.quick else options.rounds
    rows = [
        row
        for work in options.only
        for axis in WORKS[work][1]
        for row in measure(work, axis, rounds, quick=options.quick)
    ]
    finish(rows, options)


if __name__ == "__main__":
    main()
