"""At which score to cut: the threshold of best F1, for each class and for all together."""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from dethead.evaluation.arrays import Bools, Floats
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.reliability import plain


class OperatingPoint(NamedTuple):
    """What a detector does when only detections of this score or more are kept."""

    name: str
    """The class, or "all"."""
    objects: int
    """How many are to be found."""
    score: float
    """The threshold; nan if no threshold gives a right detection."""
    precision: float
    """Right detections / detections, in [0, 1]; nan if there is no threshold."""
    recall: float
    """Right detections / objects, in [0, 1]; nan without objects."""
    f1: float
    """2 * right / (detections + objects), the harmonic mean of the two; nan without objects."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        numbers = {key: plain(value) for key, value in self._asdict().items() if isinstance(value, float)}
        return self._asdict() | numbers


class OperatingPoints(NamedTuple):
    """The points of best F1."""

    together: OperatingPoint
    """One threshold for all classes; every detection and object counts the same."""
    per_class: tuple[OperatingPoint, ...]
    """(C,) each with a threshold of its own."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"together": self.together.as_dict(), "per_class": [one.as_dict() for one in self.per_class]}


def find_operating_points(table: MatchTable, iou_threshold: float = 0.5) -> OperatingPoints:
    """Find the score threshold of best F1; of several that are equally good the highest.

    Detections that COCO ignores are neither right nor wrong.

    Args:
        table: with the area range "all".
        iou_threshold: what counts as found; one of the table's.

    Raises:
        ValueError: a table of other rules.

    Source: van Rijsbergen 1979, "Information Retrieval", chapter 7.
    """
    place = table.rules.range_place("all"), table.rules.threshold_place(iou_threshold)
    kept = ~table.ignored(*place)
    label, score, right = table.label[kept], table.score[kept], (table.matched(*place) >= 0)[kept]
    labels = table.object_label[table.counted[place[0]]]
    objects = np.bincount(labels, minlength=len(table.class_names)).tolist()
    starts = np.searchsorted(label, np.arange(len(objects) + 1)).tolist()
    parts = [slice(start, end) for start, end in itertools.pairwise(starts)]
    per_class = [
        _best(name, count, score[part], right[part])
        for name, count, part in zip(table.class_names, objects, parts, strict=True)
    ]
    order = np.argsort(-score, kind="stable")
    return OperatingPoints(_best("all", sum(objects), score[order], right[order]), tuple(per_class))


def _best(name: str, objects: int, score: Floats, right: Bools) -> OperatingPoint:
    """Find the best point of detections in descending order of their scores."""
    nan = math.nan
    if objects == 0:
        return OperatingPoint(name, 0, nan, nan, nan, nan)
    hits = np.cumsum(right)
    # A threshold cuts no run of equal scores in two.
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])
    f1 = 2 * hits[ends] / (ends + 1 + objects)
    best = int(f1.argmax()) if len(f1) else 0
    if not len(f1) or f1[best] == 0:
        return OperatingPoint(name, objects, nan, nan, 0.0, 0.0)
    end = int(ends[best])
    found = int(hits[end])
    return OperatingPoint(
        name, objects, float(score[end]), found / (end + 1), found / objects, float(f1[best])
    )
