"""All that a match table tells beside the 12 numbers, in one piece."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dethead.evaluation.arrays import EvaluationInput, Floats
from dethead.evaluation.calibration import Calibration, calibration
from dethead.evaluation.coco import coco_metrics
from dethead.evaluation.confusion import Confusion, confusion_matrix
from dethead.evaluation.errors import ErrorTypes, error_types
from dethead.evaluation.fusion import FittedFusion, fit_fusion
from dethead.evaluation.matches import MatchTable, match
from dethead.evaluation.metrics import CocoMetrics
from dethead.evaluation.operating_points import OperatingPoints, find_operating_points


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Analysis:
    """One detector on one set."""

    given: EvaluationInput
    table: MatchTable
    metrics: CocoMetrics
    errors: ErrorTypes
    points: OperatingPoints
    confusion: Confusion
    """At the score of best F1 over all classes, or at any score where there is none."""
    calibration: Calibration | None
    """None: there are scores outside [0, 1], which are no probabilities."""
    fusion: FittedFusion | None
    """None: the detections do not carry class probability and confidence apart."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        return {
            "images": len(self.given.image_ids),
            "objects": self.points.together.objects,
            "detections": len(self.given.detections.label),
            "metrics": self.metrics.as_dict(),
            "errors": self.errors.as_dict(),
            "operating_points": self.points.as_dict(),
            "confusion": self.confusion.as_dict(),
            "calibration": None if self.calibration is None else self.calibration.as_dict(),
            "fusion": None if self.fusion is None else self.fusion.as_dict(),
        }


def analyse(given: EvaluationInput) -> Analysis:
    """Compute it all, by COCO's rules."""
    table = match(given)
    points = find_operating_points(table)
    found = given.detections
    scores, branches = found.scores, (found.class_probabilities, found.confidence)
    probabilities = all(_in_unit_range(one) for one in (scores, *branches) if one is not None)
    apart = all(one is not None and not np.isnan(one).any() for one in branches) and len(given.image_ids) > 1
    best = points.together.score
    cut = float(scores.min(initial=0.0)) if math.isnan(best) else best
    return Analysis(
        given=given,
        table=table,
        metrics=coco_metrics(given),
        errors=error_types(given, table),
        points=points,
        confusion=confusion_matrix(given, table, cut),
        calibration=calibration(given, table) if probabilities else None,
        fusion=fit_fusion(given) if probabilities and apart else None,
    )


def _in_unit_range(values: Floats) -> bool:
    """Whether all known values are in [0, 1]."""
    known = values[~np.isnan(values)]
    return bool(((known >= 0) & (known <= 1)).all())
