"""Stable orders, fast: ties decide AP, and sorting is half of the time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dethead.evaluation.arrays import Bools, Floats, Ints

_DIGIT = 16  # bits; NumPy sorts 16-bit integers by radix, wider ones by merging, ten times slower


def best_first(scores: Floats) -> Ints:
    """Give the order of descending scores; equal scores keep theirs.

    Args:
        scores: (N,) without nan.

    Example:
        >>> best_first(np.array([0.5, 0.9, 0.5, 0.9])).tolist()
        [1, 3, 0, 2]
    """
    # Plain integers are sorted several times faster than an order is found, so score and place go into one:
    # the leading bits of the score, turned over so that the best comes first, and the place behind them.
    place_bits = len(scores).bit_length()
    bits = (scores + 0.0).view(np.uint64)  # adding 0 makes -0.0 and 0.0 the same
    negative = bits >> 63 != 0
    turned = np.where(negative, bits, ~bits & np.uint64(2**63 - 1))
    keys = (turned >> place_bits << place_bits) | np.arange(len(scores), dtype=np.uint64)
    keys.sort()
    order = (keys & np.uint64((1 << place_bits) - 1)).astype(np.int64)
    sorted_scores = scores[order]
    if (sorted_scores[1:] > sorted_scores[:-1]).any():  # two scores differ in the bits that were cut off
        order = np.argsort(-scores, kind="stable")
    return order


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


def sorted_rows(columns: Sequence[NDArray[np.generic]]) -> tuple[Ints, Bools]:
    """Sort rows so that equal ones stand together.

    Args:
        columns: of (N,) values; the last counts most.

    Returns:
        (N,) order of the rows, and (N,) True where a row in that order differs from the one before it, and at
        the first.

    Example:
        >>> order, new = sorted_rows([np.array([1, 2, 1]), np.array([5, 5, 5])])
        >>> order.tolist(), new.tolist()
        ([0, 2, 1], [True, False, True])
    """
    order = np.lexsort(columns)
    return order, np.any([run_starts(column[order]) for column in columns], axis=0)


def ranges(starts: Ints, counts: Ints) -> Ints:
    """Join the ranges ``start, start + 1, ...`` of ``count`` numbers each.

    Example:
        >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    first = np.cumsum(counts) - counts
    joined: Ints = np.arange(int(counts.sum())) + np.repeat(starts - first, counts)
    return joined
