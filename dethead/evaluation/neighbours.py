"""The best overlaps of every detection, with objects of its own class and of others.

A match table knows which detection is right. What a wrong one is close to (an object of another class? one it
only grazes?) is told here, once, for error types, confusion and calibration.
"""

from typing import Final, NamedTuple

import numpy as np

from dethead.evaluation.arrays import Bools, EvaluationInput, Floats, Ints
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.order import run_starts, sort_stable, sorted_rows
from dethead.evaluation.overlaps import Pairs, overlapping_pairs

LEAST_OVERLAP: Final = 0.1
"""An object that overlaps less is no neighbour: the detection lies on background."""
_COMPARISONS_AT_ONCE = 1 << 20  # bounds the pairs that are held before the best of them are taken


class Neighbours(NamedTuple):
    """Of N detections of a match table, in its order: the object that overlaps most, if by 0.1 or more.

    Only objects that count in area range "all" are looked at, no crowds; found or not, by whomever. Of equal
    overlaps the object listed first is taken. Equal boxes of an image are one object with several labels: a
    car that is a vehicle, too, is no object of another class to a detection of either.
    """

    own_object: Ints
    """(N,) row of the best object of the detection's class; -1: none."""
    own_overlap: Floats
    """(N,) its IoU in [0.1, 1], or 0."""
    other_object: Ints
    """(N,) row of the best object that is not of the detection's class; -1: none."""
    other_overlap: Floats
    """(N,) its IoU in [0.1, 1], or 0."""


def neighbours(given: EvaluationInput, table: MatchTable) -> Neighbours:
    """Find the neighbours of every detection of the table.

    Args:
        given: what the table was made from.
        table: one with the area range "all".

    Raises:
        ValueError: a table that was not made from this input, or one without the area range "all".
    """
    if len(table.object_label) != len(given.truth.label) or len(table.row) > len(given.detections.label):
        raise ValueError(
            f"the table has {len(table.object_label)} objects and {len(table.row)} detections, the input "
            f"{len(given.truth.label)} and {len(given.detections.label)}: match that input first"
        )
    objects = np.flatnonzero(table.counted[table.rules.range_place("all")])
    objects = sort_stable(given.truth.image, objects)
    image_starts = np.searchsorted(given.truth.image[objects], np.arange(len(given.image_ids) + 1))
    first = image_starts[table.image]
    counts = image_starts[table.image + 1] - first
    of_class = OfClass.of(given, objects)
    result = _nobody(len(table.row))
    total = np.cumsum(counts)
    for start, end in _chunks(total):
        rows = slice(start, end)
        pairs = overlapping_pairs(
            given.detections.boxes[table.row[rows]],
            given.truth.boxes[objects],
            np.zeros(len(objects), dtype=np.bool_),
            first[rows],
            counts[rows],
            LEAST_OVERLAP,
        )
        pairs = Pairs(pairs.detection + start, objects[pairs.object], pairs.overlap)
        own = table.label[pairs.detection] == table.object_label[pairs.object]
        _keep_best(pairs, own, result.own_object, result.own_overlap)
        other = ~of_class(pairs.object, table.label[pairs.detection])
        _keep_best(pairs, other, result.other_object, result.other_overlap)
    return result


class OfClass(NamedTuple):
    """Tells whether objects are of a class, by any of their labels."""

    box: Ints
    """(M,) number of the object's box, the same for equal boxes of an image."""
    classes: int
    pairs: Ints
    """Box number * C + label of every object that is looked at."""

    @classmethod
    def of(cls, given: EvaluationInput, objects: Ints) -> "OfClass":
        """Collect the labels of every box; ``objects`` are the rows that are looked at."""
        truth, classes = given.truth, len(given.class_names)
        order, new = sorted_rows([*truth.boxes.T, truth.image])
        box = np.empty(len(order), dtype=np.int64)
        box[order] = np.cumsum(new) - 1
        return cls(box, classes, box[objects] * classes + truth.label[objects])

    def __call__(self, objects: Ints, labels: Ints) -> Bools:
        """Give (P,) whether each object is of the class of that label."""
        return np.isin(self.box[objects] * self.classes + labels, self.pairs)


def _nobody(count: int) -> Neighbours:
    def nothing() -> Ints:
        return np.full(count, -1, dtype=np.int64)

    return Neighbours(nothing(), np.zeros(count), nothing(), np.zeros(count))


def _chunks(total: Ints) -> list[tuple[int, int]]:
    """Cut (N,) detections, given the comparisons up to and with each, into ranges of bounded work."""
    cuts = np.flatnonzero(np.diff(total // _COMPARISONS_AT_ONCE)) + 1
    ends = [*cuts.tolist(), len(total)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _keep_best(pairs: Pairs, chosen: Bools, objects: Ints, overlaps: Floats) -> None:
    """Write down, for the detections of the chosen pairs, the object that overlaps most."""
    rows = np.flatnonzero(chosen)
    # The last key counts most; equal overlaps stay in the order of the objects.
    rows = rows[np.lexsort((-pairs.overlap[rows], pairs.detection[rows]))]
    best = rows[run_starts(pairs.detection[rows])]
    objects[pairs.detection[best]] = pairs.object[best]
    overlaps[pairs.detection[best]] = pairs.overlap[best]
