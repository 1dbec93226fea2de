"""Which anchors of a regular grid can overlap a box enough, found without looking at the others."""

import functools
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from dethead.assigners.ignoring import box_chunks
from dethead.structures import Anchors

T = TypeVar("T")

CHUNK_PAIRS: Final = 2**15
"""(box, anchor) pairs handed out together, unless one box has more: bounds memory, and fits a cache."""

ROUNDING: Final = 1e-4
"""How far a side of an anchor may be off its place, in its stride or its own shorter side, the lesser."""

SLACK: Final = 0.01
"""Given in to rounding, in cells and in shares of an overlap: some anchors too many, never one too few."""

FARTHEST: Final = 2**14
"""Strides from the origin up to which float32 places a point in its cell to much less than SLACK."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the anchors of a grid stand: a lattice of rows and columns for each level and shape, G in all.

    Row r, column c of a lattice: that anchor is row ``first + (r * columns + c) * shapes`` of all.
    """

    size: Tensor
    """(G, 2) width and height in px of a lattice's anchors."""
    center: Tensor
    """(G, 2) x and y in px of the centre of its first anchor."""
    stride: Tensor
    """(G, 1) px from one to the next, in x and in y."""
    cells: Tensor
    """(G, 2) int64 columns and rows."""
    first: Tensor
    """(G,) int64 row of its first anchor."""
    numbered: Tensor
    """(G,) int64 number of its first anchor where anchors are counted lattice by lattice."""
    shapes: int
    """K in each cell, so neighbours in a lattice are that many rows apart."""

    def nearest(self, boxes: Tensor) -> Tensor:
        """(M, G) rows of the anchors that overlap (M, 4) ``boxes`` most, one of each lattice.

        The anchors of a lattice have one size, so the one whose centre is nearest in x and in y has the
        largest intersection and the largest IoU; to rounding, for others may be about as near.
        """
        centers = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        cells = ((centers - self.center) / self.stride).round().clamp(min=0).minimum(self.cells - 1)
        column, row = cells.nan_to_num().long().unbind(dim=-1)  # a box that is no number overlaps none
        return self.first + (row * self.cells[:, 0] + column) * self.shapes

    def numbers(self, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) lattice in [0, G), and (N,) number counted lattice by lattice, of (N,) rows of anchors."""
        starts = self.first[:: self.shapes].contiguous()
        level = torch.bucketize(anchors, starts, right=True) - 1
        cell = (anchors - starts[level]) // self.shapes
        lattice = level * self.shapes + (anchors - starts[level]) % self.shapes
        return lattice, self.numbered[lattice] + cell

    def blocks(self, boxes: Tensor, share: Tensor, areas: Tensor) -> "Iterator[Blocks]":
        """Give the anchors whose intersection with a box has some share of their area, and some more.

        Args:
            boxes: (M, 4).
            share: (M, G), of the anchor's area and ``areas`` together; 0 for all that touch.
            areas: (M,) px^2.

        Yields:
            Blocks of at most CHUNK_PAIRS anchors, if no box has more: all of a box together, boxes in order.
        """
        for start, some in box_chunks(boxes, len(self.first)):
            rows = slice(start, start + len(some))
            whole = self._blocks(some, share[rows], areas[rows, None] + self.size.prod(dim=-1))
            for piece in pieces(whole.box, whole.rows * whole.columns, len(some), CHUNK_PAIRS):
                yield Blocks(whole.box[piece] + start, *(part[piece] for part in whole[1:]))

    def _blocks(self, boxes: Tensor, share: Tensor, areas: Tensor) -> "Blocks":
        longest = torch.minimum(boxes[:, None, 2:] - boxes[:, None, :2], self.size)  # of an intersection
        least = (1 - SLACK) * share * areas
        enough = (longest > 0).all(dim=-1) & (longest[..., 0] * longest[..., 1] >= least)
        box, lattice = enough.nonzero().unbind(dim=1)
        # No intersection is higher than ``longest``, so it is at least this wide, and the other way round.
        overlap = least[box, lattice][:, None] / longest[box, lattice].flip(-1)
        low, high = self._reached(boxes[box], lattice, overlap)
        return Blocks(box, lattice, *low.unbind(dim=1), *(high - low + 1).clamp(min=0).unbind(dim=1))

    def _reached(self, boxes: Tensor, lattice: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """(E, 2) first and last column and row that overlap (E, 4) boxes by (E, 2) px in x and in y.

        [c - w / 2, c + w / 2] and [x1, x2] share o or more for x1 + o - w / 2 <= c <= x2 - o + w / 2.
        """
        reach = overlap - self.size[lattice] / 2
        center, stride, cells = self.center[lattice], self.stride[lattice], self.cells[lattice]
        low = ((boxes[:, :2] + reach - center) / stride - SLACK).ceil().clamp(min=0).minimum(cells)
        high = ((boxes[:, 2:] - reach - center) / stride + SLACK).floor().clamp(min=-1).minimum(cells - 1)
        return low.long(), high.long()

    def anchors(self, blocks: "Blocks") -> tuple[Tensor, Tensor]:
        """(P,) box and (P,) row of the anchors of blocks, block by block."""
        columns = self.cells[blocks.lattice, 0]
        first = self.first[blocks.lattice] + (blocks.row * columns + blocks.column) * self.shapes
        lines, block = _ranges(first, blocks.rows, columns * self.shapes)
        anchors, line = _ranges(lines, blocks.columns[block], self.shapes)
        return blocks.box[block[line]], anchors

    def members(self, blocks: "Blocks", offsets: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(P,) box and (P,) place in a list of the anchors of blocks that are in the list.

        Args:
            blocks: E of them.
            offsets: (E,) added to the numbers of a block's anchors.
            numbers: of the list, ascending.
        """
        columns = self.cells[blocks.lattice, 0]
        first = self.numbered[blocks.lattice] + blocks.row * columns + blocks.column + offsets
        lines, block = _ranges(first, blocks.rows, columns)
        start = torch.searchsorted(numbers, lines)
        counts = torch.searchsorted(numbers, lines + blocks.columns[block]) - start
        members, line = _ranges(start, counts, 1)
        return blocks.box[block[line]], members


class Blocks(NamedTuple):
    """Rectangles of cells, each in one lattice and for one box; (E,) int64 each."""

    box: Tensor
    lattice: Tensor
    column: Tensor
    """The first one."""
    row: Tensor
    """The first one."""
    columns: Tensor
    """How many."""
    rows: Tensor
    """How many."""


def _ranges(starts: Tensor, counts: Tensor, steps: Tensor | int) -> tuple[Tensor, Tensor]:
    """Join the N ranges ``start, start + step, ...`` of ``count`` numbers each; steps are one or (N,).

    Returns:
        The numbers, and for each of them which range it is of.
    """
    ends = counts.cumsum(dim=0)
    total = int(ends[-1]) if len(ends) else 0
    # Not by repeat_interleave, which wakes all threads for the smallest work and waits for them.
    owner = ends.new_zeros(total + 1).index_add_(0, ends, torch.ones_like(ends)).cumsum(dim=0)[:total]
    offsets = (starts - (ends - counts) * steps)[owner]
    numbers = torch.arange(total, device=starts.device)
    return offsets + numbers.mul_(steps[owner] if isinstance(steps, Tensor) else steps), owner


def pieces(box: Tensor, pairs: Tensor, boxes: int, most: int) -> Iterator[slice]:
    """Cut blocks, of (E,) boxes in order with (E,) pairs each, into whole boxes of ``most`` pairs in all.

    A box that has more is a piece alone, or with one before it.
    """
    counts = pairs.new_zeros(boxes).index_add_(0, box, pairs)
    window = max(1, most - int(counts.max())) if boxes else 1  # the box that ends one may begin before
    _, lengths = torch.unique_consecutive((counts.cumsum(dim=0) // window)[box], return_counts=True)
    start = 0
    for length in lengths.tolist():
        yield slice(start, start + length)
        start += length


def once(work: Callable[[Anchors], T]) -> Callable[[Anchors], T]:
    """Keep what is worked out of anchors in use: ``AnchorGrid.place`` gives the same ones for every step."""
    known: MutableMapping[Tensor, tuple[tuple[object, ...], T]] = WeakTensorKeyDictionary()

    @functools.wraps(work)
    def look_up(anchors: Anchors) -> T:
        boxes = anchors.boxes
        key = (*anchors[1:], None if boxes.is_inference() else boxes._version)  # anew if written to
        found = known.get(boxes)
        if found is None or found[0] != key:
            found = known[boxes] = key, work(anchors)
        return found[1]

    return look_up


@once
def find_grid(anchors: Anchors) -> Grid | None:
    """Recognise the grid that anchors stand in; None where they do not.

    They stand in one if all cells of all levels have the same number of shapes, and those of a level are the
    same, its stride apart.
    """
    if anchors.boxes.dtype not in (torch.float32, torch.float64) or not _adds_up(anchors):
        return None
    lattices, shapes = [], 0
    for rows, stride, (height, width) in zip(anchors.levels, anchors.strides, anchors.cells, strict=True):
        level = anchors.boxes[rows].reshape(height, width, -1, 4)
        shapes = level.shape[2]
        if not _is_lattice(level, stride):
            return None
        corner = level[0, 0]
        cells = torch.tensor([width, height], device=corner.device).expand(shapes, 2)
        first = rows.start + torch.arange(shapes, device=corner.device)
        size, center = corner[:, 2:] - corner[:, :2], (corner[:, 2:] + corner[:, :2]) / 2
        lattices.append((size, center, corner.new_full((shapes, 1), stride), cells, first))
    size, center, strides, cells, first = (torch.cat(part) for part in zip(*lattices, strict=True))
    counts = cells.prod(dim=-1)
    return Grid(size, center, strides, cells, first, counts.cumsum(dim=0) - counts, shapes)


def _adds_up(anchors: Anchors) -> bool:
    """Whether the levels follow each other and have the same number of anchors for each of their cells."""
    if not len(anchors.levels) == len(anchors.strides) == len(anchors.cells) > 0:
        return False
    counts = [rows * columns for rows, columns in anchors.cells]
    shapes = len(anchors.boxes) // max(sum(counts), 1)
    start = 0
    for rows, count in zip(anchors.levels, counts, strict=True):
        if count == 0 or rows != slice(start, start + count * shapes):
            return False
        start += count * shapes
    return start == len(anchors.boxes) > 0


def _is_lattice(level: Tensor, stride: float) -> bool:
    """Whether (rows, columns, K, 4) anchors have a size and are ``stride`` apart, to ROUNDING."""
    x, y = level[..., ::2], level[..., 1::2]
    if stride <= 0 or not ((x == x[:1]).all() and (y == y[:, :1]).all()):
        return False
    size = level[0, 0, :, 2:] - level[0, 0, :, :2]
    allowed = size.amin(dim=-1, keepdim=True).clamp(max=stride) * ROUNDING
    straight = all(
        ((line - line[0] - stride * _steps(line)).abs() <= allowed).all() for line in (x[0], y[:, 0])
    )
    return straight and bool((size > 0).all() and (level.abs() <= FARTHEST * stride).all())


def _steps(line: Tensor) -> Tensor:
    """(N, 1, 1) the numbers 0 to N - 1 for the N cells of a line."""
    return torch.arange(len(line), dtype=line.dtype, device=line.device)[:, None, None]
