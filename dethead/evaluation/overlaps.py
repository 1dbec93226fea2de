"""Pairs of a detection and an object of its image and class that overlap enough to match."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dethead.evaluation.arrays import Bools, Floats, Ints
from dethead.evaluation.order import ranges

_PAIRS_AT_ONCE = 1 << 16  # a handful of arrays of this length stay in the processor's second cache


class Sides(NamedTuple):
    """Boxes as the overlap needs them."""

    left: Floats
    top: Floats
    right: Floats
    bottom: Floats
    areas: Floats

    @classmethod
    def of(cls, boxes: Floats) -> "Sides":
        """Take (N, 4) xywh apart."""
        x, y, width, height = np.ascontiguousarray(boxes.T)
        return cls(x, y, x + width, y + height, width * height)

    def at(self, rows: Ints) -> "Sides":
        """Give the boxes of these rows."""
        return Sides(*(values[rows] for values in self))


class Pairs(NamedTuple):
    """P pairs, in the order of the detections, then of the objects."""

    detection: Ints
    """(P,) row of the detection boxes."""
    object: Ints
    """(P,) row of the object boxes."""
    overlap: Floats
    """(P,) IoU; with a crowd, intersection over the detection's area."""


def overlapping_pairs(
    detections: Floats, objects: Floats, crowd: Bools, first: Ints, counts: Ints, least: float
) -> Pairs:
    """Compare every detection with a range of objects, in pieces that need little memory.

    The arithmetic is pycocotools', operation by operation, so that an IoU that is exactly a threshold there
    is one here.

    Args:
        detections: (N, 4) xywh.
        objects: (M, 4) xywh.
        crowd: (M,)
        first: (N,) the first object to compare with.
        counts: (N,) how many objects, from there on.
        least: pairs that overlap less are left out; above 0.
    """
    boxes, others = Sides.of(detections), Sides.of(objects)
    parts = [
        _compare(
            boxes, others, crowd, np.repeat(rows, counts[rows]), ranges(first[rows], counts[rows]), least
        )
        for rows in _pieces(counts)
    ]
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return Pairs(nothing, nothing, np.zeros(0))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _pieces(counts: Ints) -> Iterator[Ints]:
    """Cut the detections that have something to be compared with into pieces of so many pairs."""
    rows = np.flatnonzero(counts)
    if len(rows):
        piece = np.cumsum(counts[rows]) // _PAIRS_AT_ONCE
        yield from np.split(rows, np.flatnonzero(np.diff(piece)) + 1)


def _compare(
    boxes: Sides, others: Sides, crowd: Bools, detection: Ints, objects: Ints, least: float
) -> Pairs:
    width = np.minimum(boxes.right[detection], others.right[objects])
    width -= np.maximum(boxes.left[detection], others.left[objects])
    height = np.minimum(boxes.bottom[detection], others.bottom[objects])
    height -= np.maximum(boxes.top[detection], others.top[objects])
    touching = np.flatnonzero((width > 0) & (height > 0))
    detection, objects = detection[touching], objects[touching]
    common = width[touching] * height[touching]
    own = boxes.areas[detection]
    union = own + others.areas[objects] - common
    overlap = common / np.where(crowd[objects], own, union)
    kept = np.flatnonzero(overlap >= least)
    return Pairs(detection[kept], objects[kept], overlap[kept])
