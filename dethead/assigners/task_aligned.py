"""Task alignment: positives are the predictions that are both well classified and well placed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from dethead.assigners.claims import Claims, cheapest_pairs
from dethead.assigners.class_costs import Labels
from dethead.assigners.geometry import Centers, find_centers
from dethead.assigners.ignoring import box_chunks, check_ignore_overlap, settle
from dethead.assigners.overlapping import gather
from dethead.assigners.predictions import checked
from dethead.boxes import iou
from dethead.structures import Anchors, Assignment, GroundTruth, Predictions


@dataclass(frozen=True, slots=True)
class TaskAlignedAssigner:
    """Positive: the ``top_k`` anchors centred inside a box whose predictions align best with it.

    Alignment is t = s^alpha * u^beta: s the score of the box's class (its probability times the confidence;
    the mean over several labels; the confidence alone where the class is unknown), u the IoU of the decoded
    prediction with the box. A prediction with t = 0, off the box, is not taken, as in the authors' code. t
    is compared by its logarithm, so that no small s or u rounds it to 0.

    Ties: of equal t the first anchors are taken; an anchor that several boxes take answers for the one its
    prediction overlaps most, and for the first of equals. A box between the anchors' centres gets none, as in
    the original: finer strides help, and so does ``min_side``.

    ``overlaps`` is u; ``quality`` is t scaled so that its highest among the anchors of a box is their best
    IoU.

    Args:
        top_k: anchors per box, over all levels (the paper has 13, other systems 10).
        alpha: exponent of the score (the paper has 1, many use 0.5).
        beta: exponent of the IoU.
        ignore_overlap: an anchor that is not positive and has this share of its area in one ignore region is
            IGNORE.
        use_confidence: False where the confidence is not taught: s is the probability alone then, and 1
            where the class is unknown.
        min_side: in the finest strides: a box in which no anchor is centred is looked for as if shorter sides
            were so long. Above 1 no box goes without for lying between the centres of the finest level. Other
            boxes are looked for as they are, however small. Not with ``LTRBCodec``, which reaches no box that
            its anchor is centred outside of.

    Source: Feng et al. 2021 (TOOD), https://arxiv.org/abs/2108.07755, section 3.2.
    """

    top_k: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    ignore_overlap: float = 0.5
    use_confidence: bool = True
    min_side: float = 0.0
    needs_predictions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        for name in ("alpha", "beta", "min_side"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
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
        shortest = self.min_side * min(anchors.strides)
        boxes, quality = [], []
        for one, *seen in zip(truth, *predictions, strict=True):
            pairs = _Pairs(one.boxes, Labels.shares(one), Predictions(*seen), self.use_confidence)
            boxes.append(self._match(centers, pairs, shortest))
            quality.append(self._quality(boxes[-1], pairs))
        return settle(anchors, truth, boxes, self.ignore_overlap, seen=predictions.boxes, quality=quality)

    def _match(self, centers: Centers, pairs: "_Pairs", shortest: float) -> Tensor:
        """(A,) the box each anchor answers for, -1 for none."""
        claims = Claims(centers.count, pairs.seen.boxes)
        for start, some in box_chunks(pairs.boxes, centers.count):
            inside = _inside(centers, some, shortest)
            row, anchors = inside.nonzero().unbind(dim=1)
            overlaps = pairs.overlaps(row + start, anchors)
            alignment = self._log_alignment(pairs.scores(row + start, anchors), overlaps)
            taken = cheapest_pairs(row, -alignment, row.new_full((len(some),), self.top_k))
            claims.add_pairs(row[taken] + start, anchors[taken], overlaps[taken])
        return claims.box

    def _log_alignment(self, scores: Tensor, overlaps: Tensor) -> Tensor:
        """Log of t, -inf where it is 0."""
        return torch.xlogy(self.alpha, scores) + torch.xlogy(self.beta, overlaps)

    def _quality(self, box: Tensor, pairs: "_Pairs") -> Tensor:
        """(A,) t, scaled for each box to the best IoU of its anchors; 0 where there is no box."""
        anchors = (box >= 0).nonzero()[:, 0]
        mine = box[anchors]
        overlaps = pairs.overlaps(mine, anchors)
        alignment = self._log_alignment(pairs.scores(mine, anchors), overlaps)
        relative = (alignment - _highest(alignment, mine, len(pairs.boxes))).exp()
        quality = overlaps.new_zeros(len(box))
        quality[anchors] = relative * _highest(overlaps, mine, len(pairs.boxes))
        return quality


class _Pairs(NamedTuple):
    """The boxes of an image, and what was predicted for it; to be asked by (P,) boxes and (P,) anchors."""

    boxes: Tensor
    """(M, 4)"""
    labels: Labels
    """Shares."""
    seen: Predictions
    """Of this image alone."""
    use_confidence: bool

    def overlaps(self, box: Tensor, anchors: Tensor) -> Tensor:
        """(P,) IoU of prediction and box."""
        return iou(gather(self.boxes, box), gather(self.seen.boxes, anchors))

    def scores(self, box: Tensor, anchors: Tensor) -> Tensor:
        """(P,) score of the box's class."""
        classes = self.labels.sums(box, lambda classes: self.seen.class_probabilities[anchors, classes])
        labelled = self.labels.weights.any(dim=1)
        scores = classes.where(labelled[box], 1.0)
        return scores * self.seen.confidence[anchors] if self.use_confidence else scores


def _inside(centers: Centers, boxes: Tensor, shortest: float) -> Tensor:
    """(N, A) bool: which anchors are centred inside which box; a box with none is taken as larger."""
    inside = centers.mask(centers.inside(boxes))
    if not shortest:
        return inside
    # Those alone: of a box that has anchors, more of them, off the box, are positives that teach nothing.
    empty = (~inside.any(dim=1)).nonzero()[:, 0]
    if len(empty):
        inside[empty] = centers.mask(centers.inside(_with_sides(boxes[empty], shortest)))
    return inside


def _with_sides(boxes: Tensor, shortest: float) -> Tensor:
    """(M, 4) boxes with the same centres, no side shorter than ``shortest`` px."""
    low, high = boxes[:, :2], boxes[:, 2:]
    missing = (shortest - (high - low)).clamp(min=0) / 2
    return torch.cat([low - missing, high + missing], dim=1)


def _highest(values: Tensor, box: Tensor, boxes: int) -> Tensor:
    """(P,) the highest of (P,) values among the anchors of the same box."""
    highest = values.new_full((boxes,), -torch.inf).scatter_reduce(0, box, values, "amax")
    return highest[box]
