"""Precision and recall of every setting, and the 12 numbers that are their means."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dethead.evaluation.arrays import Floats
from dethead.evaluation.metrics import ClassMetrics, CocoMetrics
from dethead.evaluation.rules import CocoRules


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
    areas = [name for name, _, _ in rules.area_ranges]

    def precision(area: str, iou: float | None = None) -> float:
        if area not in areas:
            return float("nan")
        part = curves.precision[..., areas.index(area)]
        return _mean(part if iou is None else part[np.array(rules.iou_thresholds) == iou])

    def recall(area: str, limit: int | None = None) -> float:
        if area not in areas or (limit is not None and limit not in rules.max_detections):
            return float("nan")
        place = -1 if limit is None else rules.max_detections.index(limit)
        return _mean(curves.recall[..., areas.index(area), place])

    sizes = {"s": "small", "m": "medium", "l": "large"}
    return {
        "AP": precision("all"),
        "AP50": precision("all", 0.5),
        "AP75": precision("all", 0.75),
        **{f"AP{letter}": precision(size) for letter, size in sizes.items()},
        **{f"AR{limit}": recall("all", limit) for limit in (1, 10, 100)},
        **{f"AR{letter}": recall(size) for letter, size in sizes.items()},
    }


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
