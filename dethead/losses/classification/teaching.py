"""Losses that teach a whole distribution: of soft labels, or of another model."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dethead.losses.checks import check_above_zero, check_finite, per_row, values_are_checked
from dethead.losses.classification.rows import Rows, as_float, prepare, split_mask
from dethead.structures import UNKNOWN_CLASS

SUM_TOLERANCE = 0.01
"""How far a distribution's sum may be from 1: half precision rounds, a multi-hot row is off by far more."""


def kl_divergence(
    logits: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence from soft labels: ``T^2 sum t_c (log t_c - log softmax(z / T)_c)``.

    0 log 0 counts as 0, so that the divergence from a one-hot row at T = 1 is the cross-entropy. The factor
    T^2 keeps the gradient's size when T changes.

    Args:
        logits: (N, C).
        targets: (N,), or (N, C) rows that sum to 1 or hold zeros only, which cost nothing. Where classes are
            ignored, what is left of a row may sum to less.
        temperature: T above 0; the targets are taken as they are.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Raises:
        ValueError: a row that is no distribution; and what all class losses refuse.

    Source: Kullback and Leibler 1951; temperature: Hinton et al. 2015, https://arxiv.org/abs/1503.02531.

    Example:
        >>> kl_divergence(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))  # ln 2, 0
        tensor([0.6931, 0.0000])
    """
    check_above_zero("temperature", temperature)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    _check_distributions(rows)
    return _divergence(rows, temperature)


def distillation(
    logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float,
    activation: Literal["softmax", "sigmoid"] = "softmax",
    sample_weights: Tensor | None = None,
    ignore: Tensor | None = None,
) -> Tensor:
    """Divergence of the student's probabilities from a teacher's, both at temperature T, times T^2.

    Args:
        logits: (N, C) of the student.
        teacher_logits: (N, C); no gradient flows into them.
        temperature: T above 0; above 1 it shows what the teacher thinks of the wrong classes.
        activation: "softmax": one distribution over C classes; "sigmoid": C yes/no distributions, summed.
        sample_weights: (N,).
        ignore: (N,) or (N, C).

    Returns:
        (N,) loss, at least 0, and 0 where the two agree.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, another activation.

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2.

    Example:
        >>> distillation(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 2.0]]), temperature=4.0)
        tensor([0.])
    """
    check_above_zero("temperature", temperature)
    rows = _student_and_teacher(logits, teacher_logits, sample_weights, ignore)
    teacher = rows.targets / temperature
    if activation == "softmax":
        return _divergence(rows._replace(targets=rows.log_softmax(teacher).exp()), temperature)
    if activation != "sigmoid":
        raise ValueError(f"activation must be 'softmax' or 'sigmoid', got {activation!r}")
    student = rows.values / temperature
    yes = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    no = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return temperature**2 * rows.sum_terms(yes + no)


def _student_and_teacher(
    logits: Tensor, teacher_logits: Tensor, sample_weights: Tensor | None, ignore: Tensor | None
) -> Rows:
    """Rows whose targets are the teacher's logits."""
    if logits.ndim != 2 or teacher_logits.shape != logits.shape:
        raise ValueError(
            "logits and teacher_logits must both be (N, C), got "
            f"{tuple(logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    values = as_float("logits", logits)
    teacher = as_float("teacher_logits", teacher_logits.detach()).to(values.dtype)
    check_finite("logits", values)
    check_finite("teacher_logits", teacher)
    factor = None if sample_weights is None else per_row("sample_weights", sample_weights, values)
    absent, ignored = split_mask(ignore, values)
    return Rows(values, teacher, absent, ignored, factor)


def _divergence(rows: Rows, temperature: float) -> Tensor:
    """(N,) T^2 KL(targets || softmax(values / T)), weighed."""
    log_p = rows.log_softmax(rows.values / temperature)
    terms = torch.xlogy(rows.targets, rows.targets) - rows.targets * log_p
    return temperature**2 * rows.sum_terms(terms)


def _check_distributions(rows: Rows) -> None:
    if not values_are_checked():
        return
    sums = rows.targets.sum(dim=1)
    short = sums == 0 if rows.absent is None else (sums == 0) | rows.absent.any(dim=1)
    wrong = (sums > 1 + SUM_TOLERANCE) | ((sums < 1 - SUM_TOLERANCE) & ~short)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"targets of row {row} sum to {float(sums[row]):.6g}, a distribution sums to 1")
