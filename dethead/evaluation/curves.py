"""Precision and recall of every setting, and the 12 numbers that are their means."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from dethead.evaluation.arrays import Bools, Floats
from dethead.evaluation.metrics import ClassMetrics, CocoMetrics
from dethead.evaluation.rules import CocoRules

LARGEST: Final = -1


class Place(NamedTuple):
    """Where a number's values stand, by the order of the rules."""

    area: int
    thresholds: Bools
    """(T,) over which IoU thresholds it is the mean."""
    limit: int | None
    """None: a precision; else which limit on detections the recall has."""


class Number(NamedTuple):
    """One of the 12 numbers: a mean of precision, or of recall if it has a limit."""

    name: str
    area: str
    iou: float | None = None
    """None: mean over all thresholds."""
    limit: int | None = None
    """Detections per image and class; ``LARGEST``: as many as the rules allow."""

    def place(self, rules: CocoRules) -> Place | None:
        """Find it among the rules; None if its area range, threshold or limit is not there."""
        areas = [name for name, _, _ in rules.area_ranges]
        thresholds = np.array([self.iou in (None, iou) for iou in rules.iou_thresholds])
        last = len(rules.max_detections) - 1
        limits = {None: None, LARGEST: last} | {limit: n for n, limit in enumerate(rules.max_detections)}
        if self.area not in areas or not thresholds.any() or self.limit not in limits:
            return None
        return Place(areas.index(self.area), thresholds, limits[self.limit])


_SIZES = {"s": "small", "m": "medium", "l": "large"}
NUMBERS: tuple[Number, ...] = (
    Number("AP", "all"),
    Number("AP50", "all", iou=0.5),
    Number("AP75", "all", iou=0.75),
    *(Number(f"AP{letter}", size) for letter, size in _SIZES.items()),
    *(Number(f"AR{limit}", "all", limit=limit) for limit in (1, 10, 100)),
    *(Number(f"AR{letter}", size, limit=LARGEST) for letter, size in _SIZES.items()),
)
"""What the 12 numbers are, in COCO's order."""


class Curves(NamedTuple):
    """T IoU thresholds, 101 recall points, C classes, R area ranges, L limits on detections."""

    precision: Floats
    """(T, 101, C, R) in [0, 1]: best precision at this recall or more, with the largest limit; nan: no object
    to measure."""
    recall: Floats
    """(T, C, R, L) in [0, 1]: the recall reached; nan: no object to measure."""


def summarise(
    curves: Curves, rules: CocoRules, class_names: Sequence[str], objects: Sequence[int]
) -> CocoMetrics:
    """Average curves to the 12 numbers.

    A number whose threshold, area range ("all", "small", "medium", "large") or limit (1, 10, 100) is not
    among the rules is nan; AP and the recalls by size are taken at the largest limit.

    Args:
        curves: of C classes, by these rules.
        rules: what the axes of the curves are.
        class_names: (C,)
        objects: (C,) objects of each class.
    """
    numbers = _numbers(curves, rules)
    per_class = tuple(
        ClassMetrics(name=name, objects=int(count), **_numbers(_one_class(curves, label), rules))
        for label, (name, count) in enumerate(zip(class_names, objects, strict=True))
    )
    return CocoMetrics(per_class=per_class, **numbers)


def _one_class(curves: Curves, label: int) -> Curves:
    return Curves(curves.precision[:, :, label : label + 1], curves.recall[:, label : label + 1])


def _numbers(curves: Curves, rules: CocoRules) -> dict[str, float]:
    return {number.name: _number(curves, number.place(rules)) for number in NUMBERS}


def _number(curves: Curves, place: Place | None) -> float:
    if place is None:
        return float("nan")
    if place.limit is None:
        return _mean(curves.precision[place.thresholds][..., place.area])
    return _mean(curves.recall[..., place.area, place.limit])


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
