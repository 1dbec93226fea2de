"""The report for machines: ``results.json`` with everything, ``results.csv`` with a row for each run."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dethead.ablation.plan import differences
from dethead.ablation.report.measured import MeasuredRun, MeasuredVariant
from dethead.ablation.report.words import protocol, versions
from dethead.ablation.results import AblationResults, RunResult
from dethead.ablation.statistics import AblationStatistics
from dethead.evaluation.metrics import NUMBER_NAMES

_TOTALS = ("train_seconds", "images_per_s", "peak_memory_bytes", "parameters")


def as_json(
    results: AblationResults, statistics: AblationStatistics | None, variants: Sequence[MeasuredVariant]
) -> dict[str, Any]:
    """Give all numbers as plain values; undefined is None."""
    measured = {run.result.planned.name: run for one in variants for run in one.runs}
    changed = differences(results.plan)
    values = {
        "name": results.plan.name,
        "baseline": results.plan.baseline,
        "seeds": list(results.plan.seeds),
        "runs_planned": len(results.runs),
        "runs_finished": len(results.finished),
        "statistics": None if statistics is None else statistics.as_dict(),
        "variants": [
            {
                "name": one.name,
                "same_as": one.variant.same_as,
                "seed_offset": one.variant.seed_offset,
                "changes": [row._asdict() for row in changed[one.name]],
                **_means(one),
            }
            for one in variants
        ],
        "runs": [_run(run, measured.get(run.planned.name)) for run in results.runs],
        "protocol": dict(protocol(results, statistics)),
        "versions": dict(versions(results)),
        "data": results.data,
    }
    plain: dict[str, Any] = _plain(values)
    return plain


def as_csv(results: AblationResults, variants: Sequence[MeasuredVariant]) -> str:
    """Give a row for each run of the plan, with all its numbers; what is not known is empty."""
    measured = {run.result.planned.name: run for one in variants for run in one.runs}
    rows = [_row(run, measured.get(run.planned.name)) for run in results.runs]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _means(one: MeasuredVariant) -> dict[str, Any]:
    """Give mean and standard deviation over seeds of the 12 numbers."""
    if not one.runs:
        return {"mean": None, "standard_deviation": None}
    values = {name: np.array(one.numbers(name)) for name in NUMBER_NAMES}
    deviations = {name: each.std(ddof=1) if len(each) > 1 else math.nan for name, each in values.items()}
    return {"mean": {name: each.mean() for name, each in values.items()}, "standard_deviation": deviations}


def _run(run: RunResult, measured: MeasuredRun | None) -> dict[str, Any]:
    values = {
        "variant": run.planned.variant.name,
        "seed": run.planned.seed,
        "state": run.state,
        "problem": run.problem,
        "folder": run.folder.name,
        "last_validation": run.metrics or None,
        "totals": run.totals or None,
        "oracles": run.oracles or None,
    }
    if measured is None:
        return values
    return values | {
        "metrics": measured.metrics.as_dict(),
        "errors": measured.errors.as_dict(),
        "best_f1": measured.best_f1.as_dict(),
        "calibration": {
            name: {"ece": diagram.ece, **diagram.as_dict()} for name, diagram in measured.reliability.items()
        },
        "precision_over_recall": measured.precision,
    }


def _row(run: RunResult, measured: MeasuredRun | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "variant": run.planned.variant.name,
        "seed": run.planned.seed,
        "training_seed": run.planned.run.seed,
        "state": run.state,
        "folder": run.folder.name,
        "epochs": run.log[-1]["epoch"] if run.log else "",
    }
    if measured is not None:
        metrics = measured.metrics
        row |= metrics.numbers()
        row |= {f"AP {one.name}": one.AP for one in metrics.per_class}
        row |= {f"AP50 lost by {kind}": cost for kind, cost in measured.errors.costs.items()}
        row |= {f"ECE {name}": diagram.ece for name, diagram in measured.reliability.items()}
        row["best F1"] = measured.best_f1.f1
    row |= {f"val loss {name}": value for name, value in run.metrics.get("losses", {}).items()}
    row |= {name: run.totals[name] for name in _TOTALS if name in run.totals}
    row["problem"] = run.problem or ""
    return {
        name: "" if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()
    }


def _plain(value: Any) -> Any:
    """Give values that JSON has: numbers of NumPy become Python's, nan and infinity None."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
