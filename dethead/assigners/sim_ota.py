"""Simplified optimal transport: each box takes the predictions that answer it at the lowest cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dethead.assigners.claims import Claims, cheapest
from dethead.assigners.class_costs import ClassCosts
from dethead.assigners.geometry import centers, inside, near_center, per_anchor
from dethead.assigners.ignoring import box_chunks, check_ignore_overlap, settle
from dethead.assigners.predictions import checked
from dethead.boxes import iou
from dethead.structures import Anchors, Assignment, GroundTruth, Predictions

TINY_IOU = 1e-8
"""Added to an IoU before its logarithm, as in YOLOX: an overlap of 0 costs 18.4."""


@dataclass(frozen=True, slots=True)
class SimOTAAssigner:
    """Positive: the k predictions of lowest cost for a box, where k is learnt from the predictions, too.

    Candidates of an image are the anchors centred inside any box or in the square around its centre. The
    cost of a candidate for a box is its class cost plus ``iou_weight`` times -log(IoU) of its decoded
    prediction. k is the sum of the box's ``top_ious`` best IoUs, rounded down, at least 1. A box takes first
    the candidates that are centred inside it *and* in its square, then others: what the published code does
    by adding 10^6 to the costs of the others, which in float32 would leave these precise to 1/16 only.

    The class cost comes from the probability p of a class times the confidence q of the same anchor:

    * "softmax" (one label excludes the others): the cross-entropy -log(p q) of the box's class;
    * "sigmoid": binary cross-entropy of sqrt(p q), summed over all classes, as in YOLOX.

    An object of unknown class has class cost 0.

    Ties: of equal costs the first anchors are taken; an anchor that several boxes take answers for the one
    for which it costs least, and for the first of equals (YOLOX's code then also offers it to boxes that did
    not take it). A box has candidates wherever its centre is in the image (with a ``center_radius`` above
    0.5), but may lose all it took to other boxes.

    ``overlaps`` and ``quality`` are the IoU of the decoded prediction with its box.

    Args:
        class_cost: "softmax" or "sigmoid": what the scheme's probabilities mean.
        center_radius: half a side of the square, in strides of the anchor's level (YOLOX's code has 1.5).
        iou_weight: of the IoU cost; the class cost has 1.
        top_ious: how many of a box's best IoUs are summed for k.
        ignore_overlap: an anchor that is not positive and has this share of its area in one ignore region is
            IGNORE.

    Source: Ge et al. 2021 (YOLOX), https://arxiv.org/abs/2107.08430, section 2.1; centre prior and dynamic k:
    Ge et al. 2021 (OTA), https://arxiv.org/abs/2103.14259, section 3.3.
    """

    class_cost: Literal["softmax", "sigmoid"]
    center_radius: float = 2.5
    iou_weight: float = 3.0
    top_ious: int = 10
    ignore_overlap: float = 0.5
    needs_predictions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.class_cost not in ("softmax", "sigmoid"):
            raise ValueError(f"class_cost must be 'softmax' or 'sigmoid', got {self.class_cost!r}")
        if not 0 < self.center_radius < math.inf:
            raise ValueError(f"center_radius must be above 0 and finite, got {self.center_radius}")
        if not 0 <= self.iou_weight < math.inf:
            raise ValueError(f"iou_weight must be at least 0 and finite, got {self.iou_weight}")
        if self.top_ious < 1:
            raise ValueError(f"top_ious must be at least 1, got {self.top_ious}")
        check_ignore_overlap(self.ignore_overlap)

    @torch.no_grad()
    def __call__(
        self, anchors: Anchors, truth: Sequence[GroundTruth], predictions: Predictions | None = None
    ) -> Assignment:
        """Assign a batch. Memory is bounded: boxes are compared in chunks, and nothing is (M, A, C).

        Raises:
            ValueError: no predictions, or some that do not fit or are not finite.
        """
        predictions = checked(predictions, truth, anchors)
        boxes = [self._match(anchors, one, *seen) for one, *seen in zip(truth, *predictions, strict=True)]
        settled = settle(anchors, truth, boxes, self.ignore_overlap, seen=predictions.boxes)
        return settled._replace(quality=settled.overlaps)

    def _match(
        self, anchors: Anchors, truth: GroundTruth, seen: Tensor, probabilities: Tensor, confidence: Tensor
    ) -> Tensor:
        """(A,) the box each anchor answers for, -1 for none."""
        matched = torch.full((len(seen),), -1, device=seen.device)
        points, reach = centers(anchors.boxes), self.center_radius * per_anchor(anchors, anchors.strides)
        candidates = _candidates(points, reach, truth.boxes)
        if len(candidates):
            points, reach, seen = points[candidates], reach[candidates], seen[candidates]
            costs = self._class_costs(probabilities[candidates], confidence[candidates, None], truth)
            matched[candidates] = self._take(points, reach, seen, costs, truth.boxes)
        return matched

    def _class_costs(self, probabilities: Tensor, confidence: Tensor, truth: GroundTruth) -> ClassCosts:
        """Of (F, C) probabilities and (F, 1) confidences."""
        joint = probabilities * confidence
        if self.class_cost == "softmax":
            return ClassCosts.softmax(joint, truth)
        return ClassCosts.sigmoid(joint.sqrt(), truth)

    def _take(self, points: Tensor, reach: Tensor, seen: Tensor, costs: ClassCosts, boxes: Tensor) -> Tensor:
        """(F,) the box that each of F candidates answers for, -1 for none."""
        central, others = Claims(len(seen), seen), Claims(len(seen), seen)
        for start, some in box_chunks(boxes, len(seen)):
            overlaps = iou(some[:, None], seen)
            cost = costs.of(slice(start, start + len(some)))
            cost = cost - self.iou_weight * (overlaps + TINY_IOU).log()
            counts = overlaps.topk(min(self.top_ious, len(seen)), dim=1).values.sum(dim=1).long().clamp(min=1)
            middle = inside(points, some) & near_center(points, reach, some)
            taken = cheapest(cost.where(middle, torch.inf), counts)
            more = cheapest(cost.where(~middle, torch.inf), counts - taken.sum(dim=1))
            central.add(start, taken, -cost)
            others.add(start, more, -cost)
        return torch.where(central.box >= 0, central.box, others.box)


def _candidates(points: Tensor, reach: Tensor, boxes: Tensor) -> Tensor:
    """(F,) int64: the anchors centred inside any box, or within ``reach`` of its centre."""
    found = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for _, some in box_chunks(boxes, len(points)):
        found |= (inside(points, some) | near_center(points, reach, some)).any(dim=0)
    return found.nonzero()[:, 0]
