"""Learning curves: AP and every loss term over the epochs, the mean over seeds in the range of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from dethead.ablation.report.charts import Chart, Line, Scale
from dethead.ablation.report.measured import MeasuredVariant
from dethead.ablation.results import AblationResults
from dethead.evaluation.arrays import Floats
from dethead.evaluation.metrics import NUMBER_NAMES

_AP: Final = ("AP", "AP50", "AP75")
_POINTS: Final = 40  # of a training curve; the log has hundreds
_NAMES: Final = {"total": "all loss terms together", "classification": "class"}

Log = Sequence[dict[str, Any]]


class Series(NamedTuple):
    """What one run logged of one number."""

    epoch: Floats
    value: Floats


def learning_charts(results: AblationResults, variants: Sequence[MeasuredVariant]) -> list[Chart]:
    """Draw what all runs have logged so far, those that still train too.

    A panel for AP, AP50 and AP75 each, then one for each loss term: solid in training (mean of a stretch of
    steps), dashed in validation.
    """
    logs = {one.name: _logs(results, one.name) for one in variants}
    charts = [_ap_chart(name, variants, logs) for name in _AP]
    charts += [_term_chart(name, variants, logs) for name in _terms(logs.values())]
    return [chart for chart in charts if chart.lines]


def _logs(results: AblationResults, variant: str) -> list[Log]:
    return [run.log for run in results.runs if run.planned.variant.name == variant and run.log]


def _terms(logs: Iterable[Sequence[Log]]) -> list[str]:
    """Name the loss terms that any run has, the total first."""
    names = {
        name: None for of in logs for log in of for line in log for name in line.get("val", ())
    }  # a mapping keeps the order
    return [name for name in names if name not in NUMBER_NAMES]


def _ap_chart(name: str, variants: Sequence[MeasuredVariant], logs: dict[str, list[Log]]) -> Chart:
    lines = _lines(variants, lambda of: [_validation(log, name, 100.0) for log in logs[of]], "validation")
    y = Scale.around(_values(lines), zero=True)
    return Chart(f"{name}, %", "epoch", lines, _epochs(lines), y)


def _term_chart(name: str, variants: Sequence[MeasuredVariant], logs: dict[str, list[Log]]) -> Chart:
    lines = _lines(variants, lambda of: _training(logs[of], name), "training")
    validated = _lines(variants, lambda of: [_validation(log, name) for log in logs[of]], "validation")
    lines += [line._replace(dashed=True) for line in validated]
    y = Scale.around(_values(lines), log=True)
    title = f"{_NAMES.get(name, name)}{', logarithmic' if y.log else ''}"
    return Chart(title, "epoch", lines, _epochs(lines), y)


def _lines(
    variants: Sequence[MeasuredVariant], series: Callable[[str], list[Series]], when: str
) -> list[Line]:
    """Give a line for each variant that has logged anything, grey ones first and the baseline on top."""
    order = sorted(variants, key=lambda one: (one.style != "rest", one.is_baseline))
    lines = (_mean_line(one, [part for part in series(one.name) if len(part.epoch)], when) for one in order)
    return [line for line in lines if line is not None]


def _mean_line(variant: MeasuredVariant, seeds: Sequence[Series], when: str) -> Line | None:
    if not seeds:
        return None
    epochs = np.unique(np.concatenate([one.epoch for one in seeds]))
    values = np.full((len(seeds), len(epochs)), np.nan)
    for row, one in zip(values, seeds, strict=True):
        row[np.searchsorted(epochs, one.epoch)] = one.value
    known = ~np.isnan(values).all(axis=0)
    epochs, values = epochs[known], values[:, known]
    low, high = (None, None) if variant.style == "rest" else (_least(values), -_least(-values))
    return Line(f"{variant.name}, {when}", variant.style, epochs, np.nanmean(values, axis=0), low, high)


def _least(values: Floats) -> Floats:
    least: Floats = np.nanmin(values, axis=0)
    return least


def _validation(log: Log, name: str, factor: float = 1.0) -> Series:
    """Give what validations found, at the epochs after which they were made."""
    rows = [(line["epoch"], line["val"].get(name)) for line in log if "val" in line]
    known = [(epoch, factor * value) for epoch, value in rows if value is not None]
    return _series(known)


def _training(logs: Sequence[Log], name: str) -> list[Series]:
    """Give for each run means over stretches of a fortieth of the longest, at their middles.

    The stretches are those of all runs, however far each is: a mean over seeds is one of the same epochs.
    """
    each = [
        _series([(line["epoch"], line[name]) for line in log if line.get(name) is not None]) for log in logs
    ]
    if max((len(one.epoch) for one in each), default=0) <= _POINTS:
        return each
    width = np.ceil(max(one.epoch[-1] for one in each if len(one.epoch))) / _POINTS
    return [_stretched(one, width) for one in each if len(one.epoch)]


def _stretched(series: Series, width: float) -> Series:
    epoch, value = series
    place = np.minimum((epoch / width).astype(np.int64), _POINTS - 1)
    count = np.bincount(place)
    sums = np.bincount(place, weights=value)
    there = np.flatnonzero(count)
    return Series(((there + 0.5) * width).astype(np.float64), (sums[there] / count[there]).astype(np.float64))


def _series(rows: Sequence[tuple[float, float]]) -> Series:
    epoch, value = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    return Series(epoch, value)


def _values(lines: Iterable[Line]) -> list[float]:
    """Give all that the panel must show."""
    parts = (part for line in lines for part in (line.y, line.low, line.high) if part is not None)
    return [value for part in parts for value in part.tolist()]


def _epochs(lines: Iterable[Line]) -> Scale:
    return Scale(0.0, max((float(line.x[-1]) for line in lines), default=1.0), whole=True)
