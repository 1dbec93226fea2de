"""Anchor shapes fitted to the boxes of a data set: k-means on 1 - IoU."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dethead.anchors import AnchorGrid
from dethead.data.seen_boxes import SeenBoxes

Floats = NDArray[np.float64]

_STARTS: Final = 16
"""Fits from different starts, of which the best is taken."""
_STEPS: Final = 100
_MOST: Final = 50_000
"""Boxes that are fitted to; of more, so many are drawn: shapes are rounded to 0.1 px anyway."""


def shape_ious(first: Floats, second: Floats) -> Floats:
    """(N, K) IoU in [0, 1] of boxes (N, 2) and (K, 2), width and height above 0, that share their centre.

    Example:
        >>> shape_ious(np.array([[4.0, 2.0]]), np.array([[2.0, 2.0], [8.0, 4.0]]))
        array([[0.5 , 0.25]])
    """
    inner = np.minimum(first[:, None], second).prod(axis=2)
    overlaps: Floats = inner / (first.prod(axis=1)[:, None] + second.prod(axis=1) - inner)
    return overlaps


def mean_best_iou(sizes: Floats, shapes: Floats) -> float:
    """Give the mean, over (N, 2) boxes, of the IoU with the best of (K, 2) shapes in their centre.

    Example:
        >>> mean_best_iou(np.array([[4.0, 2.0], [3.0, 3.0]]), np.array([[2.0, 2.0], [3.0, 3.0]]))
        0.77272...
    """
    return float(shape_ious(sizes, shapes).max(axis=1).mean())


def fit_shapes(sizes: Floats, count: int, *, seed: int = 0) -> Floats:
    """Find the shapes that lie best on boxes of their size, whose mean best IoU is highest.

    Lloyd's steps from several starts: every box goes to the shape of highest IoU, every shape to the mean
    width and height of its boxes. A mean is not exactly what maximises an IoU, so the best shapes met on
    the way are kept. Starts are drawn as in k-means++, by the distance 1 - IoU itself, since the sum of
    distances, not of their squares, is what counts.

    Args:
        sizes: (N, 2) width and height in pixels, above 0.
        count: K shapes, 1 or more.
        seed: of the starts; the same seed, boxes and order give the same shapes.

    Returns:
        (K, 2) width and height, by rising area.

    Raises:
        ValueError: sizes that are none, or fewer different boxes than shapes.

    Source: Redmon & Farhadi 2016 (YOLOv2), https://arxiv.org/abs/1612.08242, section 2, "Dimension Clusters".
    """
    if sizes.ndim != 2 or sizes.shape[1] != 2 or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(f"sizes must be (N, 2) widths and heights above 0, got {sizes.shape}")
    different = len(np.unique(sizes, axis=0))
    if not 1 <= count <= different:
        raise ValueError(f"{count} shapes cannot be fitted to {different} different boxes")
    draw = np.random.default_rng(seed)
    if len(sizes) > max(_MOST, count):
        sizes = sizes[draw.choice(len(sizes), _MOST, replace=False)]
    fits = [_improved(sizes, _start(sizes, count, draw)) for _ in range(_STARTS)]
    best = max(fits, key=lambda shapes: mean_best_iou(sizes, shapes))
    return best[np.lexsort((best[:, 0], best.prod(axis=1)))]


def _start(sizes: Floats, count: int, draw: np.random.Generator) -> Floats:
    """(count, 2) boxes, each drawn by its distance to the nearest one before."""
    rows = [int(draw.integers(len(sizes)))]
    distance = np.ones(len(sizes))
    for _ in range(count - 1):
        distance = np.minimum(distance, 1 - shape_ious(sizes, sizes[rows[-1:]])[:, 0])
        total = distance.sum()
        # None are far: among the many boxes of which some are fitted to, all but a few may be alike.
        rows.append(int(draw.choice(len(sizes), p=distance / total if total else None)))
    return sizes[rows]


def _improved(sizes: Floats, shapes: Floats) -> Floats:
    """(K, 2) the best of the shapes that Lloyd's steps lead through."""
    best, highest, before = shapes, 0.0, None
    for _ in range(_STEPS):
        ious = shape_ious(sizes, shapes)
        nearest, mean = ious.argmax(axis=1), float(ious.max(axis=1).mean())
        if mean > highest:
            best, highest = shapes, mean
        if before is not None and (nearest == before).all():
            break
        shapes, before = _means(sizes, nearest, shapes), nearest
    return best


def _means(sizes: Floats, nearest: NDArray[np.int64], shapes: Floats) -> Floats:
    """(K, 2) mean of the boxes of each shape; a shape without boxes stays as it is."""
    counts = np.bincount(nearest, minlength=len(shapes))
    sums = [np.bincount(nearest, side, minlength=len(shapes)) for side in sizes.T]
    return np.where(counts[:, None] > 0, np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None], shapes)


def sizes_of(seen: Iterable[SeenBoxes]) -> Floats:
    """(N, 2) float64 width and height of all boxes, in pixels of the network input."""
    parts = [(one.truth.boxes[:, 2:] - one.truth.boxes[:, :2]).double().numpy() for one in seen]
    return np.concatenate([np.zeros((0, 2)), *parts])


def fitted_grid(
    sizes: Floats, like: AnchorGrid, shapes_per_cell: int, *, together: bool = False, seed: int = 0
) -> AnchorGrid:
    """Fit the shapes of every level.

    Each level is fitted to its own boxes, those whose size is nearest, as a ratio, to the size of the
    level's present anchors: what a level has to find stays in proportion to its cells. With ``together``
    all shapes are fitted at once and dealt out by area, as in YOLOv3. They then lie better on small boxes,
    but most levels get shapes that are small for their cells, which few places match closely.

    Args:
        sizes: (N, 2) width and height in pixels of the network input.
        like: the present anchors.
        shapes_per_cell: of every level.
        together: fit all levels at once.
        seed: see ``fit_shapes``.

    Returns:
        Anchors of the same strides; shapes are rounded to 0.1 px and run by rising area.

    Raises:
        ValueError: fewer different boxes than shapes.
    """
    if together:
        shapes = fit_shapes(sizes, len(like.strides) * shapes_per_cell, seed=seed)
        levels = [*shapes.reshape(len(like.strides), shapes_per_cell, 2)]
    else:
        level = _level_of(sizes, like)
        levels = [
            _fit_level(sizes[level == place], shapes_per_cell, stride, seed)
            for place, stride in enumerate(like.strides)
        ]
    rounded = [np.maximum(shapes.round(1), 0.1).tolist() for shapes in levels]
    return AnchorGrid(like.strides, tuple(tuple((w, h) for w, h in shapes) for shapes in rounded))


def _level_of(sizes: Floats, like: AnchorGrid) -> NDArray[np.int64]:
    """(N,) the level whose anchors are nearest in size, the mean of log areas."""
    means = np.log(np.array(like.shapes)).sum(axis=2).mean(axis=1)
    level: NDArray[np.int64] = np.abs(np.log(sizes).sum(axis=1)[:, None] - means).argmin(axis=1)
    return level


def _fit_level(sizes: Floats, count: int, stride: float, seed: int) -> Floats:
    try:
        return fit_shapes(sizes, count, seed=seed)
    except ValueError as error:
        raise ValueError(
            f"level of stride {stride:g}: {error}; ask for fewer, or fit them together"
        ) from None
