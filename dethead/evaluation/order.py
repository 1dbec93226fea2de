"""Stable orders, fast: ties decide AP, and sorting is half of the time."""

import numpy as np
from numpy.typing import NDArray

from dethead.evaluation.arrays import Bools, Floats, Ints

_DIGIT = 16  # bits; NumPy sorts 16-bit integers by radix, wider ones by merging, ten times slower


def best_first(scores: Floats) -> Ints:
    """Give the order of descending scores; equal scores keep theirs.

    Args:
        scores: (N,) without nan, N below 2^31.

    Example:
        >>> best_first(np.array([0.5, 0.9, 0.5, 0.9])).tolist()
        [1, 3, 0, 2]
    """
    # NumPy's unstable sort is vectorised. What it did to ties is put right by a second one, of unique keys:
    # number of the run of equal scores, then place.
    order: Ints = np.argsort(-scores)
    new_run = run_starts(scores[order])
    if new_run.all():
        return order
    keys = (np.cumsum(new_run) << 31) | order
    keys.sort()
    return keys & ((1 << 31) - 1)


def sort_stable(keys: NDArray[np.integer], order: Ints) -> Ints:
    """Sort an order of rows by their keys; rows of equal keys stay in the order given.

    Args:
        keys: (N,) integers >= 0.
        order: (N,) rows.

    Example:
        >>> sort_stable(np.array([1, 0, 1, 0]), np.array([3, 2, 1, 0])).tolist()
        [3, 1, 2, 0]
    """
    bits = int(keys.max()).bit_length() if len(keys) else 0
    for shift in range(0, bits, _DIGIT):
        digits = (keys >> shift).astype(np.uint16)[order]  # the cast cuts off the higher digits
        order = order[np.argsort(digits, kind="stable")]
    return order


def run_starts(values: NDArray[np.generic]) -> Bools:
    """Give (N,) True where a value differs from the one before it, and at the first."""
    starts = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts


def ranges(starts: Ints, counts: Ints) -> Ints:
    """Join the ranges ``start, start + 1, ...`` of ``count`` numbers each.

    Example:
        >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    first = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) + np.repeat(starts - first, counts)
