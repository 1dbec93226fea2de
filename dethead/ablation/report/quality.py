"""Charts of the finished runs: precision over recall, reliability, and bars of error costs and oracles."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from dethead.ablation.report.charts import Chart, Line, Scale
from dethead.ablation.report.measured import PR_PANELS, MeasuredVariant
from dethead.evaluation.calibration import BRANCHES
from dethead.evaluation.errors import ERROR_TYPES
from dethead.evaluation.rules import RECALL_POINTS

_LEAST_CLAIMS: Final = 10  # a bin of fewer says nothing
_UNIT: Final = Scale(0.0, 1.0)
ORACLE_NAMES: Final = {"class": "classes", "confidence": "confidences", "box": "boxes", "all": "all three"}


def pr_charts(variants: Sequence[MeasuredVariant]) -> list[Chart]:
    """Draw precision over recall, the mean over classes and seeds, in the range of the seeds."""
    charts = []
    for place, title in enumerate(PR_PANELS):
        lines = []
        for one in _drawn(variants):
            curves = np.stack([run.precision[place] for run in one.runs])
            ends = (None, None) if one.style == "rest" else (curves.min(axis=0), curves.max(axis=0))
            lines.append(Line(one.name, one.style, RECALL_POINTS, curves.mean(axis=0), *ends))
        charts.append(Chart(title, "recall", lines, _UNIT, _UNIT))
    return charts if charts[0].lines else []


def reliability_charts(variants: Sequence[MeasuredVariant]) -> list[Chart]:
    """Draw for each branch the share that was right over what was predicted, all seeds in one diagram."""
    charts = []
    for branch in BRANCHES:
        lines = []
        for one in _drawn(variants):
            diagram = one.pooled(branch)
            if diagram is not None:
                known = diagram.claims >= _LEAST_CLAIMS
                line = Line(one.name, one.style, diagram.predicted[known], diagram.right[known])
                lines.append(line)
        title = branch.replace("_", " ")
        if lines:
            charts.append(Chart(title, "predicted", lines, _UNIT, _UNIT, diagonal=True))
    return charts


def _drawn(variants: Sequence[MeasuredVariant]) -> list[MeasuredVariant]:
    """Give those that have a run, grey ones first and the baseline on top."""
    there = (one for one in variants if one.runs)
    return sorted(there, key=lambda one: (one.style != "rest", one.is_baseline))


class Bar(NamedTuple):
    """One bar."""

    name: str
    style: str
    share: float
    """Of the longest bar, in [0, 1]."""
    text: str


class Bars(NamedTuple):
    """Bars of the coloured variants under one heading."""

    title: str
    bars: tuple[Bar, ...]


def error_bars(variants: Sequence[MeasuredVariant]) -> list[Bars]:
    """Show the AP50 that each type of error costs, the mean over seeds."""
    costs = {
        kind: {
            one.name: float(np.mean([run.errors.costs[kind] for run in one.runs]))
            for one in variants
            if one.runs
        }
        for kind in ERROR_TYPES
    }
    return _bars(costs, variants)


def oracle_gains(variants: Sequence[MeasuredVariant]) -> dict[str, dict[str, float]]:
    """Give the AP gained with a branch replaced by the truth, by oracle and variant, the mean over seeds.

    A variant is there if all of its finished runs have oracles.
    """
    gains: dict[str, dict[str, float]] = {}
    for one in variants:
        if not one.runs or not all(run.result.oracles for run in one.runs):
            continue
        for oracle, title in ORACLE_NAMES.items():
            each = [run.result.oracles.get(oracle, {}).get("AP") for run in one.runs]
            # Of the same images: an image that could not be read is in neither.
            now = [run.result.metrics.get("AP") for run in one.runs]
            gained = np.subtract(*(np.array(aps, dtype=np.float64) for aps in (each, now)))  # None: nan
            gains.setdefault(title, {})[one.name] = float(gained.mean())
    return gains


def oracle_bars(variants: Sequence[MeasuredVariant]) -> list[Bars]:
    """Show the AP gained with a branch replaced by the truth."""
    return _bars(oracle_gains(variants), variants)


def _bars(values: Mapping[str, Mapping[str, float]], variants: Sequence[MeasuredVariant]) -> list[Bars]:
    coloured = [one for one in variants if one.style != "rest"]
    known = [value for row in values.values() for value in row.values() if not math.isnan(value)]
    longest = max([*known, 1e-9])
    return [
        Bars(
            title,
            tuple(_bar(one, row[one.name], longest) for one in coloured if one.name in row),
        )
        for title, row in values.items()
    ]


def _bar(variant: MeasuredVariant, value: float, longest: float) -> Bar:
    text = "-" if math.isnan(value) else f"{100 * value:.1f}"
    share = 0.0 if math.isnan(value) else max(value, 0.0) / longest
    return Bar(variant.name, variant.style, share, text)
