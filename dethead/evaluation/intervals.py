"""What resamples say: confidence intervals, p-values, and Holm's correction for many of them.

Everywhere a resample that has no value (``nan``) is left out.
"""

import math
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from dethead.evaluation.arrays import Floats

_NORMAL = NormalDist()
_ROUNDING = 1e-12
"""Two numbers in [0, 1] nearer than this are the same: sums of a thousand terms differ by less."""


IntervalKind = Literal["percentile", "bca"]


class Interval(NamedTuple):
    """Both ends, ``nan`` where there is nothing to say."""

    low: float
    high: float

    def as_list(self) -> list[float | None]:
        """Give plain values for JSON; unknown is None."""
        return [None if math.isnan(end) else end for end in self]


_UNKNOWN = Interval(math.nan, math.nan)


def percentile_interval(resampled: Floats, level: float = 0.95) -> Interval:
    """Cut off the same share of the resamples on both sides.

    Args:
        resampled: (S,) the number on each resample.
        level: in (0, 1).

    Raises:
        ValueError: a level outside (0, 1).

    Example:
        >>> [round(end, 9) for end in percentile_interval(np.linspace(0, 1, 1001), 0.9)]
        [0.05, 0.95]
    """
    check_level(level)
    values = resampled[~np.isnan(resampled)]
    if not len(values):
        return _UNKNOWN
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bca_interval(resampled: Floats, estimate: float, left_out: Floats, level: float = 0.95) -> Interval:
    """Correct the percentiles for bias and for a spread that changes with the number (BCa).

    With ``z0`` the normal quantile of the share of resamples below the estimate, and the acceleration
    ``a = sum(d^3) / (6 sum(d^2)^1.5)`` of ``d = mean(left_out) - left_out``, an end stands at the share
    ``Phi(z0 + (z0 + z) / (1 - a (z0 + z)))`` of the resamples, where z is the normal quantile of the end.

    Args:
        resampled: (S,) the number on each resample.
        estimate: the number on all images.
        left_out: (G,) the number without each image, or group of images.
        level: in (0, 1).

    Raises:
        ValueError: a level outside (0, 1).

    Source: Efron, "Better Bootstrap Confidence Intervals", 1987; Efron and Tibshirani 1993, chapter 14.
    """
    check_level(level)
    values = resampled[~np.isnan(resampled)]
    if not len(values) or math.isnan(estimate):
        return _UNKNOWN
    offset = values - estimate
    below = (offset < -_ROUNDING).sum() + (np.abs(offset) <= _ROUNDING).sum() / 2
    bias = _NORMAL.inv_cdf(float(np.clip(below, 0.5, len(values) - 0.5)) / len(values))
    acceleration = _acceleration(left_out)

    def share(end: float) -> float:
        from_bias = bias + _NORMAL.inv_cdf(end)
        # |a| <= 1 / 6; an estimate beyond almost all of very many resamples would turn the sign.
        return _NORMAL.cdf(bias + from_bias / max(1 - acceleration * from_bias, 0.1))

    low, high = np.quantile(values, [share((1 - level) / 2), share((1 + level) / 2)])
    return Interval(float(low), float(high))


def _acceleration(left_out: Floats) -> float:
    values = left_out[~np.isnan(left_out)]
    influence = values.mean() - values if len(values) else values
    squares = float((influence**2).sum())
    if squares <= _ROUNDING**2 * max(len(values), 1):
        return 0.0
    return float((influence**3).sum() / (6 * squares**1.5))


def shifted_p_value(differences: Floats, difference: float) -> float:
    """Give the two-sided p-value of "no difference": how often shifted resamples are as far from 0.

    ``p = (1 + #{|d_s - d| >= |d|}) / (1 + S)``: if there were no difference, resamples would lie around 0 as
    they now lie around ``d``. Never 0: S resamples cannot tell less than 1 / (1 + S).

    Args:
        differences: (S,) of the two numbers, on each resample.
        difference: on all images.

    Returns:
        In (0, 1]; nan if the difference is undefined, or if it is not 0 and all resamples have the same: then
        the images do not say how far it varies.

    Source: Efron and Tibshirani 1993, chapter 16.
    """
    away = differences[~np.isnan(differences)] - difference
    if not _says_something(away, difference):
        return math.nan
    far = int((np.abs(away) >= abs(difference) - _ROUNDING).sum())
    return (1 + far) / (1 + len(away))


def normal_p_value(differences: Floats, difference: float) -> float:
    """Give the p-value of "no difference" by the normal curve: ``2 Phi(-|d| / std(d_s))``.

    For p-values smaller than the resamples can count; arguments and nan as in ``shifted_p_value``.
    """
    away = differences[~np.isnan(differences)] - difference
    if not _says_something(away, difference):
        return math.nan
    if abs(difference) <= _ROUNDING:
        return 1.0
    return 2 * _NORMAL.cdf(-abs(difference) / float(away.std(ddof=1)))


def _says_something(away: Floats, difference: float) -> bool:
    if math.isnan(difference) or abs(difference) <= _ROUNDING:
        return not math.isnan(difference)
    return len(away) > 0 and bool(np.ptp(away) > _ROUNDING)


def holm(p_values: Floats) -> Floats:
    """Correct a family of p-values, so that the chance of *any* false alarm stays at the level.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none gets below a smaller one.

    Args:
        p_values: (m,) in [0, 1]; nan is no test and stays nan.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.

    Example:
        >>> holm(np.array([0.01, 0.04, float("nan"), 0.03])).round(9).tolist()
        [0.03, 0.06, nan, 0.06]
    """
    corrected = np.full(len(p_values), np.nan)
    tests = np.flatnonzero(~np.isnan(p_values))
    order = tests[np.argsort(p_values[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return corrected


def check_level(level: float) -> None:
    """Refuse a level that is no share.

    Raises:
        ValueError: outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
