"""What the finished runs of each variant measure: numbers, curves, errors, calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from dethead.ablation.plan import Variant
from dethead.ablation.results import AblationResults, RunResult
from dethead.evaluation.arrays import EvaluationInput, Floats
from dethead.evaluation.calibration import BRANCHES
from dethead.evaluation.coco import coco_curves
from dethead.evaluation.curves import summarise
from dethead.evaluation.errors import ErrorTypes, error_types
from dethead.evaluation.judgements import judge
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.metrics import CocoMetrics
from dethead.evaluation.neighbours import neighbours
from dethead.evaluation.operating_points import OperatingPoint, find_operating_points
from dethead.evaluation.reliability import Reliability, equal_width

BINS: Final = 15
PR_PANELS: Final = ("IoU 0.50", "IoU 0.75", "mean over IoU 0.50 to 0.95")


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """A finished run."""

    result: RunResult
    given: EvaluationInput
    table: MatchTable
    metrics: CocoMetrics
    precision: Floats
    """(3, 101) precision over recall, the mean over classes, of the ``PR_PANELS``."""
    errors: ErrorTypes
    best_f1: OperatingPoint
    """Over all classes together, at IoU 0.5."""
    reliability: dict[str, Reliability]
    """By branch; empty if there are scores that are no probabilities."""


def measure_run(result: RunResult) -> MeasuredRun:
    """Measure a finished run.

    Raises:
        ValueError: the run is not finished.
    """
    given, table = result.given, result.table
    if given is None or table is None:
        raise ValueError(f"{result.folder}: is not finished")
    curves = coco_curves(table)
    objects = np.bincount(given.truth.label[~given.truth.crowd], minlength=len(given.class_names))
    rules = table.rules
    area = rules.range_place("all")
    by_threshold = curves.precision[:, :, :, area]
    halves = [by_threshold[rules.threshold_place(iou)] for iou in (0.5, 0.75)]
    panels = np.stack([*halves, by_threshold.mean(axis=0)])
    return MeasuredRun(
        result=result,
        given=given,
        table=table,
        metrics=summarise(curves, rules, given.class_names, objects.tolist()),
        precision=panels[:, :, objects > 0].mean(axis=2) if objects.any() else panels.mean(axis=2),
        errors=error_types(given, table, neighbours(given, table)),
        best_f1=find_operating_points(table).together,
        reliability=_reliability(given, table),
    )


def _reliability(given: EvaluationInput, table: MatchTable) -> dict[str, Reliability]:
    found = given.detections
    branches = (found.scores, found.class_probabilities, found.confidence)
    for values in branches:
        if values is not None and ((values < 0) | (values > 1)).any():
            return {}
    judged = zip(BRANCHES, judge(given, table), strict=True)
    once = {name: one.select(one.first) for name, one in judged if one is not None}
    return {name: equal_width(one.predicted, one.right, BINS) for name, one in once.items()}


@dataclass(frozen=True, eq=False)
class MeasuredVariant:
    """All finished runs of a variant, by seed."""

    variant: Variant
    style: str
    """CSS class of its colour on the page."""
    is_baseline: bool
    runs: tuple[MeasuredRun, ...]

    @property
    def name(self) -> str:
        """Give the variant's name."""
        return self.variant.name

    def numbers(self, name: str) -> list[float]:
        """Give one of the 12 numbers for each seed."""
        return [getattr(run.metrics, name) for run in self.runs]

    @cached_property
    def mean_ap(self) -> float:
        """Give the mean AP over seeds, nan without a run."""
        known = [ap for ap in self.numbers("AP") if not math.isnan(ap)]
        return sum(known) / len(known) if known else math.nan

    def totals(self, name: str) -> list[float]:
        """Give a number of ``metrics.json`` about the whole run, for each seed; nan where it is missing."""
        return [_number(run.result.totals.get(name)) for run in self.runs]

    def pooled(self, branch: str) -> Reliability | None:
        """Put the claims of all seeds in one diagram; None if a run has none of the branch."""
        diagrams = [run.reliability.get(branch) for run in self.runs]
        return None if not diagrams or None in diagrams else _pool([one for one in diagrams if one])


def _pool(diagrams: Sequence[Reliability]) -> Reliability:
    claims = np.stack([one.claims for one in diagrams])
    total = claims.sum(axis=0)

    def mean(name: str) -> Floats:
        values = np.stack([getattr(one, name) for one in diagrams])
        sums: Floats = (np.where(claims > 0, values, 0.0) * claims).sum(axis=0)
        return np.where(total > 0, sums / np.maximum(total, 1), np.nan)

    return Reliability(diagrams[0].edges, total, mean("predicted"), mean("right"))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


COLOURED: Final = 6
"""Variants beside the baseline that have a colour of their own; the others are grey."""


def measure(results: AblationResults) -> tuple[MeasuredVariant, ...]:
    """Measure every variant, the baseline first, then in the plan's order.

    Up to six others have colours. Of more, those furthest from the baseline's mean AP do, three of the best
    and three of the worst; the others are drawn grey.
    """
    plan = results.plan
    names = [plan.baseline, *(one.name for one in plan.variants if one.name != plan.baseline)]
    runs = {name: tuple(measure_run(run) for run in results.of(name)) for name in names}
    measured = [
        MeasuredVariant(plan.variant(name), "rest", name == plan.baseline, runs[name]) for name in names
    ]
    chosen = _chosen(measured[1:])
    styles = {name: f"s{place}" for place, name in enumerate([plan.baseline, *chosen])}
    return tuple(
        MeasuredVariant(one.variant, styles.get(one.name, "rest"), one.is_baseline, one.runs)
        for one in measured
    )


def _chosen(others: Sequence[MeasuredVariant]) -> list[str]:
    if len(others) <= COLOURED:
        return [one.name for one in others]
    ranked = sorted((one for one in others if not math.isnan(one.mean_ap)), key=lambda one: -one.mean_ap)
    half = COLOURED // 2
    extremes = ranked if len(ranked) <= COLOURED else [*ranked[:half], *ranked[-half:]]
    names = {one.name for one in extremes}
    return [one.name for one in others if one.name in names]
