"""Losses of the confidence logit: is there an object at this anchor."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.losses.elementwise import focal_terms


def confidence_bce(
    logits: Tensor,
    targets: Tensor,
    *,
    pos_weight: float | None = None,
    ignore: Tensor | None = None,
    sample_weights: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of confidence logits.

    Args:
        logits: any shape, any float dtype.
        targets: the same shape, in [0, 1]: 0 or 1, or a quality such as the IoU of the predicted box.
        pos_weight: factor on the "yes" terms alone: ``-pos_weight * t * log p - (1 - t) * log(1 - p)``.
        ignore: the same shape, bool: anchors that cost nothing.
        sample_weights: the same shape, at least 0: a factor on the whole loss of each anchor.

    Returns:
        The loss in the same shape, exactly 0 where ignored.

    Raises:
        ValueError: shapes that do not fit, a weight below 0.

    Example:
        >>> confidence_bce(torch.zeros(2), torch.tensor([1.0, 0.0]), pos_weight=2.0)  # 2 ln 2, ln 2
        tensor([1.3863, 0.6931])
    """
    _check(logits, targets, ignore, sample_weights)
    if pos_weight is not None and not 0 <= pos_weight < math.inf:
        raise ValueError(f"pos_weight must be at least 0 and finite, got {pos_weight}")
    logits = at_least_float32(logits)
    factor = None if pos_weight is None else logits.new_full((), pos_weight)
    loss = F.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), pos_weight=factor, reduction="none"
    )
    return _finish(loss, ignore, sample_weights)


def confidence_focal(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | None,
    gamma: float,
    ignore: Tensor | None = None,
    sample_weights: Tensor | None = None,
) -> Tensor:
    """Focal loss of confidence logits: anchors that are right already count less.

    Args:
        logits: any shape, any float dtype.
        targets: the same shape, in [0, 1]; a soft target costs the mean of "yes" and "no", see
            ``focal_terms``.
        alpha: share of the "yes" terms, or None for off. No default: 0.25 makes a positive count a third of
            a negative, which one should know one chose.
        gamma: 0 (no focus) or at least 1; 2 in the paper.
        ignore: the same shape, bool: anchors that cost nothing.
        sample_weights: the same shape, at least 0: a factor on the whole loss of each anchor.

    Returns:
        The loss in the same shape, exactly 0 where ignored.

    Raises:
        ValueError: shapes that do not fit, alpha or gamma out of range, a weight below 0.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 5.

    Example:
        >>> confidence_focal(torch.zeros(2), torch.tensor([1.0, 0.0]), alpha=None, gamma=2.0)  # ln 2 / 4
        tensor([0.1733, 0.1733])
    """
    _check(logits, targets, ignore, sample_weights)
    return _finish(focal_terms(logits, targets, alpha, gamma), ignore, sample_weights)


def _check(logits: Tensor, targets: Tensor, ignore: Tensor | None, sample_weights: Tensor | None) -> None:
    if targets.shape != logits.shape:
        raise ValueError(f"targets {tuple(targets.shape)} do not fit logits {tuple(logits.shape)}")
    if ignore is not None and (ignore.shape != logits.shape or ignore.dtype != torch.bool):
        raise ValueError(
            f"ignore must be bool {tuple(logits.shape)}, got {ignore.dtype} {tuple(ignore.shape)}"
        )
    if sample_weights is None:
        return
    if sample_weights.shape != logits.shape:
        raise ValueError(
            f"sample_weights {tuple(sample_weights.shape)} do not fit logits {tuple(logits.shape)}"
        )
    if (sample_weights < 0).any():
        raise ValueError(f"sample_weights must be at least 0, got {float(sample_weights.min())}")


def _finish(loss: Tensor, ignore: Tensor | None, sample_weights: Tensor | None) -> Tensor:
    """Weight the loss, and silence what is ignored."""
    if sample_weights is not None:
        loss = loss * sample_weights.to(loss.dtype)
    return loss if ignore is None else loss.masked_fill(ignore, 0.0)
