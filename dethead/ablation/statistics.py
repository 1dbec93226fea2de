"""Is a variant better than the baseline? Differences over seeds and images, with intervals and p-values.

A difference is that of the means over seeds. It is uncertain for two reasons: other images, other seeds.
``variance`` keeps them apart and adds them up; docs/ablations.md tells how, in simple words.

V variants, S seeds, I images, C classes.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dethead.ablation.number_differences import Found, NumberDifference, corrected, find, plain
from dethead.ablation.verdicts import Evidence, Rule, Runs, Verdict, judge
from dethead.evaluation.bootstrap import Progress, spread
from dethead.evaluation.comparison import SIZES, check_same, differences_table
from dethead.evaluation.intervals import check_level, holm
from dethead.evaluation.matches import MatchTable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["AblationStatistics", "NumberDifference", "VariantComparison", "compare_variants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantComparison:
    """What the runs say about one variant against the baseline."""

    variant: str
    baseline: str
    paired: bool
    """The same seeds on both sides, compared seed by seed."""
    seeds: tuple[int, ...]
    """(S,) those that both have; those of the variant when unpaired."""
    images: int
    numbers: tuple[NumberDifference, ...]
    """The 12 numbers, in COCO's order."""
    classes: tuple[NumberDifference, ...]
    """AP of each of the C classes."""
    seed_share: float
    """Share of the variance of AP's difference that goes away with more seeds, in [0, 1]; nan unknown."""
    image_share: float
    """The rest: what goes away with more images alone."""
    detectable: float
    """Smallest true difference of AP that these runs find with 80 % power, before Holm; nan unknown."""
    seeds_needed: int | None
    """Seeds per variant that find a true difference of the margin with 80 % power on these images, before
    Holm; None: not even 1000 do, or unknown."""
    identical: bool
    """No number differs at any seed, and no class; False where none is defined."""
    verdict: Verdict
    words: str
    """The verdict in plain words."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        values = {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}
        rows = {name: [one.as_dict() for one in getattr(self, name)] for name in ("numbers", "classes")}
        return values | rows | {"seeds": [*self.seeds]}

    def as_tables(self, level: float) -> list["Table"]:
        """Give two tables for the terminal, in percent: the 12 numbers, then AP by class.

        Args:
            level: of the intervals, in (0, 1).
        """
        numbers, classes = ([row.as_difference() for row in rows] for rows in (self.numbers, self.classes))
        of = partial(differences_table, level=level, a=self.baseline, b=self.variant)
        return [
            of(f"{self.variant} against {self.baseline}, means over seeds, %", "number", numbers),
            of("AP by class, means over seeds, %", "class", classes),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationStatistics:
    """All comparisons of an ablation."""

    comparisons: tuple[VariantComparison, ...]
    """(V - 1,) in the order of the variants."""
    level: float
    """Of the intervals, in (0, 1); a Holm-corrected p-value up to 1 - level is called a difference."""
    margin: float
    """The difference of AP that matters, in (0, 1)."""
    resamples: int
    seed: int
    """Of the resamples."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        settings = {name: getattr(self, name) for name in ("level", "margin", "resamples", "seed")}
        return settings | {"comparisons": [one.as_dict() for one in self.comparisons]}


def compare_variants(
    tables: Mapping[str, Mapping[int, MatchTable]],
    baseline: str,
    *,
    unpaired: Collection[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    margin: float = 0.005,
    progress: Progress | None = None,
) -> AblationStatistics:
    """Compare every variant with the baseline, on the same images.

    Paired variants are compared at the seeds that both have. All runs are resampled with the same images, so
    what is hard for all cancels out.

    Args:
        tables: variant -> seed -> what the run detected, matched; of I >= 2 images.
        baseline: one of them.
        unpaired: variants whose seeds have nothing to do with the baseline's, whatever their numbers.
        resamples: B >= 2 of the images. They measure variances alone: 500 know a standard error to 3 %.
        seed: of the resamples.
        level: in (0, 1).
        margin: the difference of AP that matters, in (0, 1).
        progress: is told of B weightings for every table.

    Raises:
        ValueError: no such baseline or unpaired variant, a variant that has no seed in common with the
            baseline, or no run; tables of other images, classes, rules or objects; fewer than 2 images or
            resamples; a level or margin outside (0, 1).
    """
    check_level(level)
    if resamples < 2 or not 0 < margin < 1:
        raise ValueError(f"resamples must be at least 2 and margin in (0, 1), got {resamples} and {margin}")
    all_runs = _runs(tables, baseline, unpaired)
    _check_same_truth(tables, baseline)
    spreads = {
        name: {at: spread(table, resamples, seed, "percentile", progress) for at, table in of_seed.items()}
        for name, of_seed in tables.items()
    }
    class_names = next(iter(tables[baseline].values())).class_names
    found = [find(spreads, runs, class_names, level) for runs in all_runs]
    p_holms = holm(np.array([math.nan if one.identical else one.numbers[0].p_value for one in found]))
    rule = Rule(level=level, margin=margin, family=int((~np.isnan(p_holms)).sum()))
    conclusions = zip(all_runs, found, p_holms.tolist(), strict=True)
    return AblationStatistics(
        comparisons=tuple(_conclude(runs, one, p_holm, rule) for runs, one, p_holm in conclusions),
        level=level,
        margin=margin,
        resamples=resamples,
        seed=seed,
    )


def _runs(
    tables: Mapping[str, Mapping[int, MatchTable]], baseline: str, unpaired: Collection[str]
) -> list[Runs]:
    """Decide which runs are compared, of every variant but the baseline."""
    for name in (baseline, *unpaired):
        if name not in tables:
            raise ValueError(f"there is no variant {name!r}; there are {', '.join(map(repr, tables))}")
    if not tables[baseline]:
        raise ValueError(f"the baseline {baseline!r} has no run")
    found = []
    for name, of_seed in tables.items():
        if name == baseline:
            continue
        sides = sorted(of_seed), sorted(tables[baseline])
        if name not in unpaired:
            sides = (sorted({*of_seed} & {*tables[baseline]}),) * 2
        if not all(sides):
            raise ValueError(
                f"variant {name!r} has no seed in common with the baseline {baseline!r}: seeds "
                f"{sorted(of_seed)} and {sorted(tables[baseline])} are there"
            )
        images = len(of_seed[sides[0][0]].image_ids)
        found.append(Runs(name, baseline, name not in unpaired, tuple(sides[0]), tuple(sides[1]), images))
    return found


def _check_same_truth(tables: Mapping[str, Mapping[int, MatchTable]], baseline: str) -> None:
    first = next(iter(tables[baseline].values()), None)
    for name, of_seed in tables.items():
        for at, table in of_seed.items():
            try:
                check_same(first or table, table)
            except ValueError as error:
                raise ValueError(f"variant {name!r}, seed {at}, and the baseline: {error}") from None


def _conclude(runs: Runs, found: Found, p_holm: float, rule: Rule) -> VariantComparison:
    """Correct the p-values and say what follows from them."""
    sizes = [row.name in SIZES for row in found.numbers]
    numbers = corrected(found.numbers, sizes)
    numbers[0] = replace(numbers[0], p_holm=numbers[0].p_value if found.identical else p_holm)
    ap, noise = numbers[0], found.noise
    verdict, words = judge(
        runs, Evidence(ap.difference, ap.interval, ap.p_value, ap.p_holm, noise, found.identical), rule
    )
    return VariantComparison(
        variant=runs.variant,
        baseline=runs.baseline,
        paired=runs.paired,
        seeds=runs.seeds,
        images=runs.images,
        numbers=tuple(numbers),
        classes=tuple(corrected(found.classes, [True] * len(found.classes))),
        seed_share=noise.seed_share,
        image_share=1 - noise.seed_share,
        detectable=noise.detectable(rule.level),
        seeds_needed=noise.seeds_needed(rule.margin, rule.level),
        identical=found.identical,
        verdict=verdict,
        words=words,
    )
