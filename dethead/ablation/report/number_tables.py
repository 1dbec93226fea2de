"""The tables of the report: numbers, classes, differences, errors, calibration, cost, runs."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from dethead.ablation.plan import differences
from dethead.ablation.report.forest import VERDICTS, headline, ranked
from dethead.ablation.report.measured import MeasuredVariant
from dethead.ablation.report.quality import oracle_gains
from dethead.ablation.report.tables import Cell, Table, mean_percent, number, percent, spread
from dethead.ablation.results import AblationResults, RunResult
from dethead.ablation.statistics import AblationStatistics, NumberDifference, VariantComparison
from dethead.evaluation.calibration import BRANCHES
from dethead.evaluation.errors import ERROR_TYPES
from dethead.evaluation.metrics import NUMBER_NAMES

_SPREAD: Final = "Mean over seeds ± standard deviation between seeds, in percent."


def numbers_table(variants: Sequence[MeasuredVariant]) -> Table:
    """Give COCO's 12 numbers of every variant."""
    rows = tuple(
        (*_name(one), *(mean_percent(one.numbers(name)) for name in NUMBER_NAMES)) for one in variants
    )
    note = f"{_SPREAD} AP is the mean over IoU 0.50 to 0.95; s, m, l: small, medium, large objects."
    return Table("numbers", "COCO numbers", ("variant", "seeds", *NUMBER_NAMES), rows, note)


def classes_table(variants: Sequence[MeasuredVariant], class_names: Sequence[str]) -> Table:
    """Give the AP of each class."""

    def aps(one: MeasuredVariant, label: int) -> list[float]:
        return [run.metrics.per_class[label].AP for run in one.runs]

    rows = tuple(
        (*_name(one), *(mean_percent(aps(one, label)) for label in range(len(class_names))))
        for one in variants
    )
    return Table("classes", "AP by class", ("variant", "seeds", *class_names), rows, _SPREAD)


def cost_table(variants: Sequence[MeasuredVariant]) -> Table:
    """Give what training a variant took."""
    rows = tuple(
        (
            *_name(one),
            spread(one.totals("images_per_s"), lambda value: f"{value:.1f}"),
            spread([seconds / 60 for seconds in one.totals("train_seconds")], lambda value: f"{value:.1f}"),
            spread([size / 2**20 for size in one.totals("peak_memory_bytes")], lambda value: f"{value:.0f}"),
            number(_first(one.totals("parameters")), lambda value: f"{value / 1e6:.2f}"),
        )
        for one in variants
    )
    head = ("variant", "seeds", "training images/s", "training min", "peak memory MiB", "parameters M")
    note = "Mean over seeds ± standard deviation. Runs that shared a machine slowed each other down."
    return Table("cost", "What training took", head, rows, note)


def differences_table(statistics: AblationStatistics, baseline: str) -> Table:
    """Give the AP difference of every variant with all that its verdict rests on."""
    level = f"{100 * statistics.level:g} %"
    head = (
        "variant",
        "verdict",
        "AP difference",
        f"{level} interval",
        "p",
        "p, Holm",
        "seeds",
        "noise from seeds",
        "detectable",
        "seeds needed",
    )
    rows = tuple(_difference_row(one) for one in ranked(statistics.comparisons))
    note = (
        f"Against {baseline}, in points of AP. p, Holm: corrected for the number of variants. Noise from "
        "seeds: share of the variance of the difference that goes away with more seeds; the rest goes away "
        "with more images. Detectable: the smallest true difference that these runs find with 80 % power. "
        f"Seeds needed: to find {100 * statistics.margin:g} points with 80 % power; - where not even very "
        "many seeds will do, or nothing is known."
    )
    return Table("differences", "Differences in AP", head, rows, note, texts=2)


def _difference_row(one: VariantComparison) -> tuple[Cell, ...]:
    ap = headline(one)
    return (
        Cell(one.variant),
        Cell(one.verdict, style=VERDICTS[one.verdict]),
        number(ap.difference, lambda value: f"{100 * value:+.1f}"),
        number(ap.interval.low, lambda low: f"{100 * low:+.1f} to {100 * ap.interval.high:+.1f}"),
        number(ap.p_value, p_text),
        number(ap.p_holm, p_text),
        Cell(f"{len(one.seeds)}{'' if one.paired else ', unpaired'}", len(one.seeds)),
        number(one.seed_share, lambda value: f"{100 * value:.0f} %"),
        number(one.detectable, lambda value: f"{100 * value:.1f}"),
        number(None if one.seeds_needed is None else float(one.seeds_needed), lambda value: f"{value:.0f}"),
    )


def comparison_tables(statistics: AblationStatistics) -> list[Table]:
    """Give, for every comparison, the difference in each of the 12 numbers and in each class."""
    return [
        Table(
            f"against-{place}",
            one.variant,
            ("number", one.baseline, one.variant, "difference", "interval", "p", "p, Holm"),
            tuple(map(_number_row, (*one.numbers, *one.classes))),
            f"{one.variant} against {one.baseline}, in percent; the last rows are the AP of each class.",
        )
        for place, one in enumerate(ranked(statistics.comparisons))
    ]


def _number_row(one: NumberDifference) -> tuple[Cell, ...]:
    low, high = one.interval
    return (
        Cell(one.name),
        percent(one.baseline),
        percent(one.variant),
        number(one.difference, lambda value: f"{100 * value:+.1f}"),
        number(low, lambda value: f"{100 * value:+.1f} to {100 * high:+.1f}"),
        number(one.p_value, p_text),
        number(one.p_holm, p_text),
    )


def errors_table(variants: Sequence[MeasuredVariant]) -> Table:
    """Give the AP50 that each type of error costs."""

    def costs(one: MeasuredVariant, kind: str) -> list[float]:
        return [run.errors.costs[kind] for run in one.runs]

    rows = tuple((*_name(one), *(mean_percent(costs(one, kind)) for kind in ERROR_TYPES)) for one in variants)
    note = "AP50 gained if this type of error alone were put right, in points; gains do not add up."
    return Table("errors", "What each type of error costs", ("variant", "seeds", *ERROR_TYPES), rows, note)


def oracles_table(variants: Sequence[MeasuredVariant]) -> Table | None:
    """Give the AP gained with each branch replaced by the truth; None if no variant has it."""
    gains = oracle_gains(variants)
    if not gains:
        return None
    there = [one for one in variants if all(one.name in row for row in gains.values())]
    rows = tuple((*_name(one), *(percent(row[one.name]) for row in gains.values())) for one in there)
    note = "AP gained if a branch gave the truth, in points, the mean over seeds."
    return Table("oracles", "AP gained with true", ("variant", "seeds", *gains), rows, note)


def calibration_table(variants: Sequence[MeasuredVariant]) -> Table:
    """Give the expected calibration error of each branch."""

    def errors(one: MeasuredVariant, branch: str) -> list[float]:
        return [run.reliability[branch].ece for run in one.runs if branch in run.reliability]

    branches = [name for name in BRANCHES if any(errors(one, name) for one in variants)]
    rows = tuple((*_name(one), *(mean_percent(errors(one, name)) for name in branches)) for one in variants)
    head = ("variant", "seeds", *(name.replace("_", " ") for name in branches))
    note = "Mean gap between what was predicted and the share that was right (ECE), in points; 0 is best."
    return Table("calibration", "Calibration error", head, rows, note)


def runs_table(results: AblationResults) -> Table:
    """Give every run of the plan and how far it is."""
    rows = tuple(
        (
            Cell(run.planned.variant.name),
            Cell(str(run.planned.seed), run.planned.seed),
            Cell(run.state, style="" if run.state == "finished" else "open"),
            _epochs(run),
            percent(run.metrics.get("AP")),
            Cell(run.problem or ""),
        )
        for run in results.runs
    )
    head = ("variant", "seed", "state", "epochs", "AP, last validation", "what happened")
    return Table("runs", "Runs", head, rows)


def _epochs(run: RunResult) -> Cell:
    """Show how far a run is."""
    done = float(run.log[-1]["epoch"]) if run.log else 0.0
    return Cell(f"{done:.3g} of {run.planned.run.training.epochs}", done)


def changes_table(results: AblationResults) -> Table:
    """Give every key in which a variant is not as the baseline."""
    rows = [
        (Cell(name), Cell(row.key), Cell(str(row.baseline)), Cell(str(row.variant)))
        for name, changes in differences(results.plan).items()
        for row in changes
    ]
    head = ("variant", "key", results.plan.baseline, "variant's value")
    note = "All other keys are the same for all variants."
    return Table("changes", "What the variants change", head, tuple(rows), note, texts=4)


def p_text(value: float) -> str:
    """Show a p-value.

    Example:
        >>> p_text(0.0312), p_text(0.00001)
        ('0.031', '< 0.001')
    """
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _name(one: MeasuredVariant) -> tuple[Cell, Cell]:
    suffix = " (baseline)" if one.is_baseline else ""
    return Cell(f"{one.name}{suffix}", style=one.style), Cell(str(len(one.runs)), len(one.runs))


def _first(values: Sequence[float]) -> float:
    return values[0] if values else float(np.nan)
