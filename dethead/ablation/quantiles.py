"""Student's t for any number of degrees of freedom, without SciPy.

A t variable is a normal one divided by ``sqrt(W / df)``, where W is chi-square: its tail is the mean of
normal tails over W.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from dethead.evaluation.arrays import Floats

TAILS: Floats = np.geomspace(1, 1e-12, 2001)
"""(Q,) two-sided tail probabilities, falling, for which ``t_quantiles`` are known."""

_NODES = 257


class Nodes(NamedTuple):
    """A distribution as K values with weights that sum to 1."""

    values: Floats
    """(K,)"""
    weights: Floats
    """(K,)"""


def normal_cdf(values: Floats) -> Floats:
    """Give the standard normal distribution function of (...) float64; small tails keep their digits."""
    # torch.special.ndtr gives 0 from -9 on.
    cdf: Floats = torch.erfc(torch.from_numpy(values / -math.sqrt(2))).numpy() / 2
    return cdf


@lru_cache(maxsize=256)
def chi_square(df: float) -> Nodes:
    """Give W / df as nodes, W chi-square with ``df`` > 0 degrees of freedom.

    The density of ``x = log(W / df)`` is ``exp(df / 2 (x - exp(x)))`` but for a constant. It falls off fast
    on both sides, so equal steps integrate it to many digits.
    """
    wide = 12 / np.sqrt(df)
    x = np.linspace(-wide - 80 / df, wide, _NODES)
    weights = np.exp(df / 2 * (x - np.expm1(x)))
    return Nodes(np.exp(x), weights / weights.sum())


@lru_cache(maxsize=1024)
def t_quantiles(df: float) -> Floats:
    """Give (Q,) the t that is exceeded, in either direction, with each of the probabilities ``TAILS``.

    Args:
        df: degrees of freedom, > 0.
    """
    values, weights = chi_square(df)
    t = np.geomspace(1e-3, 20 * TAILS[-1] ** (-1 / df), 2001)  # beyond the last quantile of any df
    tails = 2 * normal_cdf(-np.outer(t, np.sqrt(values))) @ weights
    return np.append(0.0, np.exp(np.interp(np.log(TAILS[1:]), np.log(tails)[::-1], np.log(t)[::-1])))
