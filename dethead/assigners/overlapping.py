"""The pairs of boxes and anchors that overlap enough, never all pairs at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from dethead.assigners.claims import STRETCH, highest, select
from dethead.assigners.grid_pairs import Grid, find_grid
from dethead.assigners.groups import Groups, find_groups
from dethead.assigners.ignoring import box_chunks, inside_ignored
from dethead.boxes import box_areas, by_coordinate, intersections, iou
from dethead.structures import Anchors

CHUNK_PAIRS: Final = 2**16
"""Pairs of any box with any anchor looked at together, or all of a box: bounds memory, and fits a cache."""

NO_OVERLAP: Final = 2.0
"""An IoU that no pair has."""


class Overlaps(NamedTuple):
    """P pairs with their IoU. All pairs of a box come together, and boxes in their order."""

    boxes: Tensor
    """(P,) int64 rows."""
    places: Tensor
    """(P,) int64: the image, times A, plus the row of the anchor."""
    values: Tensor
    """(P,) to the bit what ``dethead.boxes.iou`` gives."""


class OverlapSearch(Protocol):
    """Finds the overlaps of the boxes of a batch, (M, 4) with their (M,) images, with anchors."""

    @property
    def anchors(self) -> Tensor:
        """The (A, 4) anchors."""
        ...

    def above(self, boxes: Tensor, image: Tensor, lowest: float, *, and_best: bool) -> Iterator[Overlaps]:
        """Give all overlaps from ``lowest`` on; with ``and_best`` also each box's highest, all that tie.

        Never an overlap of 0.
        """
        ...

    def at(self, boxes: Tensor, image: Tensor, places: Tensor, lowest: Tensor) -> Iterator[Overlaps]:
        """Give all overlaps at (N,) different ``places`` from their ``lowest`` on, and some lower ones."""
        ...

    def inside(self, regions: Tensor, share: float) -> Tensor:
        """(A,) bool: as ``inside_ignored``."""
        ...


def search_among(anchors: Anchors) -> OverlapSearch:
    """Choose the search: by place where anchors stand in a grid, by groups where not."""
    grid = find_grid(anchors)
    return (
        SearchGroups(anchors.boxes, find_groups(anchors)) if grid is None else SearchGrid(anchors.boxes, grid)
    )


def overlaps_at(
    search: OverlapSearch, boxes: Tensor, image: Tensor, places: Tensor, lowest: Tensor
) -> Iterator[Overlaps]:
    """As ``OverlapSearch.at``; few places are compared with all boxes, which is less than a search."""
    if len(boxes) * len(places) > CHUNK_PAIRS:
        yield from search.at(boxes, image, places, lowest)
        return
    count = len(search.anchors)
    values = iou(boxes[:, None], gather(search.anchors, places % count))
    box, column = ((values >= lowest) & (image[:, None] == places // count)).nonzero().unbind(dim=1)
    yield Overlaps(box, places[column], values[box, column])


@dataclass(frozen=True, slots=True, eq=False)
class SearchGrid:
    """Looks only at anchors whose size and place allow the overlap: a few dozen for a box.

    IoU = inner / (areas - inner) is t or more exactly where inner is t / (1 + t) of both areas or more.
    """

    anchors: Tensor
    """(A, 4)"""
    grid: Grid

    def above(self, boxes: Tensor, image: Tensor, lowest: float, *, and_best: bool) -> Iterator[Overlaps]:
        """See ``OverlapSearch``."""
        limits = boxes.new_full((len(boxes),), lowest)
        if and_best:  # no higher than a box's best, for these anchors are some of all
            for start, some in box_chunks(boxes, len(self.grid.first)):
                limits[start : start + len(some)].clamp_(max=self._nearest(some))
        for blocks in self.grid.blocks(boxes, self._shares(limits[:, None]), box_areas(boxes)):
            box, anchors = self.grid.anchors(blocks)
            values = iou(gather(boxes, box), gather(self.anchors, anchors))
            enough = (values >= limits.index_select(0, box)) & (values > 0)
            box, anchors, values = select(enough, box, anchors, values)
            yield Overlaps(box, image[box] * len(self.anchors) + anchors, values)

    def at(self, boxes: Tensor, image: Tensor, places: Tensor, lowest: Tensor) -> Iterator[Overlaps]:
        """See ``OverlapSearch``."""
        count, offsets = len(self.anchors), image * len(self.anchors)
        lattice, number = self.grid.numbers(places % count)
        limits = lowest.new_full((len(self.grid.first),), NO_OVERLAP)
        limits.scatter_reduce_(0, lattice, lowest, "amin")
        number += places // count * count
        number, order = number.sort()
        places = places[order]
        for blocks in self.grid.blocks(boxes, self._shares(limits).expand(len(boxes), -1), box_areas(boxes)):
            box, rows = self.grid.members(blocks, offsets[blocks.box], number)
            found = places[rows]
            values = iou(gather(boxes, box), gather(self.anchors, found % count))
            yield Overlaps(box, found, values)

    def inside(self, regions: Tensor, share: float) -> Tensor:
        """See ``OverlapSearch``."""
        inside = torch.zeros(len(self.anchors), dtype=torch.bool, device=self.anchors.device)
        shares = regions.new_full((len(regions), 1), share).expand(-1, len(self.grid.first))
        for blocks in self.grid.blocks(regions, shares, regions.new_zeros(len(regions))):
            region, rows = self.grid.anchors(blocks)
            anchors = gather(self.anchors, rows)
            covered = intersections(gather(regions, region), anchors) / box_areas(anchors)
            inside[rows[covered >= share]] = True
        return inside

    def _nearest(self, boxes: Tensor) -> Tensor:
        """(M,) highest IoU of boxes with the nearest anchors."""
        rows = self.grid.nearest(boxes)
        anchors = gather(self.anchors, rows.flatten()).view(*rows.shape, 4)
        return iou(boxes[:, None], anchors).amax(dim=1)

    def _shares(self, limits: Tensor) -> Tensor:
        """(..., G) share of both areas that an intersection has at an IoU of ``limits``, (..., 1) or (G,)."""
        return (limits / (1 + limits)).expand(*limits.shape[:-1], len(self.grid.first))


@dataclass(frozen=True, slots=True, eq=False)
class SearchGroups:
    """Looks only at groups of anchors one of which might have the overlap."""

    anchors: Tensor
    """(A, 4)"""
    groups: Groups

    def above(self, boxes: Tensor, image: Tensor, lowest: float, *, and_best: bool) -> Iterator[Overlaps]:
        """See ``OverlapSearch``."""
        for box, rows, values in self.groups.above(boxes, lowest, and_best=and_best, pairs=CHUNK_PAIRS):
            yield Overlaps(box, image[box] * len(self.anchors) + rows, values)

    def at(self, boxes: Tensor, image: Tensor, places: Tensor, lowest: Tensor) -> Iterator[Overlaps]:
        """See ``OverlapSearch``."""
        count = len(self.anchors)
        anchors: Tensor = torch.unique(places % count)
        wanted = torch.zeros(int(image[-1] + 1) * count, dtype=torch.bool, device=boxes.device)
        wanted[places] = True
        groups = Groups.of(self.anchors[anchors])
        for box, rows, values in groups.above(boxes, float(lowest.amin()), and_best=False, pairs=CHUNK_PAIRS):
            found = image[box] * count + anchors[rows]
            yield Overlaps(*select(wanted[found], box, found, values))

    def inside(self, regions: Tensor, share: float) -> Tensor:
        """See ``OverlapSearch``."""
        return inside_ignored(self.anchors, regions, share)


def best_sums(boxes: Tensor, anchors: Tensor, count: int) -> Tensor:
    """(M,) sum of the ``count`` highest IoUs of each of (M, 4) boxes with (A, 4) anchors."""
    sums = [highest(overlaps, count).clamp(min=0).sum(dim=1) for _, overlaps in _all_overlaps(boxes, anchors)]
    return torch.cat(sums) if sums else boxes.new_zeros(len(boxes))


def _all_overlaps(boxes: Tensor, anchors: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Give (N, A) overlaps and the row of their first box; A is filled up to whole stretches."""
    missing = -len(anchors) % STRETCH
    anchors = by_coordinate(pad(anchors, (0, 0, 0, missing)))  # boxes that overlap none
    step = max(1, CHUNK_PAIRS // max(len(anchors), 1))
    for start in range(0, len(boxes) if len(anchors) else 0, step):
        yield start, iou(boxes[start : start + step, None], anchors)


def gather(boxes: Tensor, rows: Tensor) -> Tensor:
    """(..., 4) the (M, 4) boxes of (...) rows, ``by_coordinate``."""
    return by_coordinate(boxes[rows])
