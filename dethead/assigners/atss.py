"""Adaptive training sample selection: each box finds its own IoU threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dethead.assigners.claims import Claims, cheapest
from dethead.assigners.geometry import centers, inside
from dethead.assigners.ignoring import box_chunks, check_ignore_overlap, settle
from dethead.boxes import iou
from dethead.structures import Anchors, Assignment, GroundTruth, Predictions


@dataclass(frozen=True, slots=True)
class ATSSAssigner:
    """Positive: a candidate whose IoU reaches its box's mean + standard deviation, centred inside the box.

    The candidates of a box are, on each level, the anchors whose centres are nearest to the box's centre.
    Their IoUs with the box give its threshold: mean plus unbiased standard deviation (n - 1; 0 for a single
    one), as in the authors' code. There is nothing to tune but the number of candidates. Predictions are not
    looked at.

    Ties: of equally near anchors the first ones are candidates; an anchor that several boxes take answers for
    the one it overlaps most, and for the first of equals. A box between the centres of all its candidates
    gets no anchor, as in the original: finer strides help. ``overlaps`` is the IoU of the anchor with its
    box.

    Args:
        candidates_per_level: anchors per level for one anchor per cell; k shapes per cell give k times as
            many, as in the paper's variant with 9 shapes.
        ignore_overlap: an anchor that is not positive and has this share of its area in one ignore region is
            IGNORE.

    Source: Zhang et al. 2020, https://arxiv.org/abs/1912.02424, algorithm 1.
    """

    candidates_per_level: int = 9
    ignore_overlap: float = 0.5
    needs_predictions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.candidates_per_level < 1:
            raise ValueError(f"candidates_per_level must be at least 1, got {self.candidates_per_level}")
        check_ignore_overlap(self.ignore_overlap)

    @torch.no_grad()
    def __call__(
        self, anchors: Anchors, truth: Sequence[GroundTruth], predictions: Predictions | None = None
    ) -> Assignment:
        """Assign a batch. Memory is bounded: boxes are compared in chunks, never all with all anchors."""
        boxes = [self._match(anchors, one.boxes) for one in truth]
        return settle(anchors, truth, boxes, self.ignore_overlap)

    def _match(self, anchors: Anchors, boxes: Tensor) -> Tensor:
        """(A,) the box each anchor answers for, -1 for none."""
        points = centers(anchors.boxes)
        claims = Claims(len(points), points)
        for start, some in box_chunks(boxes, len(points)):
            candidates = self._candidates(anchors, points, some)
            overlaps = iou(some[:, None], anchors.boxes[candidates])
            values = points.new_zeros(len(some), len(points)).scatter_(1, candidates, overlaps)
            chosen = overlaps >= _threshold(overlaps)
            taken = torch.zeros_like(values, dtype=torch.bool).scatter_(1, candidates, chosen)
            claims.add(start, taken & inside(points, some), values)
        return claims.box

    def _candidates(self, anchors: Anchors, points: Tensor, boxes: Tensor) -> Tensor:
        """(N, K) int64 anchors of each of N boxes, as many for every box."""
        found = []
        for level, (rows, columns) in zip(anchors.levels, anchors.cells, strict=True):
            there = points[level]
            wanted = self.candidates_per_level * (len(there) // (rows * columns))
            # Squares order as the distances do, and equal distances stay equal.
            distances = (there - centers(boxes)[:, None]).square().sum(dim=-1)
            nearest = cheapest(distances, torch.full_like(boxes[:, 0], wanted, dtype=torch.int64))
            found.append(nearest.nonzero()[:, 1].view(len(boxes), -1) + level.start)
        return torch.cat(found, dim=1)


def _threshold(overlaps: Tensor) -> Tensor:
    """(N, 1) mean + standard deviation of (N, K) IoUs.

    Counted from the first one: equal IoUs then have themselves as the threshold, to the last bit, and pass.
    """
    first = overlaps[:, :1]
    rest = overlaps - first
    spread = rest.std(dim=1, keepdim=True, correction=min(1, rest.shape[1] - 1))
    return first + rest.mean(dim=1, keepdim=True) + spread
