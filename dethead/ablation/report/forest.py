"""The forest plot: each variant's AP difference from the baseline with its interval, on one axis."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from dethead.ablation.report.charts import Scale
from dethead.ablation.statistics import NumberDifference, VariantComparison

VERDICTS: Final = {
    "better": "better",
    "worse": "worse",
    "no difference": "same",
    "cannot tell": "open",
    "identical": "same",
}
"""Verdict -> CSS class."""


class Row(NamedTuple):
    """One variant; places in percent of the plot's width."""

    name: str
    verdict: str
    style: str
    text: str
    """Difference and interval in words."""
    point: float | None
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    """The difference of each seed."""


class Forest(NamedTuple):
    """All rows, best first, on one axis in points of AP."""

    rows: tuple[Row, ...]
    zero: float
    ticks: tuple[tuple[float, str], ...]
    level: float

    @property
    def verdicts(self) -> set[str]:
        """Give the verdicts that occur."""
        return {row.verdict for row in self.rows}


def ranked(comparisons: Sequence[VariantComparison]) -> list[VariantComparison]:
    """Sort by AP difference, the best first; unknown ones last, in their order."""

    def key(one: VariantComparison) -> float:
        difference = headline(one).difference
        return math.inf if math.isnan(difference) else -difference

    return sorted(comparisons, key=key)


def headline(comparison: VariantComparison) -> NumberDifference:
    """Give the difference in AP."""
    return comparison.numbers[0]


def forest(comparisons: Sequence[VariantComparison], level: float) -> Forest:
    """Lay out the plot."""
    rows = ranked(comparisons)
    values = [value for one in rows for value in _ends(headline(one))]
    scale = Scale.around((100 * value for value in values), zero=True)
    ticks = tuple((_percent(share), _signed(text)) for share, text in scale.ticks())
    return Forest(tuple(_row(one, scale) for one in rows), _percent(float(scale.share(0.0))), ticks, level)


def difference_text(number: NumberDifference) -> str:
    """Say difference and interval in points.

    The sign is always there: these are differences.
    """
    if math.isnan(number.difference):
        return "-"
    text = f"{100 * number.difference:+.1f}"
    low, high = number.interval
    return text if math.isnan(low) else f"{text} ({100 * low:+.1f} to {100 * high:+.1f})"


def _ends(number: NumberDifference) -> tuple[float, ...]:
    return (number.difference, number.interval.low, number.interval.high, *number.by_seed)


def _row(comparison: VariantComparison, scale: Scale) -> Row:
    number = headline(comparison)

    def place(value: float) -> float | None:
        return None if math.isnan(value) else _percent(float(scale.share(100 * value)))

    seeds = (place(value) for value in number.by_seed)
    return Row(
        comparison.variant,
        comparison.verdict,
        VERDICTS[comparison.verdict],
        difference_text(number),
        place(number.difference),
        place(number.interval.low),
        place(number.interval.high),
        tuple(seed for seed in seeds if seed is not None),
    )


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _signed(text: str) -> str:
    return text if text.startswith("-") or text == "0" else f"+{text}"
