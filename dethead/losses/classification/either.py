"""Losses that take softmax or sigmoid probabilities alike, by argument."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from dethead.losses.checks import check_number
from dethead.losses.classification.rows import prepare
from dethead.structures import UNKNOWN_CLASS

Activation = Literal["softmax", "sigmoid"]


def poly1(
    logits: Tensor,
    targets: Tensor,
    *,
    epsilon: float,
    activation: Activation = "softmax",
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Cross-entropy whose first polynomial coefficient is 1 + epsilon: ``CE + epsilon (1 - p of the truth)``.

    softmax: ``sum t_c (-log p_c + epsilon (1 - p_c))``; sigmoid: ``sum (bce_c + epsilon (1 - pt_c))`` with
    ``pt = t s + (1 - t)(1 - s)``.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        epsilon: at least -1; above 0 a box that is nearly right keeps more of its gradient.
        activation: which probabilities.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Leng et al. 2022, https://arxiv.org/abs/2204.12511, equation 5.

    Example:
        >>> import torch
        >>> poly1(torch.zeros(1, 2), torch.tensor([0]), epsilon=1.0)  # ln 2 + 1/2
        tensor([1.1931])
    """
    check_number("epsilon", epsilon, low=-1)
    _check_activation(activation)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    z, t = rows.values, rows.targets
    if activation == "softmax":
        log_p = rows.log_softmax(z)
        return rows.finish(-(t * (log_p + epsilon * log_p.expm1())).sum(dim=1))
    wrong = t * (-z).sigmoid() + (1 - t) * z.sigmoid()
    terms = F.binary_cross_entropy_with_logits(z, t, reduction="none") + epsilon * wrong
    return rows.sum_terms(terms)


def brier(
    logits: Tensor,
    targets: Tensor,
    *,
    activation: Activation = "softmax",
    penalty: Literal["mse", "l1", "smooth_l1"] = "mse",
    beta: float | None = None,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Distance between probabilities and targets, summed over the classes; "mse" is the Brier score.

    With d = p - t (softmax) or s - t (sigmoid): mse d^2, l1 ``|d|``, smooth_l1 ``d^2 / (2 beta)`` below beta
    and ``|d| - beta / 2`` above. Its gradient vanishes where the probability is saturated, right or wrong.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C). A row without label costs nothing under softmax.
        activation: which probabilities.
        penalty: of the difference.
        beta: where smooth_l1 turns from a square into a line, at least 0 (0 is l1); required there, refused
            elsewhere.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Brier 1950, Monthly Weather Review 78 (1).

    Example:
        >>> import torch
        >>> brier(torch.zeros(1, 2), torch.tensor([0]))  # 1/4 + 1/4
        tensor([0.5000])
    """
    _check_activation(activation)
    _check_penalty(penalty, beta)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    if activation == "sigmoid":
        return rows.sum_terms(_distance(rows.values.sigmoid(), rows.targets, penalty, beta))
    distance = _distance(rows.log_softmax(rows.values).exp(), rows.targets, penalty, beta)
    return rows.sum_terms(distance.masked_fill(~(rows.targets > 0).any(dim=1, keepdim=True), 0.0))


def _distance(probabilities: Tensor, targets: Tensor, penalty: str, beta: float | None) -> Tensor:
    if penalty == "mse":
        return (probabilities - targets).square()
    if penalty == "l1" or beta is None:
        return (probabilities - targets).abs()
    return F.smooth_l1_loss(probabilities, targets, reduction="none", beta=beta)


def _check_activation(activation: str) -> None:
    if activation not in ("softmax", "sigmoid"):
        raise ValueError(f"activation must be 'softmax' or 'sigmoid', got {activation!r}")


def _check_penalty(penalty: str, beta: float | None) -> None:
    if penalty not in ("mse", "l1", "smooth_l1"):
        raise ValueError(f"penalty must be 'mse', 'l1' or 'smooth_l1', got {penalty!r}")
    if (beta is not None) != (penalty == "smooth_l1"):
        raise ValueError(f"beta belongs to smooth_l1 and is required there, got {beta} for {penalty}")
    if beta is not None:
        check_number("beta", beta, low=0)
