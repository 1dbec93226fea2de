"""Is detector B better than detector A? Differences on the same images, with intervals and p-values.

Both are resampled with the same images, so what is hard for both cancels out. The test images are what is
drawn at random here: how much the numbers move with the training seed is another question.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from dethead.evaluation.arrays import Floats
from dethead.evaluation.bootstrap import Progress, Samples, spread
from dethead.evaluation.intervals import (
    Interval,
    IntervalKind,
    check_level,
    holm,
    normal_p_value,
    shifted_p_value,
)
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.metrics import NUMBER_NAMES

if TYPE_CHECKING:
    from rich.table import Table

SIZES = ("APs", "APm", "APl")
_NEEDED_BEYOND = 5
"""Resamples beyond the difference at the strictest level of a family, for p-values to be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One number of A and of B, in [0, 1]; ``nan`` where it is undefined."""

    name: str
    """A number's name, or a class."""
    images: int
    """With an object that it measures."""
    a: float
    b: float
    difference: float
    """B - A: above 0, B is better."""
    interval: Interval
    """Of the difference."""
    p_value: float
    """Two-sided, of "no difference"."""
    p_holm: float
    """Corrected for its family, the classes or the sizes; nan for a number in no family."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        plain = {key: None if value != value else value for key, value in asdict(self).items()}  # nan != nan
        return plain | {"interval": self.interval.as_list()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two detectors' results on the same images say about the difference between them."""

    numbers: tuple[Difference, ...]
    """The 12 numbers, in COCO's order. APs, APm and APl are a family."""
    classes: tuple[Difference, ...]
    """AP of each of the C classes, a family."""
    images: int
    resamples: int
    seed: int
    level: float
    """Of the intervals, in (0, 1); a p-value up to 1 - level is called a difference."""
    intervals: IntervalKind
    class_p_values: Literal["counted", "normal"]
    """How those of the classes were found, see ``compare``."""
    identical: bool
    """No number differs, and no class; False where none is defined."""

    def verdict(self) -> str:
        """Say in words what AP says."""
        ap = self.numbers[0]
        if self.identical:
            return "A and B are identical: no number differs."
        if math.isnan(ap.p_value):
            return "Nothing can be said about AP: it is undefined, or too few images have objects."
        interval = show_range(ap.interval, self.level)
        shown = f"AP {show_points(ap.difference)}, {interval}, p = {show_p(ap.p_value)}"
        if 1 / (1 + self.resamples) > 1 - self.level:
            return f"Too few resamples to tell, {self.resamples}: {shown}."
        if ap.p_value > 1 - self.level:
            most = 100 * max(abs(ap.interval.low), abs(ap.interval.high))
            return f"No difference found: {shown}. It could be as large as {most:.1f} points."
        return f"B is {'better' if ap.difference > 0 else 'worse'} than A: {shown}."

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None, in the file ``null``."""
        return {
            "verdict": self.verdict(),
            "identical": self.identical,
            "images": self.images,
            "resamples": self.resamples,
            "seed": self.seed,
            "level": self.level,
            "intervals": self.intervals,
            "numbers": [one.as_dict() for one in self.numbers],
            "class_p_values": self.class_p_values,
            "classes": [one.as_dict() for one in self.classes],
        }

    def as_tables(self) -> list["Table"]:
        """Give two tables for the terminal, in percent: the 12 numbers, then AP by class."""
        how = "normal curve" if self.class_p_values == "normal" else "counted resamples"
        return [
            differences_table("B against A, %", "number", self.numbers, self.level),
            differences_table(f"AP by class, %; p by {how}", "class", self.classes, self.level),
        ]


def compare(
    table_a: MatchTable,
    table_b: MatchTable,
    resamples: int = 2000,
    seed: int = 0,
    *,
    level: float = 0.95,
    intervals: IntervalKind = "percentile",
    progress: Progress | None = None,
) -> Comparison:
    """Compare B with A on the same images.

    The bias of resampled AP cancels out in differences: percentile intervals cover them as well as BCa ones
    (``tests/evaluation/test_coverage.py``) and need less time. P-values are those of ``shifted_p_value``.
    Those of the classes are corrected together by Holm, and so are those of the three sizes.

    S resamples tell p-values down to 1 / (1 + S); with C classes Holm asks for (1 - level) / C. Unless that
    is 5 resamples or more (8000 for 80 classes at 0.95), the p-values of all classes are taken from the
    normal curve (``normal_p_value``) in place of counting.

    A difference that is measured on objects in fewer than 10 images gets neither interval nor p-value, unless
    it is exactly 0: so few images do not show how it varies.

    Args:
        table_a: of I >= 2 images.
        table_b: of the same images, objects and rules.
        resamples: S > 0.
        seed: of the resamples.
        level: in (0, 1).
        intervals: their kind.
        progress: is told of twice ``spread_size`` weightings in all.

    Raises:
        ValueError: tables that differ in images, classes, rules or objects; fewer than 2 images, no resample;
            a level outside (0, 1).
    """
    check_level(level)
    check_same(table_a, table_b)
    a, b = (spread(table, resamples, seed, intervals, progress) for table in (table_a, table_b))
    labels = range(len(table_a.class_names))
    counted = (1 - level) * (1 + resamples) >= _NEEDED_BEYOND * len(labels)
    by_resamples = _Test(shifted_p_value, intervals, level)
    of_numbers = [by_resamples(a.number(place), b.number(place)) for place in range(len(NUMBER_NAMES))]
    of_class = by_resamples if counted else _Test(normal_p_value, intervals, level)
    of_classes = [of_class(a.class_ap(label), b.class_ap(label)) for label in labels]
    sizes = [NUMBER_NAMES.index(name) for name in SIZES]
    corrected = np.full(len(NUMBER_NAMES), np.nan)
    corrected[sizes] = holm(np.array([of_numbers[place]["p_value"] for place in sizes]))
    class_corrected = holm(np.array([one["p_value"] for one in of_classes]))
    differences = [one["difference"] for one in of_numbers + of_classes]
    return Comparison(
        numbers=_differences(NUMBER_NAMES, of_numbers, corrected),
        classes=_differences(table_a.class_names, of_classes, class_corrected),
        images=len(table_a.image_ids),
        resamples=resamples,
        seed=seed,
        level=level,
        intervals=intervals,
        class_p_values="counted" if counted else "normal",
        identical=0 in differences and all(one == 0 or math.isnan(one) for one in differences),
    )


class _Test(NamedTuple):
    """How a number of A and of B are compared."""

    p_value: Callable[[Floats, float], float]
    intervals: IntervalKind
    level: float

    def __call__(self, a: Samples, b: Samples) -> dict[str, Any]:
        """Give what ``Difference`` needs, name and correction apart."""
        difference = b.minus(a)
        full = float(difference.full[0])
        p_value, interval = math.nan, Interval(math.nan, math.nan)
        if difference.enough or full == 0:
            p_value = self.p_value(difference.resampled, full)
        if not math.isnan(p_value):
            interval = difference.interval(self.intervals, self.level)
        return {
            "images": difference.images,
            "a": float(a.full[0]),
            "b": float(b.full[0]),
            "difference": full,
            "interval": interval,
            "p_value": p_value,
        }


def _differences(
    names: Sequence[str], found: Sequence[dict[str, Any]], corrected: Floats
) -> tuple[Difference, ...]:
    rows = zip(names, found, corrected.tolist(), strict=True)
    return tuple(Difference(name=name, **one, p_holm=p_holm) for name, one, p_holm in rows)


def check_same(a: MatchTable, b: MatchTable) -> None:
    """Refuse to compare what was not measured on the same truth by the same rules.

    Raises:
        ValueError: tables that differ in classes, rules, images or objects.
    """
    if a.class_names != b.class_names:
        raise ValueError(f"the classes differ: {[*a.class_names]} and {[*b.class_names]}")
    if a.rules != b.rules:
        raise ValueError(f"the rules differ: {a.rules} and {b.rules}")
    if not np.array_equal(a.image_ids, b.image_ids):
        only = np.setxor1d(a.image_ids, b.image_ids)
        raise ValueError(
            f"the images differ: {len(a.image_ids)} and {len(b.image_ids)}, image id {only[0]} is in one only"
        )
    columns = ("object_image", "object_label", "counted")
    if not all(np.array_equal(getattr(a, column), getattr(b, column)) for column in columns):
        raise ValueError(
            f"the objects differ: {len(a.object_label)} and {len(b.object_label)} of them, or their images, "
            "classes, areas or crowds"
        )


def differences_table(
    title: str, what: str, rows: Sequence[Difference], level: float, *, a: str = "A", b: str = "B"
) -> "Table":
    """Give differences as a table for the terminal, in percent.

    Args:
        title: above it.
        what: the rows are, "class", say.
        rows: one each.
        level: of their intervals.
        a: name of A.
        b: name of B.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title))
    table.add_column(what, overflow="fold")
    for name in ("images", a, b, f"{b} - {a}", f"{100 * level:g} % interval", "p", "p, Holm"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for row in rows:
        interval = "-" if math.isnan(row.interval.low) else show_range(row.interval)
        difference = "-" if math.isnan(row.difference) else f"{100 * row.difference:+.1f}"
        shares = (_percent(row.a), _percent(row.b), difference, interval)
        table.add_row(Text(row.name), str(row.images), *shares, show_p(row.p_value), show_p(row.p_holm))
    return table


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def show_points(difference: float) -> str:
    """Write a difference in percentage points, with its sign."""
    return f"{100 * difference:+.1f} points"


def show_range(interval: Interval, level: float | None = None) -> str:
    """Write both ends in percentage points, after the level if it is given."""
    ends = f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
    return ends if level is None else f"{100 * level:g} % interval {ends}"


def show_p(value: float) -> str:
    """Write a p-value, ``-`` where it is undefined."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if value >= 1e-4 else "< 0.0001"
