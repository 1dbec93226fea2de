"""Class schemes: the one place that knows what a class logit means."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.losses.classification import sigmoid_bce, softmax_cross_entropy

Prior = float | Sequence[float] | None
"""Probability of every class, of each class, or None for 1/C."""


class ClassScheme(Protocol):
    """Answers that must agree; the rest of the package never asks which scheme it has."""

    @property
    def exclusive(self) -> bool:
        """True where a box can have one label only."""
        ...

    def initial_bias(self, num_classes: int, prior: Prior = None) -> Tensor:
        """(C,) bias for which ``probabilities`` gives the classes exactly ``prior``, 1/C unless given."""
        ...

    def targets(self, truth: Tensor) -> Tensor:
        """(M, C) what ``loss`` should be taught, from the (M, C) targets of a GroundTruth."""
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(P,) unreduced loss of (P, C) ``logits`` for (P, C) rows of ``targets``."""
        ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., C) class probabilities in [0, 1], at least float32, of (..., C) ``logits``."""
        ...


@dataclass(frozen=True, slots=True)
class SoftmaxCE:
    """One choice among the C classes: softmax and cross-entropy.

    Args:
        class_weights: C factors on the class loss of a box of each class.
    """

    exclusive: ClassVar[bool] = True
    class_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        _check_weights("class_weights", self.class_weights)

    def initial_bias(self, num_classes: int, prior: Prior = None) -> Tensor:
        if num_classes == 1:  # softmax over one class is 1 whatever the logit says
            return torch.zeros(1)
        probabilities = _class_prior(num_classes, prior)
        if not math.isclose(float(probabilities.sum()), 1.0, abs_tol=1e-5):
            raise ValueError(f"softmax probabilities sum to 1, the prior {prior} does not")
        return probabilities.log()

    def targets(self, truth: Tensor) -> Tensor:
        several = (truth > 0).sum(dim=1) > 1
        if several.any():
            raise ValueError(
                f"box {int(several.nonzero()[0])} carries several labels, which softmax cross-entropy cannot "
                "express; use a scheme that is not exclusive, such as sigmoid_bce"
            )
        return truth

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return softmax_cross_entropy(logits, targets, class_weights=_on_device(self.class_weights, logits))

    def probabilities(self, logits: Tensor) -> Tensor:
        return at_least_float32(logits).softmax(dim=-1)


@dataclass(frozen=True, slots=True)
class SigmoidBCE:
    """C independent yes/no answers: sigmoids and binary cross-entropy.

    Args:
        class_weights: C factors on the whole class loss of a box of each class, as in SoftmaxCE.
        pos_weight: C factors on the "yes" term of each class alone.
    """

    exclusive: ClassVar[bool] = False
    class_weights: Sequence[float] | None = None
    pos_weight: Sequence[float] | None = None

    def __post_init__(self) -> None:
        _check_weights("class_weights", self.class_weights)
        _check_weights("pos_weight", self.pos_weight)

    def initial_bias(self, num_classes: int, prior: Prior = None) -> Tensor:
        return _class_prior(num_classes, prior).logit()

    def targets(self, truth: Tensor) -> Tensor:
        return truth

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        class_weights = _on_device(self.class_weights, logits)
        pos_weight = _on_device(self.pos_weight, logits)
        return sigmoid_bce(logits, targets, class_weights=class_weights, pos_weight=pos_weight)

    def probabilities(self, logits: Tensor) -> Tensor:
        return at_least_float32(logits).sigmoid()


def _class_prior(num_classes: int, prior: Prior) -> Tensor:
    """(C,) probabilities in (0, 1)."""
    if prior is None:  # 1/C; but a sigmoid cannot start at 1, so a single class starts undecided
        prior = 1 / num_classes if num_classes > 1 else 0.5
    values = [prior] * num_classes if isinstance(prior, int | float) else list(prior)
    probabilities = torch.tensor(values, dtype=torch.float32)
    if len(values) != num_classes or not ((probabilities > 0) & (probabilities < 1)).all():
        raise ValueError(f"prior must be {num_classes} probabilities in (0, 1), got {prior}")
    return probabilities


def _check_weights(name: str, weights: Sequence[float] | None) -> None:
    if weights is not None and not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(f"{name} must be finite and not negative, got {list(weights)}")


def _on_device(values: Sequence[float] | None, like: Tensor) -> Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.float32, device=like.device)
