"""Pure class losses: tensors in, one unreduced value per row out (float32; float64 stays).

Every function takes (N, C) raw logits of any float dtype and targets in one of two forms: (N,) int64 labels,
or (N, C) numbers in [0, 1], soft or multi-hot. What is ignored costs nothing and has no gradient: integer
labels equal to ``ignore_index`` or IGNORE, and rows marked in ``ignore``, an (N,) bool mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.losses.weighting import weights_of_labels
from dethead.structures import BACKGROUND, IGNORE, UNKNOWN_CLASS


def softmax_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of one choice among C classes: ``logsumexp(logits) - logits[label]``.

    Args:
        logits: (N, C).
        targets: (N,) labels or (N, C) distributions. A row of zeros, like BACKGROUND, costs nothing: softmax
            over C foreground classes cannot say "none of them".
        class_weights: (C,) factor on the loss of a row of each class, not divided out again.
        ignore_index: label that costs nothing, as in PyTorch; so does IGNORE.
        ignore: (N,) bool, rows that cost nothing, for soft targets.

    Returns:
        (N,) loss, at least 0, and exactly 0 on ignored rows.

    Raises:
        ValueError: shapes that do not fit, a label outside [0, C).

    Example:
        >>> softmax_cross_entropy(torch.zeros(3, 4), torch.tensor([2, IGNORE, -100]))  # ln 4
        tensor([1.3863, 0.0000, 0.0000])
    """
    logits, targets, ignored = _prepare(logits, targets, ignore_index, ignore)
    loss = -(targets * logits.log_softmax(dim=1)).sum(dim=1)
    return _finish(loss, targets, class_weights, ignored)


def sigmoid_bce(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    pos_weight: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of C independent yes/no questions, summed over them.

    As ``softmax_cross_entropy``, except that BACKGROUND (a row of zeros) answers "no" C times, and that
    ``pos_weight`` (C,) multiplies the "yes" terms of a class alone.

    Example:
        >>> sigmoid_bce(torch.zeros(3, 2), torch.tensor([1, BACKGROUND, IGNORE]))  # 2 ln 2
        tensor([1.3863, 1.3863, 0.0000])
    """
    logits, targets, ignored = _prepare(logits, targets, ignore_index, ignore)
    if pos_weight is not None:
        if pos_weight.shape != logits.shape[1:]:
            raise ValueError(f"pos_weight {tuple(pos_weight.shape)} for {logits.shape[1]} classes")
        pos_weight = pos_weight.to(logits)
    terms = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight, reduction="none")
    return _finish(terms.sum(dim=1), targets, class_weights, ignored)


def _prepare(
    logits: Tensor, targets: Tensor, ignore_index: int, ignore: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(N, C) logits and (N, C) targets of one dtype, and the (N,) bool mask of what is ignored, if any."""
    if logits.ndim != 2 or targets.shape not in (logits.shape, logits.shape[:1]):
        raise ValueError(
            "logits must be (N, C) and targets (N, C) or (N,), got "
            f"{tuple(logits.shape)} and {tuple(targets.shape)}"
        )
    if ignore is not None and (ignore.shape != logits.shape[:1] or ignore.dtype != torch.bool):
        raise ValueError(
            f"ignore must be bool {tuple(logits.shape[:1])}, got {ignore.dtype} {tuple(ignore.shape)}"
        )
    logits = at_least_float32(logits)
    if targets.ndim == 2:
        return logits, targets.to(logits.dtype), ignore
    ignored = (targets == IGNORE) | (targets == ignore_index)
    if ignore is not None:
        ignored = ignored | ignore
    return logits, _one_hot(targets.masked_fill(ignored, BACKGROUND), logits), ignored


def _one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """(N, C) rows of (N,) labels, zeros for BACKGROUND."""
    num_classes = like.shape[1]
    wrong = (labels < BACKGROUND) | (labels >= num_classes)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"label {int(labels[row])} in row {row} is not in [0, {num_classes})")
    # Column 0 takes BACKGROUND and is cut off again.
    return F.one_hot(labels + 1, num_classes + 1)[:, 1:].to(like.dtype)


def _finish(loss: Tensor, targets: Tensor, class_weights: Tensor | None, ignored: Tensor | None) -> Tensor:
    """Weight the (N,) loss, and silence what is ignored."""
    if class_weights is not None:
        loss = loss * weights_of_labels(targets, class_weights)
    return loss if ignored is None else loss.masked_fill(ignored, 0.0)
