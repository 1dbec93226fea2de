"""Where anchors stand, seen from the boxes: what the centre-based assigners share."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dethead.assigners.grid_pairs import find_grid, once
from dethead.boxes import at_least_float32
from dethead.structures import Anchors


def centers(boxes: Tensor) -> Tensor:
    """(..., 2) centres (x, y) in px of (..., 4) boxes, in float32 at least."""
    boxes = at_least_float32(boxes)
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def per_anchor(anchors: Anchors, values: Sequence[float]) -> Tensor:
    """(A,) the value of each anchor's level, for instance its stride."""
    result = anchors.boxes.new_empty(len(anchors.boxes))
    for level, value in zip(anchors.levels, values, strict=True):
        result[level] = value
    return result


def side_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """(..., 4) px from (..., 2) points to the left, top, right and bottom side of (..., 4) boxes.

    Positive is inward, so a point is inside where all four are above 0.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


class Lines(NamedTuple):
    """Something said of the x and of the y of centres for each of N boxes; together it is said of centres."""

    x: Tensor
    """(N, X)"""
    y: Tensor
    """(N, Y)"""

    def both(self, other: "Lines") -> "Lines":
        """Where both hold, of truth values."""
        return Lines(self.x & other.x, self.y & other.y)


@dataclass(frozen=True, slots=True, eq=False)
class Centers:
    """The centres of A anchors, by coordinate.

    A grid's columns and rows have an x and a y each: what is asked of either is asked of some hundred lines
    and not of all anchors. Of other anchors every one has an x and a y of its own.
    """

    x: Tensor
    """(X,) px, level by level: of columns and their shapes, or of anchors."""
    y: Tensor
    """(Y,) px, level by level: of rows and their shapes, or of anchors."""
    x_stride: Tensor
    """(X,) px, of the level."""
    y_stride: Tensor
    """(Y,)"""
    levels: tuple["_Level", ...]
    count: int
    """A"""

    def inside(self, boxes: Tensor) -> Lines:
        """Which are inside which of (N, 4) boxes; on a side is outside."""
        left, top, right, bottom = boxes[..., None].unbind(dim=1)
        return Lines((self.x > left) & (self.x < right), (self.y > top) & (self.y < bottom))

    def near(self, boxes: Tensor, radius: float) -> Lines:
        """Which are nearer than ``radius`` strides, in x and in y, to the centres of (N, 4) boxes."""
        distances = self.distances(boxes)
        return Lines(distances.x < radius * self.x_stride, distances.y < radius * self.y_stride)

    def distances(self, boxes: Tensor) -> Lines:
        """How many px they are off the centres of (N, 4) boxes."""
        x, y = centers(boxes)[..., None].unbind(dim=1)
        return Lines((self.x - x).abs_(), (self.y - y).abs_())

    def farthest(self, boxes: Tensor) -> Lines:
        """How many px they are off the farther side, left or right and top or bottom, of (N, 4) boxes."""
        left, top, right, bottom = boxes[..., None].unbind(dim=1)
        return Lines(
            torch.maximum(self.x - left, right - self.x), torch.maximum(self.y - top, bottom - self.y)
        )

    def per_x(self, values: Sequence[float]) -> Tensor:
        """(X,) the value of each level."""
        return self._each(values, [level.x_shape for level in self.levels])

    def per_y(self, values: Sequence[float]) -> Tensor:
        """(Y,) the value of each level."""
        return self._each(values, [level.y_shape for level in self.levels])

    def _each(self, values: Sequence[float], shapes: Sequence[tuple[int, ...]]) -> Tensor:
        counts = torch.tensor([math.prod(shape) for shape in shapes])
        spread = torch.tensor(values, dtype=self.x.dtype).repeat_interleave(counts)
        return spread.to(self.x.device)

    def by_level(self, lines: Lines) -> Iterator[tuple[Tensor, Tensor]]:
        """Give (N, 1, W, K) and (N, H, 1, K) of each level, or (N, A) twice: they broadcast to anchors."""
        x = torch.split(lines.x, [math.prod(level.x_shape) for level in self.levels], dim=1)
        y = torch.split(lines.y, [math.prod(level.y_shape) for level in self.levels], dim=1)
        for level, of_x, of_y in zip(self.levels, x, y, strict=True):
            yield of_x.view(-1, *level.x_shape), of_y.view(-1, *level.y_shape)

    def mask(self, lines: Lines) -> Tensor:
        """(N, A) bool: the anchors of whose x and y it holds."""
        # As numbers: where the last one of the shapes is 1, seven times as fast as truth values.
        numbers = Lines(lines.x.view(torch.uint8), lines.y.view(torch.uint8))
        return torch.cat([(x & y).flatten(1) for x, y in self.by_level(numbers)], dim=1).view(torch.bool)


class _Level(NamedTuple):
    """How the x of a level and its y are laid out, so that they broadcast to its anchors."""

    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]


@once
def find_centers(anchors: Anchors) -> Centers:
    """Take the centres of anchors, whose levels follow each other."""
    regular = find_grid(anchors) is not None
    x, y, levels, strides = [], [], [], []
    for rows, (height, width), stride in zip(anchors.levels, anchors.cells, anchors.strides, strict=True):
        boxes = anchors.boxes[rows]
        cells = boxes.reshape(height, width, -1, 4) if regular else boxes.reshape(1, -1, 1, 4)
        shapes = cells.shape[2]
        x.append(centers(cells[0])[..., 0].flatten())
        y.append(centers(cells[:, 0] if regular else cells[0])[..., 1].flatten())
        views = ((1, width, shapes), (height, 1, shapes)) if regular else ((len(boxes),),) * 2
        levels.append(_Level(*views))
        strides.append((torch.full_like(x[-1], stride), torch.full_like(y[-1], stride)))
    of_x, of_y = zip(*strides, strict=True)
    lines = [torch.cat(part) for part in (x, y, of_x, of_y)]
    return Centers(lines[0], lines[1], lines[2], lines[3], tuple(levels), len(anchors.boxes))
