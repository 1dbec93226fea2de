"""From public arguments to rows of numbers: what labels, weights and ignore masks mean, in float64 NumPy.

An oracle of a loss is a function ``oracle(logits, targets, off, **settings) -> Answer`` of (N, C) arrays.
``off`` marks the elements that do not count, their targets are 0 already. It knows nothing of labels and
weights: ``answer`` below adds those, for all of them alike.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dethead.structures import IGNORE, UNKNOWN_CLASS

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Answer(NamedTuple):
    """What a loss is and how it changes."""

    loss: Array
    """(N,)"""
    gradient: Array
    """(N, C), d loss_n / d logit_nc; (N, N, C) where a row's loss depends on the logits of other rows."""


Oracle = Callable[..., Answer]


def answer(
    oracle: Oracle,
    logits: Array,
    targets: NDArray[Any],
    settings: dict[str, Any],
    *,
    class_weights: Array | None = None,
    sample_weights: Array | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Mask | None = None,
) -> Answer:
    """Weighted (N,) losses, and the (N, C) gradient of their sum."""
    off = dropped(logits.shape, targets, ignore_index, ignore)
    numbers = np.where(off, 0.0, numbers_of(targets, logits.shape[1]))
    loss, gradient = oracle(logits, numbers, off, **settings)
    factor = np.where(off.all(axis=1), 0.0, 1.0)
    if class_weights is not None:
        factor = factor * mean_weight(numbers, class_weights)
    if sample_weights is not None:
        factor = factor * sample_weights
    if gradient.ndim == 3:
        return Answer(loss * factor, np.einsum("n,nmc->mc", factor, gradient))
    return Answer(loss * factor, gradient * factor[:, None])


def dropped(shape: tuple[int, ...], targets: NDArray[Any], ignore_index: int, ignore: Mask | None) -> Mask:
    """(N, C) elements that do not count: those of ignored labels and those of the mask."""
    off = np.zeros(shape, dtype=bool)
    if targets.ndim == 1:
        off |= ((targets == IGNORE) | (targets == ignore_index))[:, None]
    if ignore is not None:
        off |= ignore if ignore.ndim == 2 else ignore[:, None]
    return off


def numbers_of(targets: NDArray[Any], classes: int) -> Array:
    """(N, C) numbers of labels, rows of zeros for those below 0."""
    if targets.ndim == 2:
        return targets.astype(np.float64)
    numbers: Array = (targets[:, None] == np.arange(classes)).astype(np.float64)
    return numbers


def mean_weight(numbers: Array, class_weights: Array) -> Array:
    """(N,) mean of the labels' weights; 1 without labels."""
    rows = [row @ class_weights / row.sum() if row.sum() > 0 else 1.0 for row in numbers]
    return np.array(rows, dtype=np.float64)
