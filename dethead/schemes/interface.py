"""What the rest of the package may ask of a class scheme, and what schemes share."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dethead.devices import is_behind, numbers
from dethead.losses.background import Background
from dethead.structures import ClassesSeen

Prior = float | Sequence[float] | None
"""Probability of every class, of each class, or None for 1/C."""


class ClassScheme(Protocol):
    """Answers that must agree; the rest of the package never asks which scheme it has."""

    @property
    def exclusive(self) -> bool:
        """True where a box can have one label only."""
        ...

    @property
    def sums_to_one(self) -> bool:
        """True where the C probabilities of a row compete and sum to 1 (softmax)."""
        ...

    @property
    def teaches_background(self) -> bool:
        """True where a row of zeros is a lesson ("no" C times): the loss may be taken over all anchors."""
        ...

    @property
    def quality_target(self) -> bool:
        """True where targets are scaled by how well the anchor's box fits: its IoU or assigned quality."""
        ...

    @property
    def uses_classes_seen(self) -> bool:
        """True where ``loss`` depends on what the run has seen so far; see ``ClassesSeen``."""
        ...

    def initial_bias(self, num_classes: int, prior: Prior = None) -> Tensor:
        """(C,) bias for which ``probabilities`` gives the classes exactly ``prior``, 1/C unless given."""
        ...

    def targets(self, truth: Tensor) -> Tensor:
        """(M, C) what ``loss`` should be taught, from the (M, C) targets of a GroundTruth."""
        ...

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        seen: ClassesSeen | None = None,
        ignore: Tensor | None = None,
    ) -> Tensor:
        """(P,) unreduced loss of (P, C) ``logits`` for (P, C) rows of ``targets``.

        Args:
            logits: (P, C).
            targets: (P, C) of ``targets``, scaled by the quality where ``quality_target``.
            seen: what the run has seen so far; None is a run that has seen nothing.
            ignore: (P,) bool, rows that cost nothing and count nowhere.
        """
        ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., C) class probabilities in [0, 1], at least float32, of (..., C) ``logits``."""
        ...


def background_of(scheme: ClassScheme, logits: Tensor, seen: ClassesSeen | None) -> Background | None:
    """Give what rows of zeros cost under a scheme, if it says so by a method ``background(logits, seen)``.

    Such a scheme promises that no row's loss depends on another row. Schemes without the method, and those
    that take it from a class whose loss they replace, are taught background by their ``loss``.

    Args:
        scheme: of any class.
        logits: (..., C), whose values do not matter.
        seen: as in ``ClassScheme.loss``.
    """
    for kind in type(scheme).__mro__:
        if "background" in vars(kind):
            given: Background = kind.background(scheme, logits, seen)  # type: ignore[attr-defined]
            return given
        if vars(kind).keys() & {"loss", "_loss"}:
            break
    return None


def class_prior(num_classes: int, prior: Prior) -> Tensor:
    """(C,) probabilities in (0, 1)."""
    if prior is None:  # 1/C; but a sigmoid cannot start at 1, so a single class starts undecided
        prior = 1 / num_classes if num_classes > 1 else 0.5
    values = [prior] * num_classes if isinstance(prior, int | float) else list(prior)
    probabilities = torch.tensor(values, dtype=torch.float32)
    if len(values) != num_classes or not ((probabilities > 0) & (probabilities < 1)).all():
        raise ValueError(f"prior must be {num_classes} probabilities in (0, 1), got {prior}")
    return probabilities


def check_not_negative(name: str, values: Sequence[float] | None) -> None:
    """Refuse numbers by class that are negative or not finite."""
    if values is not None and not all(0 <= value < math.inf for value in values):
        raise ValueError(f"{name} must be finite and not negative, got {list(values)}")


def as_tensor(values: Sequence[float] | None, like: Tensor) -> Tensor | None:
    """Give (C,) numbers of a frozen scheme on the device of the logits."""
    return None if values is None else numbers(values, like.new_empty(0, dtype=torch.float32))


def one_label_each(truth: Tensor, scheme: str) -> Tensor:
    """Give (M, C) truth back, if no box has several labels.

    Raises:
        ValueError: naming the box and the scheme. On CUDA, where nothing waits for the answer, the device
            fails instead as soon as it has looked, with that sentence, but for the number of the box.
    """
    several = (truth > 0).sum(dim=1) > 1
    reason = (
        f"several labels, which {scheme} cannot express; use a scheme that is not exclusive, such as "
        "sigmoid_bce"
    )
    if is_behind(truth):
        torch._assert_async(~several.any(), f"a box carries {reason}")
    elif several.any():
        raise ValueError(f"box {int(several.nonzero()[0])} carries {reason}")
    return truth
