"""Time SimOTA's matching beside YOLOX's way, and measure the memory of both.

    python benchmarks/sim_ota.py [--quick] [--json FILE] [--rounds 5]

The 8400 anchors of a 640 px image, 80 classes, and one image's boxes: 8 to 400 px (the root of the area),
log-uniform, at most 3 : 1. Predictions are as in training: an anchor in the middle half of a box predicts it,
15 % of its size off at random; the others predict themselves.

YOLOX is not installed; its way is written out here after the paper (Ge et al. 2021,
https://arxiv.org/abs/2107.08430, section 2.1): binary cross-entropy of all classes for all pairs of a box and
a candidate, a tensor (M, F, C), then a loop over the boxes. *square*: candidates are the anchors within 1.5
strides of a box's centre, as in YOLOX's code since 0.3; *box*: those inside a box, too, as in the paper and
MMDetection. An anchor that several boxes take goes to the one of them for which it costs least. All matches
are compared before a time is printed. Times are the least of some rounds, contenders in turn; memory
is what one call adds at its peak to a process of its own (Linux), 1 MiB where it is less.
"""

import argparse
import json
import math
from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from side_by_side import Row, added_mib, alone, compare, environment, finish, least, ms, parser
from torch import Tensor
from torchvision.ops import box_iou

from dethead.anchors import AnchorGrid
from dethead.assigners import SimOTAAssigner
from dethead.assigners.geometry import centers, per_anchor
from dethead.structures import Anchors, GroundTruth, Predictions

SIZE, CLASSES, RADIUS, TOP, IOU_WEIGHT = 640, 80, 1.5, 10, 3.0
STRIDES: Final = (8, 16, 32)
ASKED: Final = {10: 1.5, 100: 10.0, 500: 10.0}
RULES: Final = ("square", "box")
CONTENDERS: Final = ("peer", "dethead")
PEER: Final = "YOLOX's way, written out"


def place_anchors(size: int) -> Anchors:
    """Give one square anchor for each cell of a square image."""
    return AnchorGrid.from_sizes(STRIDES, STRIDES).place((size, size))


def draw_boxes(count: int, size: int) -> Tensor:
    """(count, 4) boxes whose centres are in the image."""
    generator = torch.Generator().manual_seed(count)
    center = torch.rand(count, 2, generator=generator) * size
    side = 8 * torch.exp(torch.rand(count, 1, generator=generator) * math.log(400 / 8))
    ratio = torch.exp((torch.rand(count, 1, generator=generator) - 0.5) * math.log(3))
    extent = torch.cat([side * ratio, side / ratio], dim=1)
    return torch.cat([center - extent / 2, center + extent / 2], dim=1).clamp(0, size)


def draw_predictions(anchors: Anchors, boxes: Tensor, classes: int) -> Predictions:
    """Give predictions of one image: the last box in whose middle an anchor is, or the anchor itself."""
    generator = torch.Generator().manual_seed(len(boxes))
    points, seen = centers(anchors.boxes), anchors.boxes.clone()
    middles, extents = centers(boxes), boxes[:, 2:] - boxes[:, :2]
    for box, middle, extent in zip(boxes, middles, extents, strict=True):
        seen[((points - middle).abs() < extent / 4).all(dim=1)] = box
    extent = (seen[:, 2:] - seen[:, :2]).repeat(1, 2)
    seen += 0.15 * extent * torch.randn(seen.shape, generator=generator)
    corners = seen.view(-1, 2, 2)
    seen = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    logits = torch.randn(1, len(seen), classes, generator=generator) - 4
    confidence = torch.randn(1, len(seen), generator=generator) - 2
    return Predictions(seen[None], logits.sigmoid(), confidence.sigmoid())


def draw_truth(boxes: Tensor, classes: int) -> GroundTruth:
    """Give the boxes a class each."""
    generator = torch.Generator().manual_seed(len(boxes))
    return GroundTruth.from_labels(boxes, torch.randint(classes, (len(boxes),), generator=generator), classes)


def prepare(contender: str, rule: str, count: int) -> Callable[[], Tensor]:
    """Give the call to measure; its result is the (A,) match of each anchor."""
    anchors, boxes = place_anchors(SIZE), draw_boxes(count, SIZE)
    truth, seen = draw_truth(boxes, CLASSES), draw_predictions(anchors, boxes, CLASSES)
    if contender == "dethead":
        assigner = SimOTAAssigner(
            "sigmoid",
            center_radius=RADIUS,
            iou_weight=IOU_WEIGHT,
            top_ious=TOP,
            center_only=rule == "square",
        )
        return lambda: assigner(anchors, [truth], seen).matched[0]
    reach = RADIUS * per_anchor(anchors, anchors.strides)
    points, labels = centers(anchors.boxes), truth.targets.argmax(dim=1)
    one = Predictions(*(part[0] for part in seen))
    return lambda: yolox(points, reach, boxes, labels, one, rule)


def yolox(
    points: Tensor, reach: Tensor, boxes: Tensor, labels: Tensor, seen: Predictions, rule: str
) -> Tensor:
    """(A,) the box of each anchor, -1 for none, of (A, 2) centres with an (A,) reach and (M, 4) boxes."""
    middle = centers(boxes)[:, None]
    near = ((points - middle).abs() < reach[:, None]).all(dim=-1)
    inside = near
    if rule == "box":
        inside = (points > boxes[:, None, :2]).all(dim=-1) & (points < boxes[:, None, 2:]).all(dim=-1)
    candidates = (near | inside).any(dim=0)
    overlaps = box_iou(boxes, seen.boxes[candidates])
    cost = dense_class_cost(labels, seen, candidates) - IOU_WEIGHT * torch.log(overlaps + 1e-8)
    cost += 1e6 * ~(near & inside)[:, candidates]
    matched = torch.full((len(points),), -1)
    matched[candidates] = take(cost, overlaps)
    return matched


def dense_class_cost(labels: Tensor, seen: Predictions, candidates: Tensor) -> Tensor:
    """(M, F) summed over an (M, F, C) binary cross-entropy."""
    joint = seen.class_probabilities[candidates] * seen.confidence[candidates, None]
    count, classes = joint.shape
    targets = F.one_hot(labels, classes).float().unsqueeze(1).repeat(1, count, 1)
    of_all = joint.unsqueeze(0).repeat(len(labels), 1, 1).sqrt_()
    return F.binary_cross_entropy(of_all, targets, reduction="none").sum(dim=-1)


def take(cost: Tensor, overlaps: Tensor) -> Tensor:
    """(F,) the box of each candidate: a box takes its cheapest ones, as many as its best IoUs add up to."""
    top = overlaps.topk(min(TOP, overlaps.shape[1]), dim=1).values
    taken = torch.zeros_like(cost, dtype=torch.bool)
    for row, count in enumerate(top.sum(dim=1).int().clamp(min=1).tolist()):
        taken[row, cost[row].topk(count, largest=False).indices] = True
    return cost.where(taken, torch.inf).argmin(dim=0).where(taken.any(dim=0), -1)


def measure(rule: str, count: int, rounds: int, options: argparse.Namespace) -> Row:
    """Compare the matches, then time and memory."""
    calls = {contender: prepare(contender, rule, count) for contender in CONTENDERS}
    differ = int((calls["peer"]() != calls["dethead"]()).sum())
    if differ:
        raise AssertionError(f"{count} boxes, {rule}: {differ} anchors are matched otherwise")
    times = least(calls, rounds * max(1, 100 // count))  # short ones are disturbed more easily
    peak = {}
    if not options.quick:
        peak = {name: max(1.0, alone(__file__, "--peak", name, rule, str(count))) for name in CONTENDERS}
    return compare(
        "SimOTA matching",
        f"8400 anchors, {CLASSES} classes, {count} boxes, {rule}",
        PEER,
        ms(options),
        1000 * times["peer"].that_counts(options),
        1000 * times["dethead"].that_counts(options),
        asked=ASKED.get(count),
        memory_ratio=peak["peer"] / peak["dethead"] if peak else None,
        peer_version="",
    )


def print_peak(contender: str, rule: str, count: int) -> None:
    """Measure in this process, after a small call: what is loaded at the first is not the call's."""
    prepare(contender, rule, 2)()
    print(json.dumps(added_mib(prepare(contender, rule, count))))


def main() -> None:
    """Parse, check, measure."""
    made = parser(__doc__)
    made.add_argument("--boxes", type=int, nargs="+", default=[10, 100, 500])
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        contender, rule, count = options.peak
        print_peak(contender, rule, int(count))
        return
    print(environment())
    counts, rounds = ([10], 2) if options.quick else (options.boxes, options.rounds)
    rows = [
        measure(rule, count, rounds if count < 500 else min(rounds, 2), options)
        for rule in RULES
        for count in counts
    ]
    finish(rows, options)


if __name__ == "__main__":
    main()
