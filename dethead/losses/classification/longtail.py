"""Losses for classes of very different frequency: the counts of the classes enter the loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dethead.losses.checks import check_above_zero, check_number, per_class
from dethead.losses.classification.rows import ABSENT, prepare
from dethead.losses.classification.sigmoid import weighted_bce
from dethead.losses.classification.softmax import cross_entropy
from dethead.structures import UNKNOWN_CLASS


def logit_adjusted(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    tau: float,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of logits to which the frequency of each class is added: ``z + tau log pi``.

    The model need not learn how frequent a class is; what it learns is balanced over the classes. Predict
    with z alone.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        class_counts: (C,) boxes of each class in the data set; a class without boxes counts as one box.
            ``pi = counts / sum(counts)``.
        tau: 0 is the plain cross-entropy, 1 is ``balanced_softmax``.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Menon et al. 2021, https://arxiv.org/abs/2007.07314, equation 10.

    Example:
        >>> logit_adjusted(torch.zeros(1, 2), torch.tensor([1]), class_counts=torch.tensor([3, 1]), tau=1.0)
        tensor([1.3863])
    """
    check_number("tau", tau)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    counts = _counts(class_counts, rows.values)
    return cross_entropy(rows, rows.values + tau * (counts / counts.sum()).log())


def balanced_softmax(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """``logit_adjusted`` at tau = 1: a softmax in which each class stands for all of its boxes.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        class_counts: (C,) boxes of each class in the data set; a class without boxes counts as one box.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Ren et al. 2020, https://arxiv.org/abs/2007.10740, equation 4.
    """
    return logit_adjusted(
        logits,
        targets,
        class_counts=class_counts,
        tau=1.0,
        class_weights=class_weights,
        sample_weights=sample_weights,
        ignore_index=ignore_index,
        ignore=ignore,
    )


def ldam(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    max_margin: float,
    scale: float,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Label-distribution-aware margin: cross-entropy in which a rare class must win by more.

    For a label y: the cross-entropy of ``scale * (z - m_y onehot(y))`` with
    ``m_c = max_margin * (n_c / min n)^(-1/4)``; for several or soft labels ``sum t_y loss_y``.

    Args:
        logits: (N, C); the paper's are cosines in [-1, 1].
        targets: (N,) or (N, C).
        class_counts: (C,) boxes n_c of each class in the data set; a class without boxes counts as one box.
        max_margin: margin of the rarest class, at least 0; the paper uses 0.5.
        scale: above 0; the paper uses 30, on cosines. Take 1 for free logits.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Cao et al. 2019, https://arxiv.org/abs/1906.07413, equations 11 and 13.

    Example:
        >>> counts = torch.tensor([16, 1])  # margins 1/2 and 1: ln(1 + e^0.5), ln(1 + e)
        >>> ldam(torch.zeros(2, 2), torch.tensor([0, 1]), class_counts=counts, max_margin=1.0, scale=1.0)
        tensor([0.9741, 1.3133])
    """
    check_number("max_margin", max_margin, low=0)
    check_above_zero("scale", scale)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    counts = _counts(class_counts, rows.values)
    margins = max_margin * (counts / counts.min()).pow(-0.25)
    # Scaled below the row's largest: rounding is small where the softmax is large.
    top = rows.fill(rows.values.detach(), ABSENT).amax(dim=1, keepdim=True)
    log_p = rows.fill(scale * (rows.values - top), ABSENT).log_softmax(dim=1)
    return rows.sum_terms(-rows.targets * F.logsigmoid(log_p - scale * margins - _log_of_the_others(log_p)))


def seesaw(
    logits: Tensor,
    targets: Tensor,
    *,
    class_counts: Tensor,
    p: float,
    q: float,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Cross-entropy in which a frequent class pushes a rare one down less, unless the rare one is too high.

    For a label i the other classes enter the softmax with ``S_j e^z_j`` in place of ``e^z_j``. S_j is the
    product of the mitigation ``(N_j / N_i)^p`` where class j has fewer boxes than i, and the compensation
    ``(sigma_j / sigma_i)^q`` where class j is predicted higher than i; each is 1 elsewhere. sigma is
    softmax(z), taken as a constant.

    Args:
        logits: (N, C).
        targets: (N,), or (N, C) with at most one number above 0 in a row, which multiplies its loss.
        class_counts: (C,) boxes N_c of each class seen so far; a count below 1 is 1.
        p: at least 0, the paper uses 0.8; 0 switches the mitigation off.
        q: at least 0, the paper uses 2; 0 switches the compensation off.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Raises:
        ValueError: a row with several labels; and what all class losses refuse.

    Source: Wang et al. 2021, https://arxiv.org/abs/2008.10032, equations 4 to 7.

    Example:
        >>> counts = torch.tensor([4, 1])  # S = 1/4 for the rare class, in a row of the frequent one
        >>> seesaw(torch.zeros(2, 2), torch.tensor([0, 1]), class_counts=counts, p=1.0, q=2.0)  # ln 5/4, ln 2
        tensor([0.2231, 0.6931])
    """
    check_number("p", p, low=0)
    check_number("q", q, low=0)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    label = rows.labels("the seesaw loss")[:, None]
    seen = per_class("class_counts", class_counts, rows.values).clamp(min=1).log()
    predicted = rows.log_softmax(rows.values.detach())
    mitigation = p * (seen - seen[label]).clamp(max=0)
    compensation = q * (predicted - predicted.gather(1, label)).clamp(min=0)
    return cross_entropy(rows, rows.values + mitigation + compensation)


def equalization(
    logits: Tensor,
    targets: Tensor,
    *,
    positive_gradient: Tensor,
    negative_gradient: Tensor,
    gamma: float,
    mu: float,
    alpha: float,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Equalization loss v2: BCE that lifts the classes which have been told "no" far more often than "yes".

    With r the ratio of the positive to the negative gradient that a class has received so far:
    ``neg_weight = 1 / (1 + exp(-gamma (r - mu)))``, ``pos_weight = 1 + alpha (1 - neg_weight)``. A class
    without any gradient yet has 1 and 1.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        positive_gradient: (C,) summed absolute gradients of the logits where the answer is "yes".
        negative_gradient: (C,) of those where it is "no".
        gamma: steepness of the change, at least 0; the paper uses 12.
        mu: ratio at which a class is treated as half balanced; the paper uses 0.8.
        alpha: at least 0; the paper uses 4.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Tan et al. 2021, https://arxiv.org/abs/2012.08548, equations 4 to 6.

    Example:
        >>> sums = {"positive_gradient": torch.ones(2), "negative_gradient": torch.ones(2)}
        >>> # r = mu: neg_weight is 1/2, pos_weight 3
        >>> equalization(torch.zeros(1, 2), torch.tensor([0]), **sums, gamma=12.0, mu=1.0, alpha=4.0)
        tensor([2.4260])
    """
    check_number("gamma", gamma, low=0)
    check_number("mu", mu)
    check_number("alpha", alpha, low=0)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    positive = per_class("positive_gradient", positive_gradient, rows.values)
    negative = per_class("negative_gradient", negative_gradient, rows.values)
    neg_weight = equalizing_weight(positive, negative, gamma=gamma, mu=mu)
    return weighted_bce(rows, 1 + alpha * (1 - neg_weight), neg_weight)


def equalizing_weight(positive: Tensor, negative: Tensor, *, gamma: float, mu: float) -> Tensor:
    """(C,) weight of the "no" terms of ``equalization``; 1 for a class without any gradient yet."""
    balance = (gamma * (positive / negative.clamp(min=1e-10) - mu)).sigmoid()
    return balance.where(positive + negative > 0, 1.0)


def _counts(class_counts: Tensor, like: Tensor) -> Tensor:
    """(C,) counts, 1 for a class without boxes."""
    counts = per_class("class_counts", class_counts, like)
    return counts.where(counts > 0, 1.0)


def _log_of_the_others(log_p: Tensor) -> Tensor:
    """(N, C): in column c the log of the probability of all columns but c, without an (N, C, C) tensor.

    ``log(1 - p)`` is exact where p is at most 1/2. That leaves out the largest, whose others are summed.
    """
    classes = torch.arange(log_p.shape[1], device=log_p.device)
    largest = classes == log_p.argmax(dim=1, keepdim=True)
    of_largest = log_p.masked_fill(largest, ABSENT).logsumexp(dim=1, keepdim=True)
    return of_largest.where(largest, (-log_p.exp().masked_fill(largest, 0.0)).log1p())
