"""Anchors: the boxes that a head starts from, one set of shapes per pyramid level."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

import torch
from torch import Tensor

from dethead.structures import Anchors

SLACK: Final = 1e-4
"""Of a cell: less than that beyond a whole number of cells is rounding."""


@dataclass(frozen=True, slots=True)
class AnchorGrid:
    """Anchor shapes of every pyramid level, and where they stand.

    Args:
        strides: input pixels per cell of each level, finest first; not whole where a detector enlarges its
            images.
        shapes: for each level, the (width, height) in input pixels of the anchors of a cell. Every level has
            the same number of them, because one head serves all levels.

    Raises:
        ValueError: as many strides as levels are wanted, and positive finite sizes.
    """

    strides: tuple[float, ...]
    shapes: tuple[tuple[tuple[float, float], ...], ...]

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.shapes) or not self.strides:
            raise ValueError(f"{len(self.strides)} strides for {len(self.shapes)} levels of anchor shapes")
        if len({len(level) for level in self.shapes}) != 1 or not self.shapes[0]:
            raise ValueError(f"levels differ in their number of anchors: {[len(s) for s in self.shapes]}")
        if wrong_strides := [stride for stride in self.strides if not 1 <= stride < math.inf]:
            raise ValueError(f"a stride must be at least 1 px, got {wrong_strides[0]}")
        wrong = [s for level in self.shapes for s in level if not all(0 < side < math.inf for side in s)]
        if wrong:
            raise ValueError(f"an anchor's (width, height) must be above 0, got {wrong[0]}")

    @classmethod
    def from_sizes(
        cls,
        strides: Sequence[float],
        sizes: Sequence[float],
        *,
        ratios: Sequence[float] = (1.0,),
        scales: Sequence[float] = (1.0,),
    ) -> Self:
        """Make every combination of scale (outer) and ratio (inner) on each level.

        Args:
            strides: of each level.
            sizes: square root of the anchor's area in px, one for each level.
            ratios: height / width.
            scales: factors on the size, for instance 1, 2^(1/3), 2^(2/3).

        Raises:
            ValueError: as for the grid itself; a size, ratio or scale that is not above 0.

        Example:
            >>> AnchorGrid.from_sizes([8], [32], ratios=[4.0], scales=[1, 2]).shapes
            (((16.0, 64.0), (32.0, 128.0)),)
        """
        for name, values in (("size", sizes), ("ratio", ratios), ("scale", scales)):
            if wrong := [value for value in values if not 0 < value < math.inf]:
                raise ValueError(f"a {name} of anchors must be finite and above 0, got {wrong[0]}")
        shapes = tuple(
            tuple(
                (size * scale / math.sqrt(ratio), size * scale * math.sqrt(ratio))
                for scale in scales
                for ratio in ratios
            )
            for size in sizes
        )
        return cls(tuple(strides), shapes)

    @property
    def anchors_per_cell(self) -> int:
        """Anchor shapes at each cell."""
        return len(self.shapes[0])

    def cells(self, image_size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of every level for an image of (height, width); a started cell counts."""
        height, width = image_size
        return tuple((_cells(height, stride), _cells(width, stride)) for stride in self.strides)

    def place(self, image_size: tuple[int, int], device: torch.device | str = "cpu") -> Anchors:
        """Give the anchors of an image of (height, width) px; kept, so asking again costs nothing.

        Anchors are centred in their cell and not clipped to the image.

        Example:
            >>> AnchorGrid((8,), (((4.0, 2.0),),)).place((8, 16)).boxes
            tensor([[ 2.,  3.,  6.,  5.],
                    [10.,  3., 14.,  5.]])
        """
        with torch.inference_mode(False):  # kept tensors serve training, too
            height, width = image_size
            return _place(self, (height, width), str(device))


def _cells(side: int, stride: float) -> int:
    # 320 px and a stride of 8 / 1.4 are 56 cells, also where rounding makes a little more of the quotient.
    return math.ceil(side / stride - SLACK)


@lru_cache(maxsize=64)
def _place(grid: AnchorGrid, image_size: tuple[int, int], device: str) -> Anchors:
    levels, slices, start = [], [], 0
    cells = grid.cells(image_size)
    for stride, shapes, (rows, columns) in zip(grid.strides, grid.shapes, cells, strict=True):
        boxes = _level(stride, torch.tensor(shapes), rows, columns)
        levels.append(boxes)
        slices.append(slice(start, start + len(boxes)))
        start += len(boxes)
    return Anchors(torch.cat(levels).to(device), tuple(slices), grid.strides, cells)


def _level(stride: float, shapes: Tensor, rows: int, columns: int) -> Tensor:
    """(rows * columns * shapes, 4): row by row, column by column, shape by shape."""
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    centers = torch.stack([x, y], dim=-1).reshape(-1, 1, 2) * stride
    return torch.cat([centers - shapes / 2, centers + shapes / 2], dim=-1).reshape(-1, 4)
