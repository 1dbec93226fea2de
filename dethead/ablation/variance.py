"""How far a difference of mean AP would move with other images and other seeds.

With ``d_s`` the difference at seed s on all images, think of ``d_s = mu + a_s + e + g_s``: the true
difference, what the seed does on any images, what the images do at any seed, and what seed and images do
together. The mean over S seeds then has the variance ``V_I + V_S``, with

- ``V_I = Var(e)``, from the image bootstrap: the part of it that all seeds share;
- ``V_S = (Var(a) + Var(g)) / S``, from the sample variance of ``d_s`` over seeds, divided by S.

The image bootstrap of the mean has the variance ``Var(e) + Var(g) / S``, so adding it to ``V_S`` would count
``Var(g)`` twice. How much of it is Var(g) shows in the same resamples, as what their seeds do not share.

The interval is Cochran and Cox's: of two variances with their own degrees of freedom, the quantile is the
mean of the two t quantiles, weighted by the variances. With few seeds Satterthwaite's degrees of freedom of
the sum (1946), the usual choice, are too large: where chance makes two seeds agree, they trust them. The
levels of both stand in docs/ablations.md.

Source: Brennan, "Generalizability Theory", 2001, chapters 3 and 6 (variance components of crossed designs);
Owen, "The pigeonhole bootstrap", 2007 (what resampling both ways measures); Cochran and Cox, "Experimental
Designs", 1957, section 4.14 (the weighted quantile).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from dethead.ablation.quantiles import TAILS, chi_square, normal_cdf, t_quantiles
from dethead.evaluation.arrays import Floats
from dethead.evaluation.intervals import Interval

POWER = 0.8
"""The usual chance to find what is there."""
MOST_SEEDS = 1000
"""Nobody trains more often than that to compare two settings."""
_NOTHING = 1e-24
"""Variances of numbers in [0, 1] below this are rounding."""


class Group(NamedTuple):
    """One number of S runs whose mean is taken: of a variant, or the differences of paired runs."""

    full: Floats
    """(S,) on all images."""
    resampled: Floats
    """(B, S) on resampled images, each row the same images in every run; nan: undefined there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What the difference of two means is uncertain by. Variances are nan where they are unknown."""

    images: float
    """V_I, variance of the difference that comes from images."""
    image_df: float
    """Its degrees of freedom."""
    seeds: float
    """V_S, variance of the difference that comes from seeds; 0 with one seed, which shows nothing of it."""
    seed_df: float
    """Its degrees of freedom; 0 with one seed."""
    one_seed: float
    """V_S if there were one seed on each side; nan with one seed."""
    sides: float
    """Degrees of freedom that each further seed brings: 1 for pairs, 1 to 2 for two sides by Welch."""

    @property
    def total(self) -> float:
        """Variance of the difference."""
        return self.images + self.seeds

    @property
    def seed_share(self) -> float:
        """Share of the variance that goes away with more seeds, in [0, 1]; nan unknown."""
        return self.seeds / self.total if self.seed_df and self.total > _NOTHING else math.nan

    def interval(self, difference: float, level: float) -> Interval:
        """Give the interval around a difference; ``level`` in (0, 1)."""
        half = 0.0 if self._no_difference(difference) else self._half_width(level)
        return Interval(difference - half, difference + half)

    def p_value(self, difference: float) -> float:
        """Give the two-sided p-value of "no difference": 1 - the level whose interval ends at 0.

        Returns:
            In [1e-12, 1]; nan where the noise is unknown, or nothing varies and the difference is not 0.
        """
        if self._no_difference(difference):
            return 1.0
        if not self.total > _NOTHING or math.isnan(difference):
            return math.nan
        return float(np.exp(np.interp(abs(difference), self._half_widths(), np.log(TAILS))))

    def power(self, difference: float, level: float) -> float:
        """Give the chance that a true difference gets a p-value up to 1 - level, if the noise is this.

        The variance over seeds is taken as drawn (chi-square), that over images as known.
        """
        if not self.total > _NOTHING:
            return math.nan if math.isnan(self.total) else float(difference != 0)
        drawn, weights = chi_square(self.seed_df) if self.seed_df else (np.ones(1), np.ones(1))
        ends = self._ends(self.seeds * drawn, level)
        spread = math.sqrt(self.total)
        found = normal_cdf((difference - ends) / spread) + normal_cdf((-difference - ends) / spread)
        return float(weights @ found)

    def detectable(self, level: float, power: float = POWER) -> float:
        """Give the smallest true difference that is found with this power; nan where the noise is unknown."""
        if not self.total > _NOTHING:
            return math.nan
        low, high = 0.0, 2 * self._half_width(level) + 3 * math.sqrt(self.total)
        while high - low > 1e-6 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self.power(middle, level) >= power else (middle, high)
        return high

    def with_seeds(self, seeds: int) -> Self:
        """Give the noise with so many seeds, >= 2, on each side."""
        return replace(self, seeds=self.one_seed / seeds, seed_df=self.sides * (seeds - 1))

    def on_images_alone(self) -> Self:
        """Give the noise that is left with any number of seeds."""
        return replace(self, seeds=0.0, seed_df=0.0)

    def seeds_needed(self, difference: float, level: float, power: float = POWER) -> int | None:
        """Give the fewest seeds, >= 2, that find a true difference with this power.

        Returns:
            None: not even 1000 would do, or one seed alone is known.
        """
        if math.isnan(self.one_seed) or not self.total > _NOTHING:
            return None
        low, high = 1, MOST_SEEDS
        if self.with_seeds(high).power(difference, level) < power:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            enough = self.with_seeds(middle).power(difference, level) >= power
            low, high = (low, middle) if enough else (middle, high)
        return high

    def _no_difference(self, difference: float) -> bool:
        return difference == 0 and not self.total > _NOTHING

    def _half_width(self, level: float) -> float:
        if not self.total > _NOTHING:
            return math.nan
        return float(self._ends(np.array([self.seeds]), level)[0])

    def _ends(self, seeds: Floats, level: float) -> Floats:
        """Give (K,) the half width of the interval for each of the (K,) variances from seeds."""
        of_images, of_seeds = (float(_tail(t, 1 - level)) for t in self._t())
        ends: Floats = (self.images * of_images + seeds * of_seeds) / np.sqrt(self.images + seeds)
        return ends

    def _half_widths(self) -> Floats:
        """Give (Q,) the half width for every level 1 - TAILS."""
        of_images, of_seeds = self._t()
        widths: Floats = (self.images * of_images + self.seeds * of_seeds) / math.sqrt(self.total)
        return widths

    def _t(self) -> tuple[Floats, Floats]:
        of_images = t_quantiles(self.image_df)
        return of_images, t_quantiles(self.seed_df) if self.seed_df else of_images


UNKNOWN = Noise(
    images=math.nan, image_df=math.nan, seeds=math.nan, seed_df=0.0, one_seed=math.nan, sides=math.nan
)
"""With too few images to show anything."""


def _tail(quantiles: Floats, tail: float) -> float:
    return float(np.interp(-math.log(tail), -np.log(TAILS), quantiles))


def measure(groups: Sequence[Group], images: int, measured: int) -> Noise:
    """Split the variance of a sum of means over seeds into images and seeds.

    With one seed in a group nothing is known about seeds. All that the images do counts then.

    Args:
        groups: one of the differences of paired runs; or one of each side, that of the second with its sign
            changed in both arrays.
        images: I >= 2 of the set that was resampled.
        measured: of these, with an object that the number measures.
    """
    # What few resamples have measured is no better known than what few images show.
    image_df = max(min(measured, len(groups[0].resampled)) - 1, 1)
    mean = sum(group.resampled.mean(axis=1) for group in groups)
    variance = _variance(mean, images)
    known = all(len(group.full) > 1 for group in groups)
    if not known:
        return Noise(
            images=variance, image_df=image_df, seeds=0.0, seed_df=0.0, one_seed=math.nan, sides=math.nan
        )
    shared = variance - sum(_interaction(group, images) / len(group.full) for group in groups)
    squares = np.array([group.full.var(ddof=1) for group in groups])
    counts = np.array([len(group.full) for group in groups])
    return Noise(
        images=max(shared, 0.0),
        image_df=image_df,
        seeds=float((squares / counts).sum()),
        seed_df=_welch(squares / counts, counts - 1),
        one_seed=float(squares.sum()),
        sides=_welch(squares, np.ones(len(groups))),
    )


def _interaction(group: Group, images: int) -> float:
    """Give Var(g) of one run: the variance over resamples that its runs do not share."""
    seeds = len(group.full)
    own = np.mean([_variance(one, images) for one in group.resampled.T])
    return float((own - _variance(group.resampled.mean(axis=1), images)) * seeds / (seeds - 1))


def _variance(resampled: Floats, images: int) -> float:
    """Give the variance of the (B,) resamples; that of drawing with replacement falls short by 1 / I."""
    values = resampled[~np.isnan(resampled)]
    return float(values.var(ddof=1)) * images / (images - 1) if len(values) > 1 else math.nan


def _welch(variances: Floats, df: Floats) -> float:
    """Give the degrees of freedom of a sum of variances (Welch 1938, Satterthwaite 1946)."""
    if not variances.sum() > _NOTHING:
        return float(df.sum())
    return float(variances.sum() ** 2 / (variances**2 / df).sum())
