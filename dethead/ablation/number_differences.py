"""One number of a variant against the baseline's: the difference, its interval and its p-value."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dethead.ablation.variance import UNKNOWN, Group, Noise, measure
from dethead.ablation.verdicts import Runs
from dethead.evaluation.bootstrap import FEWEST_IMAGES, Samples, Spread
from dethead.evaluation.comparison import Difference
from dethead.evaluation.intervals import Interval, holm
from dethead.evaluation.metrics import NUMBER_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberDifference:
    """One number of the baseline and of a variant, in [0, 1]; ``nan`` where it is undefined."""

    name: str
    """A number's name, or a class."""
    images: int
    """With an object that it measures."""
    baseline: float
    """Mean over seeds."""
    variant: float
    """Mean over seeds."""
    difference: float
    """Variant - baseline: above 0, the variant is better."""
    interval: Interval
    """Of the difference, over images and (with two seeds or more) seeds; nan with objects in fewer than 10
    images, unless nothing differs."""
    p_value: float
    """Two-sided, of "no difference"; nan where there is no interval."""
    p_holm: float
    """Corrected for its family: AP over the comparisons of the ablation, the identical ones left out; APs,
    APm and APl within their comparison; the classes within theirs. nan: in no family."""
    by_seed: tuple[float, ...]
    """(S,) the difference at each of the comparison's seeds; unpaired: from the baseline's mean."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        values = {key: plain(value) for key, value in asdict(self).items()}
        return values | {"interval": self.interval.as_list(), "by_seed": [plain(one) for one in self.by_seed]}

    def as_difference(self) -> Difference:
        """Give what is left without seeds: A is the baseline, B the variant."""
        kept = {name: getattr(self, name) for name in ("name", "images", "difference", "interval")}
        return Difference(**kept, a=self.baseline, b=self.variant, p_value=self.p_value, p_holm=self.p_holm)


class Found(NamedTuple):
    """A comparison before its p-values are corrected."""

    numbers: list[NumberDifference]
    classes: list[NumberDifference]
    noise: Noise
    """Of AP."""

    @property
    def identical(self) -> bool:
        """Whether nothing differs at any seed."""
        differences = [one for row in self.numbers + self.classes for one in row.by_seed]
        return {one for one in differences if not math.isnan(one)} == {0.0}


def find(
    spreads: Mapping[str, Mapping[int, Spread]], runs: Runs, class_names: Sequence[str], level: float
) -> Found:
    """Compute every difference of one comparison.

    Args:
        spreads: variant -> seed -> numbers of the run on all images and on B resamples, in all runs the same.
        runs: which are compared.
        class_names: (C,)
        level: of the intervals, in (0, 1).
    """
    variant = [spreads[runs.variant][at] for at in runs.seeds]
    baseline = [spreads[runs.baseline][at] for at in runs.baseline_seeds]

    def row(name: str, take: Callable[[Spread], Samples]) -> tuple[NumberDifference, Noise]:
        sides = [take(one) for one in variant], [take(one) for one in baseline]
        return _difference(name, *sides, runs, level)

    numbers = [row(name, partial(Spread.number, place=at)) for at, name in enumerate(NUMBER_NAMES)]
    classes = [row(name, partial(Spread.class_ap, label=at)) for at, name in enumerate(class_names)]
    return Found([one for one, _ in numbers], [one for one, _ in classes], numbers[0][1])


def _difference(
    name: str, variant: list[Samples], baseline: list[Samples], runs: Runs, level: float
) -> tuple[NumberDifference, Noise]:
    """Compare one number; its noise comes along."""
    of_variant, of_baseline = _group(variant), _group(baseline)
    if runs.paired:
        groups = [Group(*(v - b for v, b in zip(of_variant, of_baseline, strict=True)))]
    else:
        groups = [of_variant, Group(*(-values for values in of_baseline))]
    difference = float(sum(group.full.mean() for group in groups))
    noise = UNKNOWN
    if variant[0].images >= FEWEST_IMAGES or difference == 0:
        noise = measure(groups, runs.images, variant[0].images)
    p_value = noise.p_value(difference)
    found = NumberDifference(
        name=name,
        images=variant[0].images,
        baseline=float(of_baseline.full.mean()),
        variant=float(of_variant.full.mean()),
        difference=difference,
        interval=noise.interval(difference, level),
        p_value=p_value,
        p_holm=math.nan,
        by_seed=tuple(
            (of_variant.full - (of_baseline.full if runs.paired else of_baseline.full.mean())).tolist()
        ),
    )
    return found, noise


def _group(samples: list[Samples]) -> Group:
    full = np.concatenate([one.full for one in samples])
    return Group(full, np.stack([one.resampled for one in samples], axis=1))


def corrected(rows: list[NumberDifference], in_family: list[bool]) -> list[NumberDifference]:
    """Fill in ``p_holm`` of those in the family; that of the others is nan."""
    p_values = [row.p_value if chosen else math.nan for row, chosen in zip(rows, in_family, strict=True)]
    p_holms = holm(np.array(p_values, dtype=np.float64)).tolist()
    return [replace(row, p_holm=p_holm) for row, p_holm in zip(rows, p_holms, strict=True)]


def plain(value: Any) -> Any:
    """Give the value for JSON: None for nan."""
    return None if isinstance(value, float) and math.isnan(value) else value
