"""What every class loss does before and after its formula: check, lay out in rows, weigh, silence."""

from typing import Final, NamedTuple

import torch
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.losses.checks import check_finite, first_outside, per_row, values_are_checked
from dethead.losses.weighting import weights_of_labels
from dethead.structures import BACKGROUND, IGNORE

ABSENT: Final = -1e30
"""Score of a class that takes no part: exp(ABSENT - any logit) is 0, and unlike -inf it makes no nan."""


class Rows(NamedTuple):
    """N boxes, C classes, in one float type: at least float32."""

    values: Tensor
    """(N, C) logits, or what else the loss is taken of."""
    targets: Tensor
    """(N, C) in [0, 1]; 0 wherever something is ignored."""
    absent: Tensor | None
    """(N, C) bool, classes that do not exist in a row; None: all exist."""
    ignored: Tensor | None
    """(N,) bool, rows that cost nothing; None: all cost."""
    factor: Tensor | None
    """(N,) class weight times sample weight; None: 1."""

    def fill(self, values: Tensor, filler: float) -> Tensor:
        """(N, C) values with ``filler`` at absent classes."""
        return values if self.absent is None else values.masked_fill(self.absent, filler)

    def log_softmax(self, scores: Tensor) -> Tensor:
        """(N, C) log-softmax over the classes that exist; 0 at the absent ones."""
        return self.fill(self.fill(scores, ABSENT).log_softmax(dim=1), 0.0)

    def number_of_classes(self) -> Tensor:
        """(N, 1) or (1, 1): how many classes exist, at least 1."""
        if self.absent is None:
            return self.values.new_full((1, 1), self.values.shape[1])
        return (~self.absent).sum(dim=1, keepdim=True).clamp(min=1).to(self.values.dtype)

    def taking_part(self) -> Tensor:
        """(N, C) bool: what is not ignored."""
        part = torch.ones_like(self.values, dtype=torch.bool) if self.absent is None else ~self.absent
        return part if self.ignored is None else part & ~self.ignored[:, None]

    def labels(self, loss: str) -> Tensor:
        """(N,) the one class of each row; any for a row without.

        Raises:
            ValueError: a row with several, which ``loss`` cannot express.
        """
        if values_are_checked():
            several = (self.targets > 0).sum(dim=1) > 1
            if several.any():
                raise ValueError(
                    f"row {int(several.nonzero()[0])} carries several labels, {loss} takes one per row"
                )
        return self.targets.argmax(dim=1)

    def sum_terms(self, terms: Tensor) -> Tensor:
        """(N,) loss of (N, C) element-wise ``terms``, from which the absent classes are left out."""
        return self.finish(self.fill(terms, 0.0).sum(dim=1))

    def finish(self, loss: Tensor) -> Tensor:
        """Weigh the (N,) loss, and silence what is ignored."""
        if self.factor is not None:
            loss = loss * self.factor
        return loss if self.ignored is None else loss.masked_fill(self.ignored, 0.0)


def prepare(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor | None,
    sample_weights: Tensor | None,
    ignore_index: int,
    ignore: Tensor | None,
) -> Rows:
    """Check what a class loss was given, and lay it out in rows.

    Args:
        logits: (N, C), any float type, finite.
        targets: (N,) labels or (N, C) in [0, 1]. What stands at ignored places is not looked at.
        class_weights: (C,) or None.
        sample_weights: (N,) or None.
        ignore_index: label that is ignored, besides IGNORE.
        ignore: (N,) or (N, C) bool or None.

    Raises:
        ValueError: anything else, naming the row and the value.
    """
    rows = arrange("logits", logits, targets, class_weights, sample_weights, ignore_index, ignore)
    check_finite("logits", rows.values)
    return rows


def arrange(
    name: str,
    values: Tensor,
    targets: Tensor,
    class_weights: Tensor | None,
    sample_weights: Tensor | None,
    ignore_index: int,
    ignore: Tensor | None,
) -> Rows:
    """As ``prepare``, for (N, C) ``values`` called ``name`` that are not checked to be finite."""
    if values.ndim != 2 or targets.shape not in (values.shape, values.shape[:1]):
        raise ValueError(
            f"{name} must be (N, C) and targets (N, C) or (N,), got "
            f"{tuple(values.shape)} and {tuple(targets.shape)}"
        )
    values = as_float(name, values)
    absent, ignored = split_mask(ignore, values)
    if targets.ndim == 1:
        silent = (targets == IGNORE) | (targets == ignore_index)
        ignored = silent if ignored is None else silent | ignored
        targets = _one_hot(targets.masked_fill(ignored, BACKGROUND), values)
        targets = targets if absent is None else targets.masked_fill(absent, 0.0)
    else:
        targets = _in_unit_range(targets.to(values.dtype), absent, ignored)
    factor = None if class_weights is None else weights_of_labels(targets, class_weights)
    return Rows(values, targets, absent, ignored, _times(factor, sample_weights, values))


def as_float(name: str, values: Tensor) -> Tensor:
    """Give (N, C) values of a float type as at least float32.

    Raises:
        ValueError: another type, or no class.
    """
    if not values.is_floating_point() or values.shape[1] == 0:
        raise ValueError(
            f"{name} must be of a float type with C >= 1 classes, got {values.dtype} {tuple(values.shape)}"
        )
    return at_least_float32(values)


def split_mask(ignore: Tensor | None, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The (N, C) absent classes and the (N,) ignored rows that a mask of either shape means."""
    if ignore is None:
        return None, None
    if ignore.shape not in (values.shape, values.shape[:1]) or ignore.dtype != torch.bool:
        rows, classes = values.shape
        raise ValueError(
            f"ignore must be bool ({rows},) or ({rows}, {classes}), got {ignore.dtype} {tuple(ignore.shape)}"
        )
    return (None, ignore) if ignore.ndim == 1 else (ignore, ignore.all(dim=1))


def _in_unit_range(targets: Tensor, absent: Tensor | None, ignored: Tensor | None) -> Tensor:
    """(N, C) targets, 0 where ignored, checked to be in [0, 1] elsewhere."""
    if absent is not None:
        targets = targets.masked_fill(absent, 0.0)
    elif ignored is not None:
        targets = targets.masked_fill(ignored[:, None], 0.0)
    wrong = first_outside(targets, 0.0, 1.0)
    if wrong is not None:
        raise ValueError(
            f"target of row {wrong[0]}, class {wrong[1]} is not in [0, 1]: {float(targets[wrong])}"
        )
    return targets


def _one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """(N, C) rows of (N,) labels, zeros for BACKGROUND."""
    num_classes = like.shape[1]
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels (N,) must be int64, got {labels.dtype}")
    wrong = first_outside(labels, BACKGROUND, num_classes - 1)
    if wrong is not None:
        raise ValueError(f"label {int(labels[wrong])} in row {wrong[0]} is not in [0, {num_classes})")
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).to(like.dtype)


def _times(factor: Tensor | None, sample_weights: Tensor | None, like: Tensor) -> Tensor | None:
    """(N,) product of the weights that are given."""
    if sample_weights is None:
        return factor
    sample_weights = per_row("sample_weights", sample_weights, like)
    return sample_weights if factor is None else factor * sample_weights
