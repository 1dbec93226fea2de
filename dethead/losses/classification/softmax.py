"""Losses of one choice among C classes: softmax and its logarithm."""

import torch
from torch import Tensor

from dethead.losses.checks import check_exponent, values_are_checked
from dethead.losses.classification.rows import Rows, arrange, prepare
from dethead.structures import UNKNOWN_CLASS


def softmax_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of one choice among C classes: ``logsumexp(logits) - logits[label]``.

    For soft targets ``-sum t' log p`` with ``t' = (1 - e) t + e sum(t) / C``, e the label smoothing. A row
    without label stays without. Gradient, without smoothing and for targets that sum to 1: p - t.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        label_smoothing: e in [0, 1), the share of a label that is spread over all classes.
        class_weights: as the others, see ``dethead.losses.classification``. PyTorch weighs the classes that
            smoothing adds one by one; here the factor of the label is on the whole row, as everywhere.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Returns:
        (N,) loss, at least 0.

    Source of label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7.

    Example:
        >>> from dethead.structures import IGNORE
        >>> softmax_cross_entropy(torch.zeros(3, 4), torch.tensor([2, IGNORE, -100]))  # ln 4
        tensor([1.3863, 0.0000, 0.0000])
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    if label_smoothing == 0:
        return cross_entropy(rows, rows.values)
    spread = rows.targets.sum(dim=1, keepdim=True) / rows.number_of_classes()
    smooth = (1 - label_smoothing) * rows.targets + label_smoothing * spread
    return cross_entropy(rows._replace(targets=smooth), rows.values)


def cross_entropy(rows: Rows, scores: Tensor) -> Tensor:
    """(N,) cross-entropy of the rows' targets and the softmax of (N, C) ``scores``, weighed."""
    return rows.finish(-(rows.targets * rows.log_softmax(scores)).sum(dim=1))


def negative_log_likelihood(
    log_probabilities: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Negative log-likelihood: ``-sum t_c * log_probabilities_c``, for models that end in a log-softmax.

    ``reduce(..., "mean", weights_of_labels(...))`` gives PyTorch's weighted mean. A class that is ignored is
    left out of the sum: its probability is given, there is nothing to renormalise.

    Args:
        log_probabilities: (N, C); -inf, an impossible class, is allowed where the target is 0.
        targets: (N,) or (N, C).
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Raises:
        ValueError: nan or inf, or -inf where the target is above 0; and what all class losses refuse.

    Example:
        >>> negative_log_likelihood(torch.tensor([[0.5, 0.5, 0.0]]).log(), torch.tensor([1]))  # ln 2
        tensor([0.6931])
    """
    rows = arrange(
        "log_probabilities", log_probabilities, targets, class_weights, sample_weights, ignore_index, ignore
    )
    _check_log_probabilities(rows)
    asked = rows.values.masked_fill(rows.targets == 0, 0.0)  # 0 * -inf would be nan
    return rows.finish(-(rows.targets * asked).sum(dim=1))


def multilabel_softmax(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy shared by the M labels of a box: each is wanted with probability 1/M.

    ``-sum t_c / sum(t) * log p_c``; the gradient is p - 1/M on the labels and p on the others. A row without
    label costs nothing. With one label this is ``softmax_cross_entropy``.

    Source: Mahajan et al. 2018, https://arxiv.org/abs/1805.00932, section 2.2.

    Example:
        >>> multilabel_softmax(torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))  # ln 4
        tensor([1.3863])
    """
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    total = rows.targets.sum(dim=1, keepdim=True)
    return cross_entropy(rows._replace(targets=rows.targets / total.where(total > 0, 1.0)), rows.values)


def softmax_focal(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Focal loss over a softmax: ``-sum t_c (1 - p_c)^gamma log p_c``.

    Args:
        logits: (N, C).
        targets: (N,) or (N, C).
        gamma: 0 (plain cross-entropy) or at least 1: how fast a box that is already right fades.
        class_weights: as the others, see ``dethead.losses.classification``; they take the place of alpha.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 4, with softmax for sigmoid.

    Example:
        >>> softmax_focal(torch.zeros(1, 2), torch.tensor([0]), gamma=2.0)  # ln 2 / 4
        tensor([0.1733])
    """
    check_exponent("gamma", gamma)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    log_p = rows.log_softmax(rows.values)
    # expm1 keeps 1 - p exact for a p near 1.
    return rows.finish(-(rows.targets * (-log_p.expm1()).pow(gamma) * log_p).sum(dim=1))


def _check_log_probabilities(rows: Rows) -> None:
    """Refuse nan and inf, and -inf where it would cost inf."""
    if not values_are_checked():
        return
    values = rows.values.detach()
    unsound = ~(values < torch.inf) | ((values == -torch.inf) & (rows.targets > 0))
    if unsound.any():
        row, label = unsound.nonzero()[0].tolist()
        raise ValueError(
            f"log_probabilities of row {row}, class {label}: {float(values[row, label])}; -inf is allowed "
            "where the target is 0, nan and inf nowhere"
        )
