"""Adaptive training sample selection: each box finds its own IoU threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dethead.assigners.claims import Claims, cheapest
from dethead.assigners.geometry import Centers, Lines, centers, find_centers, side_distances
from dethead.assigners.ignoring import box_chunks, check_ignore_overlap, settle
from dethead.assigners.overlapping import gather
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
        where = find_centers(anchors)
        boxes = [self._match(anchors, where, one.boxes) for one in truth]
        return settle(anchors, truth, boxes, self.ignore_overlap)

    def _match(self, anchors: Anchors, where: Centers, boxes: Tensor) -> Tensor:
        """(A,) the box each anchor answers for, -1 for none."""
        claims = Claims(where.count, where.x)
        for start, some in box_chunks(boxes, where.count):
            candidates = self._candidates(anchors, where, some)
            overlaps = iou(some[:, None], gather(anchors.boxes, candidates))
            sides = side_distances(centers(anchors.boxes[candidates]), some[:, None])
            chosen = (overlaps >= _threshold(overlaps)) & (sides.amin(dim=-1) > 0)
            row, column = chosen.nonzero().unbind(dim=1)
            claims.add_pairs(row + start, candidates[row, column], overlaps[row, column])
        return claims.box

    def _candidates(self, anchors: Anchors, where: Centers, boxes: Tensor) -> Tensor:
        """(N, K) int64 anchors of each of N boxes, as many for every box."""
        # Squares order as the distances do, and equal distances stay equal.
        squares = Lines(*(part.square_() for part in where.distances(boxes)))
        found = []
        for (rows, columns), level, (x, y) in zip(
            anchors.cells, anchors.levels, where.by_level(squares), strict=True
        ):
            distances = (x + y).flatten(1)
            wanted = self.candidates_per_level * (distances.shape[1] // (rows * columns))
            _, nearest = cheapest(distances, torch.full_like(boxes[:, 0], wanted, dtype=torch.int64))
            found.append(nearest.view(len(boxes), -1) + level.start)
        return torch.cat(found, dim=1)


def _threshold(overlaps: Tensor) -> Tensor:
    """(N, 1) mean + standard deviation of (N, K) IoUs.

    Counted from the first one: equal IoUs then have themselves as the threshold, to the last bit, and pass.
    """
    first = overlaps[:, :1]
    rest = overlaps - first
    spread = rest.std(dim=1, keepdim=True, correction=min(1, rest.shape[1] - 1))
    return first + rest.mean(dim=1, keepdim=True) + spread
