"""Losses of single logits, any shape, that class and confidence losses share."""

import math

import torch.nn.functional as F
from torch import Tensor

from dethead.boxes import at_least_float32


def focal_terms(logits: Tensor, targets: Tensor, alpha: float | None, gamma: float) -> Tensor:
    """Focal loss of independent yes/no logits: cross-entropy that fades where the answer is already right.

    With p = sigmoid(logit): ``-alpha * t * (1-p)^gamma * log p - (1-alpha) * (1-t) * p^gamma * log(1-p)``.
    The loss is linear in the target: a soft target t costs what "yes" and "no" cost in the mean, drawn with
    probability t, so that the modulating factor belongs to the hard answer.

    Args:
        logits: any shape, any float dtype.
        targets: the same shape, in [0, 1].
        alpha: share of the "yes" terms; the "no" terms get 1 - alpha, so that 0.25 makes a positive count a
            third of a negative. None: both count 1, and at gamma 0 this is plain BCE.
        gamma: 0 or at least 1; see ``check_focal``.

    Returns:
        The unreduced loss in the same shape, float32 at least. Value and gradient are finite for any finite
        logit, because every power is taken as an exponential of a log-sigmoid.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 5.

    Example:
        >>> import torch
        >>> focal_terms(torch.zeros(2), torch.tensor([1.0, 0.0]), alpha=0.25, gamma=2.0)  # ln 2 / 16, * 3
        tensor([0.0433, 0.1300])
    """
    check_focal(alpha, gamma)
    logits = at_least_float32(logits)
    targets = targets.to(logits.dtype)
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    yes = -targets * (gamma * log_no).exp() * log_yes
    no = (targets - 1) * (gamma * log_yes).exp() * log_no
    return yes + no if alpha is None else alpha * yes + (1 - alpha) * no


def check_focal(alpha: float | None, gamma: float) -> None:
    """Refuse settings that no focal loss takes, before the first step if called from a constructor.

    Raises:
        ValueError: alpha outside [0, 1]; gamma that is neither 0 nor at least 1.
    """
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], or None for off, got {alpha}")
    if not (gamma == 0 or 1 <= gamma < math.inf):
        raise ValueError(
            f"gamma must be 0 or at least 1, got {gamma}: between 0 and 1 the slope of (1 - p)^gamma "
            "has no bound at p = 1"
        )
