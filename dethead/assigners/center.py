"""Centre sampling: the rule of FCOS."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dethead.assigners.claims import Claims
from dethead.assigners.geometry import Centers, Lines, centers, find_centers, side_distances
from dethead.assigners.ignoring import box_chunks, check_ignore_overlap, settle
from dethead.boxes import box_areas
from dethead.structures import Anchors, Assignment, GroundTruth, Predictions

REACH = 8
"""Strides that a level's largest objects reach from an anchor's centre: 64 px at stride 8, and so on."""


@dataclass(frozen=True, slots=True)
class CenterAssigner:
    """Positive: an anchor centred in the middle of a box whose size fits the anchor's level.

    The size, seen from an anchor's centre, is the farthest of the box's four sides. Only an anchor's centre
    and level count, not its shape: one shape per cell is meant, and several in a cell answer alike.

    Where several boxes fit, the one of smallest area is taken, and the first of equals. A box that holds no
    centre of its level gets no anchor, as in the original: finer strides or a larger range help.

    ``overlaps`` is the IoU of the anchor with its box; ``quality`` is the centreness: 1 in the box's middle,
    0 at its sides.

    Args:
        radius: half a side of the square around the box's centre in which anchors count, in strides of their
            level. None: the whole box.
        size_ranges: (lowest, highest) size in px of each level, both ends included as in the paper
            (torchvision leaves both out, and an object just between loses its anchors). None: a level
            reaches up to 8 strides and the next one begins there, the last one without end: 64, 128, 256 and
            512 px for the strides 8 to 128.
        ignore_overlap: an anchor that is not positive and has this share of its area in one ignore region is
            IGNORE.

    Source: Tian et al. 2019, https://arxiv.org/abs/1904.01355, section 3; centre sampling: its later version,
    https://arxiv.org/abs/2006.09214.
    """

    radius: float | None = 1.5
    size_ranges: tuple[tuple[float, float], ...] | None = None
    ignore_overlap: float = 0.5
    needs_predictions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise ValueError(f"radius must be above 0 and finite, or None, got {self.radius}")
        for low, high in self.size_ranges or ():
            if not 0 <= low < high:
                raise ValueError(f"a size range must be (low, high) with 0 <= low < high, got {(low, high)}")
        check_ignore_overlap(self.ignore_overlap)

    @torch.no_grad()
    def __call__(
        self, anchors: Anchors, truth: Sequence[GroundTruth], predictions: Predictions | None = None
    ) -> Assignment:
        """Assign a batch. Memory is bounded: boxes are compared in chunks, never all with all anchors.

        Raises:
            ValueError: another number of levels than of ``size_ranges``.
        """
        where, ranges = find_centers(anchors), self._ranges(anchors)
        boxes = [self._match(where, one.boxes, *ranges) for one in truth]
        quality = [_centerness(anchors, one.boxes, box) for one, box in zip(truth, boxes, strict=True)]
        return settle(anchors, truth, boxes, self.ignore_overlap, quality=quality)

    def _ranges(self, anchors: Anchors) -> tuple[Sequence[float], Sequence[float]]:
        """The lowest and the highest size of each level."""
        ranges = self.size_ranges
        if ranges is None:
            ends = [0.0, *(float(REACH * stride) for stride in anchors.strides[:-1]), math.inf]
            ranges = tuple(itertools.pairwise(ends))
        if len(ranges) != len(anchors.levels):
            raise ValueError(f"{len(ranges)} size_ranges for {len(anchors.levels)} levels of anchors")
        lows, highs = zip(*ranges, strict=True)
        return lows, highs

    def _match(self, where: Centers, boxes: Tensor, lows: Sequence[float], highs: Sequence[float]) -> Tensor:
        """(A,) the box each anchor answers for, -1 for none."""
        claims, areas = Claims(where.count, where.x), box_areas(boxes)
        for start, some in box_chunks(boxes, where.count):
            # A size is the farther of what it is in x and in y: too large where either is, too small where
            # both are.
            sizes = where.farthest(some)
            fits = where.inside(some).both(
                Lines(sizes.x <= where.per_x(highs), sizes.y <= where.per_y(highs))
            )
            if self.radius is not None:
                fits = fits.both(where.near(some, self.radius))
            small = Lines(sizes.x < where.per_x(lows), sizes.y < where.per_y(lows))
            row, anchors = (where.mask(fits) & ~where.mask(small)).nonzero().unbind(dim=1)
            claims.add_pairs(row + start, anchors, -areas[row + start])
        return claims.box


def _centerness(anchors: Anchors, boxes: Tensor, box: Tensor) -> Tensor:
    """(A,) sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) in the anchor's box, 0 where it has none."""
    result = anchors.boxes.new_zeros(len(box))
    rows = (box >= 0).nonzero()[:, 0]
    distances = side_distances(centers(anchors.boxes[rows]), boxes[box[rows]])
    pairs = torch.stack([distances[:, :2], distances[:, 2:]])  # (left, top) and (right, bottom)
    result[rows] = (pairs.amin(dim=0) / pairs.amax(dim=0)).prod(dim=-1).sqrt().to(result.dtype)
    return result
