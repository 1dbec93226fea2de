"""Any list of anchors, sorted into groups of similar size, shape and place: a box has to look at few.

What a group holds bounds the IoU that any of its anchors can have with a box, so that only the anchors of a
few groups are compared with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor

from dethead.assigners.grid_pairs import once, pieces
from dethead.assigners.ignoring import box_chunks
from dethead.boxes import at_least_float32, box_areas, iou
from dethead.structures import Anchors

GROUP: Final = 64
"""Anchors that are kept together: the more, the fewer groups to look at, and the looser their bounds."""

KINDS_AN_OCTAVE: Final = 2
"""Sizes, and shapes, are told apart by steps of 2^(1/2), ..."""

OFF_THE_POWERS: Final = 0.15
"""... which begin beside the powers of two that sizes often are: rounding would tell such ones apart."""

_BITS: Final = 16
"""Room for the number of a shape."""

ROUNDINGS: Final = 16
"""How many of its last digits an IoU may be above its bound."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """A anchors in G groups, of one kind each; some are filled up with boxes that overlap nothing."""

    boxes: Tensor
    """(4, G, GROUP) px: x1, y1, x2 and y2."""
    rows: Tensor
    """(G, GROUP) int64: where in the list an anchor is."""
    hull: Tensor
    """(4, G) px: the smallest box that holds the group; in float32 at least, as all that bounds."""
    longest: Tensor
    """(2, G) px: the greatest width and height."""
    areas: Tensor
    """(2, G) px^2: the smallest and the largest."""

    @classmethod
    def of(cls, anchors: Tensor) -> Self:
        """Sort (A, 4) anchors."""
        known = at_least_float32(anchors).nan_to_num()
        rows, filling = _tiles(known, _kinds(known))
        grouped = anchors[rows]
        finite = known[rows]
        sides = finite[..., 2:] - finite[..., :2]
        areas = box_areas(finite)
        # What fills a group up is an anchor of it, shrunk to a corner that overlaps nothing.
        grouped[..., 2:] = grouped[..., 2:].where(~filling[..., None], grouped[..., :2])
        return cls(
            grouped.movedim(-1, 0).contiguous(),
            rows,
            torch.cat([finite[..., :2].amin(dim=1).T, finite[..., 2:].amax(dim=1).T]),
            sides.amax(dim=1).T.contiguous(),
            torch.stack(areas.aminmax(dim=1)),
        )

    def above(
        self, boxes: Tensor, lowest: float, *, and_best: bool, pairs: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give the (P,) rows of boxes and of anchors, and IoU, of all pairs from ``lowest`` on, and above 0.

        Args:
            boxes: (M, 4).
            lowest: in [0, 1].
            and_best: also the highest of each box, all that tie, and some lower ones.
            pairs: how many of a box and an anchor, or a group, are looked at together, if no box has more.

        Yields:
            All pairs of a box together, boxes in order.
        """
        for start, some in box_chunks(boxes, len(self.rows), pairs) if len(self.rows) else ():
            bounds = self._bounds(some)
            limits = bounds.new_full((len(some), 1), lowest, dtype=torch.result_type(some, self.boxes))
            if and_best:  # no higher than a box's best, for these anchors are some of all
                likely = self._overlaps(some, bounds.argmax(dim=1)).nan_to_num(0.0)
                limits = limits.minimum(likely.amax(dim=1, keepdim=True))
            box, group = ((bounds >= limits) & (bounds > 0)).nonzero().unbind(dim=1)
            for piece in pieces(box, torch.full_like(box, GROUP), len(some), pairs):
                mine, near = box[piece], group[piece]
                overlaps = self._overlaps(some[mine], near)
                found, place = ((overlaps >= limits[mine]) & (overlaps > 0)).nonzero().unbind(dim=1)
                yield mine[found] + start, self.rows[near[found], place], overlaps[found, place]

    def _overlaps(self, boxes: Tensor, groups: Tensor) -> Tensor:
        """(K, GROUP) IoU of each of (K, 4) boxes with the anchors of its (K,) group."""
        return iou(boxes[:, None], self.boxes[:, groups].movedim(0, -1))

    def _bounds(self, boxes: Tensor) -> Tensor:
        """(N, G) what no IoU of (N, 4) boxes with an anchor of a group is above, as computed.

        The intersection is no wider than that with the hull, nor than the widest anchor, and IoU grows with
        it; at a given intersection it falls with the anchor's area, which is no smaller than either. 1 where
        an anchor or the box is no number.
        """
        eps = max(torch.finfo(boxes.dtype).eps, torch.finfo(self.boxes.dtype).eps)
        boxes = at_least_float32(boxes)
        sides, hull = boxes.T[..., None], self.hull[:, None]
        low, high = torch.maximum(sides[:2], hull[:2]), torch.minimum(sides[2:], hull[2:])
        width, height = high.sub_(low).minimum(self.longest[:, None]).clamp_(min=0)
        smallest, largest = self.areas
        inner = width.mul_(height).minimum(largest)
        union = inner.maximum(smallest).sub_(inner).add_(box_areas(boxes)[:, None])
        bounds: Tensor = inner.mul_(1 + ROUNDINGS * eps).div_(union)
        return bounds.nan_to_num_(1.0)


@once
def find_groups(anchors: Anchors) -> Groups:
    """Sort anchors into groups."""
    return Groups.of(anchors.boxes)


def _kinds(anchors: Tensor) -> Tensor:
    """(A,) int64 in [0, K): which of (A, 4) anchors are alike in size and shape."""
    sides = (anchors[:, 2:] - anchors[:, :2]).clamp(min=torch.finfo(anchors.dtype).tiny)
    width, height = (KINDS_AN_OCTAVE * sides.log2()).unbind(dim=1)
    size, shape = ((width + height) / 2 + OFF_THE_POWERS).floor().long(), (width - height).round().long()
    kinds: Tensor = torch.unique((size << _BITS) + shape, return_inverse=True)[1]
    return kinds


def _tiles(anchors: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
    """(G, GROUP) rows of (A, 4) anchors, and bool: it is there only to fill a group up.

    Those of a (A,) kind are cut by their y into strips, and these by their x: groups are as wide as they are
    high where anchors are spread evenly (the packing of R-trees of Leutenegger et al. 1997, STR).
    """
    center = (anchors[:, :2] + anchors[:, 2:]) / 2
    count = torch.bincount(kind)
    start = count.cumsum(dim=0) - count
    strips = (count / GROUP).sqrt().ceil().long()
    height = (count / (GROUP * strips)).ceil().long() * GROUP  # of a strip, in anchors
    order = _sorted_by(kind, center[:, 1])
    place = torch.arange(len(order), device=order.device) - start[kind[order]]
    strip = torch.empty_like(order)
    strip[order] = place // height[kind[order]]
    order = _sorted_by(kind * (strips.amax() + 1) + strip, center[:, 0]) if len(order) else order
    groups = (count + GROUP - 1) // GROUP
    owner = torch.arange(len(groups), device=order.device).repeat_interleave(groups)
    first = (torch.arange(len(owner), device=order.device) - (groups.cumsum(dim=0) - groups)[owner]) * GROUP
    place = first[:, None] + torch.arange(GROUP, device=order.device)
    last = (count - 1)[owner, None]
    return order[start[owner, None] + place.minimum(last)], place > last


def _sorted_by(first: Tensor, second: Tensor) -> Tensor:
    """(A,) rows in the order of (A,) ``first``, those of equal ones in that of ``second``."""
    order = second.argsort()
    return order[first[order].argsort(stable=True)]
