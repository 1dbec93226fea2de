"""Losses of C independent yes/no questions: sigmoids, summed over the classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dethead.losses.checks import check_exponent, check_number, first_outside, per_class
from dethead.losses.classification.rows import Rows, arrange, prepare
from dethead.losses.elementwise import focal_terms
from dethead.structures import UNKNOWN_CLASS


def sigmoid_bce(
    logits: Tensor,
    targets: Tensor,
    *,
    pos_weight: Tensor | None = None,
    neg_weight: Tensor | None = None,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of C independent yes/no questions, summed over them.

    ``-sum pos_weight_c t_c log s_c + neg_weight_c (1 - t_c) log(1 - s_c)``. Gradient without weights: s - t.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C); BACKGROUND, a row of zeros, answers "no" C times.
        pos_weight: (C,) factor on the "yes" term of each class alone.
        neg_weight: (C,) factor on the "no" term of each class alone.
        class_weights: as the others, see ``dethead.losses.classification``; multiplied by these two.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Example:
        >>> from dethead.structures import BACKGROUND, IGNORE
        >>> sigmoid_bce(torch.zeros(3, 2), torch.tensor([1, BACKGROUND, IGNORE]))  # 2 ln 2
        tensor([1.3863, 1.3863, 0.0000])
    """
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    if pos_weight is not None:
        pos_weight = per_class("pos_weight", pos_weight, rows.values)
    if neg_weight is not None:
        neg_weight = per_class("neg_weight", neg_weight, rows.values)
    return weighted_bce(rows, pos_weight, neg_weight)


def weighted_bce(rows: Rows, pos_weight: Tensor | None, neg_weight: Tensor | None) -> Tensor:
    """(N,) sum of the "yes" and "no" terms, each with its (C,) weights, 1 for None."""
    z, t = rows.values, rows.targets
    if neg_weight is None:
        return rows.sum_terms(_bce(z, t, pos_weight))
    yes, no = t * F.logsigmoid(z), (1 - t) * F.logsigmoid(-z)
    return rows.sum_terms(-(yes if pos_weight is None else pos_weight * yes) - neg_weight * no)


def probability_bce(
    probabilities: Tensor,
    targets: Tensor,
    *,
    pos_weight: Tensor | None = None,
    neg_weight: Tensor | None = None,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """As ``sigmoid_bce``, of probabilities instead of logits, for models that end in a sigmoid.

    Logarithms are at least -100, as in PyTorch. At the bound the gradient is 0: a probability that is exactly
    0 or 1, and wrong, does not learn. Give logits to ``sigmoid_bce`` where you have them.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N,) or (N, C).
        pos_weight: (C,) factor on the "yes" term of each class alone.
        neg_weight: (C,) factor on the "no" term of each class alone.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Raises:
        ValueError: a probability that is nan or not in [0, 1]; and what all class losses refuse.

    Example:
        >>> probability_bce(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))  # ln 2 + 0
        tensor([0.6931])
    """
    rows = arrange(
        "probabilities", probabilities, targets, class_weights, sample_weights, ignore_index, ignore
    )
    p, t = rows.values, rows.targets
    wrong = first_outside(p, 0.0, 1.0)
    if wrong is not None:
        row, label = wrong
        raise ValueError(f"probability of row {row}, class {label} is not in [0, 1]: {float(p[wrong])}")
    # log at 0 is replaced before it is taken: its gradient would be inf, and 0 * inf nan.
    least, below_one = torch.finfo(p.dtype).tiny, 1 - torch.finfo(p.dtype).eps / 2
    yes = t * p.clamp(min=least).log().masked_fill(p < least, -100.0).clamp(min=-100.0)
    no = (1 - t) * (-p.clamp(max=below_one)).log1p().masked_fill(p > below_one, -100.0)
    if pos_weight is not None:
        yes = per_class("pos_weight", pos_weight, p) * yes
    if neg_weight is not None:
        no = per_class("neg_weight", neg_weight, p) * no
    return rows.sum_terms(-(yes + no))


def sigmoid_focal(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | None,
    gamma: float,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Focal loss: ``sum -alpha t (1 - s)^gamma log s - (1 - alpha)(1 - t) s^gamma log(1 - s)``.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        alpha: in [0, 1], share of the "yes" terms; None switches it off, both terms count 1. The paper, with
            all anchors of an image in the sum: 0.25 at gamma 2.
        gamma: 0 or at least 1: how fast a question that is already answered right fades.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 5.

    Example:
        >>> sigmoid_focal(torch.zeros(1, 1), torch.tensor([0]), alpha=None, gamma=2.0)  # ln 2 / 4
        tensor([0.1733])
    """
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    return rows.sum_terms(focal_terms(rows.values, rows.targets, alpha, gamma))


def quality_focal(
    logits: Tensor,
    targets: Tensor,
    *,
    beta: float,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Focal loss for soft targets, such as the IoU of the predicted box: ``sum |t - s|^beta bce(z, t)``.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        beta: 0 (plain BCE) or at least 1; the paper uses 2. The gradient flows through the factor, too.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Li et al. 2020, https://arxiv.org/abs/2006.04388, equation 5.

    Example:
        >>> quality_focal(torch.zeros(1, 2), torch.tensor([[0.5, 0.0]]), beta=2.0)  # 0 + ln 2 / 4
        tensor([0.1733])
    """
    check_exponent("beta", beta)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    z, t = rows.values, rows.targets
    return rows.sum_terms((t - z.sigmoid()).abs().pow(beta) * _bce(z, t))


def varifocal(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float,
    gamma: float,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Fades the "no" answers alone, and weighs the "yes" answers by their quality.

    Where t > 0: ``t bce(z, t)``; where t is 0: ``-alpha s^gamma log(1 - s)``. Summed over the classes.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C); t is the quality of a box, such as its IoU.
        alpha: factor on the "no" terms, at least 0; the paper uses 0.75.
        gamma: 0 or at least 1; the paper uses 2.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Zhang et al. 2021, https://arxiv.org/abs/2008.13367, equation 2.

    Example:
        >>> targets = torch.tensor([[0.5, 0.0]])  # ln 2 (1/2 + 3/16)
        >>> varifocal(torch.zeros(1, 2), targets, alpha=0.75, gamma=2.0)
        tensor([0.4765])
    """
    check_number("alpha", alpha, low=0)
    check_exponent("gamma", gamma)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    z, t = rows.values, rows.targets
    factor = t.where(t > 0, alpha * (gamma * F.logsigmoid(z)).exp())
    return rows.sum_terms(factor * _bce(z, t))


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_pos: float,
    gamma_neg: float,
    clip: float,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Focal loss with an exponent of its own for "yes" and "no"; "no" below ``clip`` costs nothing.

    ``sum -t (1 - s)^gamma_pos log s - (1 - t) m^gamma_neg log(1 - m)`` with ``m = max(s - clip, 0)``.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        gamma_pos: 0 or at least 1; the paper uses 0.
        gamma_neg: 0 or at least 1; the paper uses 4.
        clip: in [0, 1), the probability by which "no" is eased; the paper uses 0.05.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Ridnik et al. 2021, https://arxiv.org/abs/2009.14119, equation 7.

    Example:
        >>> asymmetric(torch.zeros(1, 2), torch.tensor([0]), gamma_pos=0, gamma_neg=1, clip=0.25)  # m = 1/4
        tensor([0.7651])
    """
    check_exponent("gamma_pos", gamma_pos)
    check_exponent("gamma_neg", gamma_neg)
    if not 0 <= clip < 1:
        raise ValueError(f"clip must be in [0, 1), got {clip}")
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    z, t = rows.values, rows.targets
    yes = t * (gamma_pos * F.logsigmoid(-z)).exp() * F.logsigmoid(z)
    no = (1 - t) * _eased_no(z, gamma_neg, clip)
    return rows.sum_terms(-(yes + no))


def gradient_harmonised(
    logits: Tensor,
    targets: Tensor,
    *,
    bins: int,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """BCE in which every range of gradient sizes has the same say (GHM-C, without momentum).

    The answers of the batch, (row, class), are counted by their gradient ``g = |s - t|`` in ``bins`` equal
    ranges of [0, 1]. Of V answers in k ranges that hold any, one that shares its range with n weighs
    ``V / (n k)``, so that the weights sum to V. Rows depend on each other through these counts, and on them
    alone: they are taken as constants. What is ignored is not counted.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        bins: at least 1 (plain BCE); the paper uses 30.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Li et al. 2019, https://arxiv.org/abs/1811.05181, equations 5 to 9.

    Example:
        >>> logits = torch.tensor([[4.0], [4.0], [-4.0]])  # right, right, wrong
        >>> gradient_harmonised(logits, torch.tensor([0, 0, 0]), bins=2)  # times 3/4, 3/4, 3/2
        tensor([0.0136, 0.0136, 6.0272])
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    return rows.sum_terms(_harmony(rows, bins) * _bce(rows.values, rows.targets))


def _bce(logits: Tensor, targets: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight, reduction="none")


def _eased_no(logits: Tensor, gamma: float, clip: float) -> Tensor:
    """(N, C) ``m^gamma log(1 - m)``, m = max(s - clip, 0)."""
    if clip == 0:  # in logarithms, exact where s is nearly 1
        return (gamma * F.logsigmoid(logits)).exp() * F.logsigmoid(-logits)
    eased = (logits.sigmoid() - clip).clamp(min=0)
    return eased.pow(gamma) * ((-logits).sigmoid() + clip).clamp(max=1).log()


def _harmony(rows: Rows, bins: int) -> Tensor:
    """(N, C) weights V / (n k) of ``gradient_harmonised``, without gradient."""
    size = (rows.values.detach().sigmoid() - rows.targets).abs()
    where = (size * bins).long().clamp(max=bins - 1).flatten()  # a gradient of 1 belongs to the last range
    counted = rows.taking_part()
    # int64: float32 could not count beyond 2^24 answers.
    held = where.new_zeros(bins).scatter_add(0, where, counted.flatten().long())
    ranges = (held > 0).sum().clamp(min=1)
    weights = counted.sum() / (held.clamp(min=1) * ranges).to(size.dtype)
    return weights[where].view_as(size)
