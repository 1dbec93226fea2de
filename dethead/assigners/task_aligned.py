"""Task alignment: positives are the predictions that are both well classified and well placed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dethead.assigners.claims import Claims, cheapest
from dethead.assigners.class_costs import label_shares, pair_sums
from dethead.assigners.geometry import centers, inside
from dethead.assigners.ignoring import box_chunks, check_ignore_overlap, settle
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
    the original: finer strides help.

    ``overlaps`` is u; ``quality`` is t scaled so that its highest among the anchors of a box is their best
    IoU.

    Args:
        top_k: anchors per box, over all levels (the paper has 13, other systems 10).
        alpha: exponent of the score (the paper has 1, many use 0.5).
        beta: exponent of the IoU.
        ignore_overlap: an anchor that is not positive and has this share of its area in one ignore region is
            IGNORE.

    Source: Feng et al. 2021 (TOOD), https://arxiv.org/abs/2108.07755, section 3.2.
    """

    top_k: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    ignore_overlap: float = 0.5
    needs_predictions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        for name in ("alpha", "beta"):
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
        points = centers(anchors.boxes)
        boxes, quality = [], []
        for one, *seen in zip(truth, *predictions, strict=True):
            boxes.append(self._match(points, one, Predictions(*seen)))
            quality.append(self._quality(boxes[-1], one, Predictions(*seen)))
        return settle(anchors, truth, boxes, self.ignore_overlap, seen=predictions.boxes, quality=quality)

    def _match(self, points: Tensor, truth: GroundTruth, seen: Predictions) -> Tensor:
        """(A,) the box each anchor answers for, -1 for none; ``seen`` is of this image alone."""
        claims, shares = Claims(len(points), seen.boxes), label_shares(truth)
        for start, some in box_chunks(truth.boxes, len(points)):
            overlaps = iou(some[:, None], seen.boxes)
            classes = pair_sums(shares[start : start + len(some)], seen.class_probabilities)
            labelled = shares[start : start + len(some)].any(dim=1, keepdim=True)
            alignment = self._log_alignment(classes.where(labelled, 1.0) * seen.confidence, overlaps)
            taken = _best(alignment.where(inside(points, some), -torch.inf), self.top_k)
            claims.add(start, taken, overlaps)
        return claims.box

    def _log_alignment(self, scores: Tensor, overlaps: Tensor) -> Tensor:
        """Log of t, -inf where it is 0."""
        return torch.xlogy(self.alpha, scores) + torch.xlogy(self.beta, overlaps)

    def _quality(self, box: Tensor, truth: GroundTruth, seen: Predictions) -> Tensor:
        """(A,) t, scaled for each box to the best IoU of its anchors; 0 where there is no box."""
        rows = (box >= 0).nonzero()[:, 0]
        mine = box[rows]
        overlaps = iou(seen.boxes[rows], truth.boxes[mine])
        shares = label_shares(truth)[mine]
        classes = (shares * seen.class_probabilities[rows]).sum(dim=1).where(shares.any(dim=1), 1.0)
        alignment = self._log_alignment(classes * seen.confidence[rows], overlaps)
        relative = (alignment - _highest(alignment, mine, len(truth.boxes))).exp()
        quality = overlaps.new_zeros(len(box))
        quality[rows] = relative * _highest(overlaps, mine, len(truth.boxes))
        return quality


def _best(alignment: Tensor, count: int) -> Tensor:
    """(N, A) bool: the ``count`` highest of each row above -inf."""
    return cheapest(-alignment, torch.full((len(alignment),), count, device=alignment.device))


def _highest(values: Tensor, box: Tensor, boxes: int) -> Tensor:
    """(P,) the highest of (P,) values among the anchors of the same box."""
    highest = values.new_full((boxes,), -torch.inf).scatter_reduce(0, box, values, "amax")
    return highest[box]
