"""Simplified optimal transport: each box takes the predictions that answer it at the lowest cost."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from dethead.assigners.claims import Claims, cheapest, cheapest_pairs
from dethead.assigners.class_costs import Labels, SigmoidCosts, SoftmaxCosts
from dethead.assigners.geometry import Centers, find_centers
from dethead.assigners.ignoring import CHUNK_PAIRS, box_chunks, check_ignore_overlap, settle
from dethead.assigners.overlapping import best_sums, gather
from dethead.assigners.predictions import checked
from dethead.boxes import iou
from dethead.structures import Anchors, Assignment, GroundTruth, Predictions

TINY_IOU = 1e-8
"""Added to an IoU before its logarithm, as in YOLOX: an overlap of 0 costs 18.4."""

_FEW = 0.1
"""Up to this share of the anchors it is faster to pick candidates out of a mask than to look through it."""


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

    Without the confidence it comes from p alone. An object of unknown class has class cost 0.

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
        center_only: candidates are the anchors in a box's square alone, inside the box or not, and these
            come first: what YOLOX's code does since its version 0.3.
        use_confidence: False where the confidence is not taught: it would order anchors by chance.

    Source: Ge et al. 2021 (YOLOX), https://arxiv.org/abs/2107.08430, section 2.1; centre prior and dynamic k:
    Ge et al. 2021 (OTA), https://arxiv.org/abs/2103.14259, section 3.3.
    """

    class_cost: Literal["softmax", "sigmoid"]
    center_radius: float = 2.5
    iou_weight: float = 3.0
    top_ious: int = 10
    ignore_overlap: float = 0.5
    center_only: bool = False
    use_confidence: bool = True
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
        centers = find_centers(anchors)
        boxes = [
            self._match(centers, one, Predictions(*seen))
            for one, *seen in zip(truth, *predictions, strict=True)
        ]
        settled = settle(anchors, truth, boxes, self.ignore_overlap, seen=predictions.boxes)
        return settled._replace(quality=settled.overlaps)

    def _match(self, centers: Centers, truth: GroundTruth, seen: Predictions) -> Tensor:
        """(A,) the box each anchor answers for, -1 for none; ``seen`` is of this image alone."""
        central = Claims(centers.count, seen.boxes)
        near: Iterable[_Near] = _NearBoxes(centers, truth.boxes, self.center_radius, self.center_only)
        if len(truth.boxes) * centers.count <= CHUNK_PAIRS:  # a single piece, kept for the second time
            near = [*near]
        candidates, first = _candidates(near, centers, self.center_only)
        if not len(candidates):
            return central.box
        sums = best_sums(truth.boxes, seen.boxes[candidates], self.top_ious)
        counts = sums.long().clamp(min=1)
        missing = self._take_central(central, near, first, counts, self._costs(truth, seen, first))
        short = missing.nonzero()[:, 0]
        if not len(short):
            return central.box
        others = Claims(centers.count, seen.boxes)
        costs = self._costs(truth, seen, candidates)
        self._take_others(others, centers, candidates, short, missing[short], costs)
        return torch.where(central.box >= 0, central.box, others.box)

    def _costs(self, truth: GroundTruth, seen: Predictions, rows: Tensor) -> "_Costs":
        """Get ready for costs of (F,) rows of predictions."""
        probabilities = seen.class_probabilities
        confidence = seen.confidence if self.use_confidence else None
        classes: SoftmaxCosts | SigmoidCosts
        if self.class_cost == "softmax":
            classes = SoftmaxCosts(probabilities, confidence, Labels.shares(truth))
        else:
            classes = SigmoidCosts.among(rows, probabilities, confidence, truth)
        return _Costs(truth.boxes, seen.boxes, classes, self.iou_weight)

    def _take_central(
        self, claims: Claims, near: Iterable["_Near"], first: Tensor, counts: Tensor, costs: "_Costs"
    ) -> Tensor:
        """Let all boxes claim ``counts`` (M,) of the (F,) ``first``; (M,) how many they then lack."""
        missing = counts.clone()
        for start, _, middle in near:
            box, anchors = _pairs_in(middle, first)
            rows = slice(start, start + len(middle))
            cost = costs.of(box + start, anchors)
            taken = cheapest_pairs(box, cost, counts[rows])
            claims.add_pairs(box[taken] + start, anchors[taken], -cost[taken])
            missing[rows] -= torch.bincount(box, minlength=len(middle))
        return missing.clamp_(min=0)

    def _take_others(
        self,
        claims: Claims,
        centers: Centers,
        candidates: Tensor,
        short: Tensor,
        missing: Tensor,
        costs: "_Costs",
    ) -> None:
        """Let the (S,) ``short`` boxes claim as many of the (F,) ``candidates`` as they are ``missing``."""
        for start, _, middle in _NearBoxes(centers, costs.boxes[short], self.center_radius, self.center_only):
            rows = short[start : start + len(middle)]
            cost = costs.of(rows[:, None], candidates)
            cost.masked_fill_(middle[:, candidates], torch.inf)
            row, column = cheapest(cost, missing[start : start + len(middle)])
            claims.add_pairs(rows[row], candidates[column], -cost[row, column])


class _Near(NamedTuple):
    """Where N boxes may find anchors."""

    start: int
    """Row of the first."""
    candidates: Tensor
    """(N, A) bool: anchors that become candidates."""
    middle: Tensor
    """(N, A) bool: of these, those that a box takes first."""


@dataclass(frozen=True, slots=True, eq=False)
class _NearBoxes:
    """What is near which box, some boxes at a time; anew each time it is gone through."""

    centers: Centers
    boxes: Tensor
    """(M, 4)"""
    radius: float
    square_only: bool

    def __iter__(self) -> Iterator[_Near]:
        for start, some in box_chunks(self.boxes, self.centers.count):
            near = self.centers.near(some, self.radius)
            square = self.centers.mask(near)
            if self.square_only:
                yield _Near(start, square, square)
                continue
            inside = self.centers.inside(some)
            either = square | self.centers.mask(inside)
            yield _Near(start, either, self.centers.mask(near.both(inside)))


def _candidates(near: Iterable[_Near], centers: Centers, square_only: bool) -> tuple[Tensor, Tensor]:
    """(F,) int64 each: the anchors that any box can take, and those that one can take first."""
    kinds = 1 if square_only else 2  # the same ones are looked for once
    found = torch.zeros(kinds, centers.count, dtype=torch.uint8, device=centers.x.device)
    for _, *masks in near:
        for row, mask in zip(found, masks[:kinds], strict=True):
            row |= mask.view(torch.uint8).amax(dim=0)  # as numbers: forty times as fast as any()
    rows = [one.nonzero()[:, 0] for one in found]
    return rows[0], rows[-1]


def _pairs_in(near: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """(P,) box and (P,) anchor of what holds in (N, A) ``near``, which are all among the (F,) ``rows``."""
    if len(rows) > _FEW * near.shape[1]:
        box, anchor = near.nonzero().unbind(dim=1)
        return box, anchor
    box, place = near.index_select(1, rows).nonzero().unbind(dim=1)
    return box, rows.index_select(0, place)


@dataclass(frozen=True, slots=True, eq=False)
class _Costs:
    """What the predictions of an image cost its boxes."""

    boxes: Tensor
    """(M, 4)"""
    seen: Tensor
    """(A, 4)"""
    classes: SoftmaxCosts | SigmoidCosts
    iou_weight: float

    def of(self, box: Tensor, anchors: Tensor) -> Tensor:
        """Give the costs of boxes and anchors whose shapes broadcast."""
        overlaps = iou(gather(self.boxes, box), gather(self.seen, anchors))
        return self.classes.of(box, anchors) - overlaps.add_(TINY_IOU).log_().mul_(self.iou_weight)
