"""Losses of the confidence logit: is there an object at this anchor."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dethead.boxes import at_least_float32


def confidence_bce(logits: Tensor, targets: Tensor, *, ignore: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of confidence logits.

    Args:
        logits: any shape, any float dtype.
        targets: the same shape, in [0, 1]: 0 or 1, or a quality such as the IoU of the predicted box.
        ignore: the same shape, bool: anchors that cost nothing.

    Returns:
        The loss in the same shape, exactly 0 where ignored.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> confidence_bce(torch.zeros(2), torch.tensor([1.0, 0.0]))  # ln 2
        tensor([0.6931, 0.6931])
    """
    if targets.shape != logits.shape:
        raise ValueError(f"targets {tuple(targets.shape)} do not fit logits {tuple(logits.shape)}")
    if ignore is not None and (ignore.shape != logits.shape or ignore.dtype != torch.bool):
        raise ValueError(
            f"ignore must be bool {tuple(logits.shape)}, got {ignore.dtype} {tuple(ignore.shape)}"
        )
    logits = at_least_float32(logits)
    loss = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return loss if ignore is None else loss.masked_fill(ignore, 0.0)
