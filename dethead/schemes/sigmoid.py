"""Schemes of C independent yes/no questions: sigmoids, any number of labels, background answers "no"."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.losses import background, classification
from dethead.losses.background import Background
from dethead.losses.classification.longtail import equalizing_weight
from dethead.schemes.interface import Prior, as_tensor, check_not_negative, class_prior
from dethead.schemes.weighted import Weighted
from dethead.structures import ClassesSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigmoid(Weighted):
    """What all sigmoid schemes share. It has no loss: take one of those below.

    Args:
        class_weights: C factors on the whole class loss of a box of each class.
        quality_target: teach the IoU of the anchor's decoded box (or the assigner's quality) in place of 1.
    """

    exclusive: ClassVar[bool] = False
    sums_to_one: ClassVar[bool] = False
    teaches_background: ClassVar[bool] = True
    uses_classes_seen: ClassVar[bool] = False

    quality_target: bool = False

    def initial_bias(self, num_classes: int, prior: Prior = None) -> Tensor:
        return class_prior(num_classes, prior).logit()

    def targets(self, truth: Tensor) -> Tensor:
        return truth

    def probabilities(self, logits: Tensor) -> Tensor:
        return at_least_float32(logits).sigmoid()


@dataclass(frozen=True, slots=True, kw_only=True)
class SigmoidBCE(Sigmoid):
    """C independent yes/no answers: sigmoids and binary cross-entropy.

    Args:
        class_weights: as in ``Sigmoid``.
        quality_target: as in ``Sigmoid``.
        pos_weight: C factors on the "yes" term of each class alone.
        neg_weight: C factors on the "no" term of each class alone.
    """

    pos_weight: Sequence[float] | None = None
    neg_weight: Sequence[float] | None = None

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        check_not_negative("pos_weight", self.pos_weight)
        check_not_negative("neg_weight", self.neg_weight)

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.sigmoid_bce(
            logits,
            targets,
            pos_weight=as_tensor(self.pos_weight, logits),
            neg_weight=as_tensor(self.neg_weight, logits),
            **shared,
        )

    def background(self, logits: Tensor, seen: ClassesSeen | None) -> Background:
        weight = as_tensor(self.neg_weight, logits)
        if weight is not None and len(weight) != logits.shape[-1]:
            raise ValueError(f"neg_weight ({len(weight)},) for {logits.shape[-1]} classes")
        return Background(background.bce, 1.0 if weight is None else weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Focal(Sigmoid):
    """Binary cross-entropy that easy answers hardly enter.

    Args:
        class_weights: as in ``Sigmoid``.
        quality_target: as in ``Sigmoid``.
        alpha: weight of "yes" terms, those of "no" get 1 - alpha; None weighs neither.
        gamma: how fast a right answer loses weight; 0, or at least 1.
    """

    alpha: float | None
    gamma: float

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.sigmoid_focal(logits, targets, alpha=self.alpha, gamma=self.gamma, **shared)

    def background(self, logits: Tensor, seen: ClassesSeen | None) -> Background:
        return _focal(self.gamma, 1.0 if self.alpha is None else 1 - self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigmoidPoly1(Sigmoid):
    """Binary cross-entropy whose first polynomial term is raised by ``epsilon``, at least -1."""

    epsilon: float

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.poly1(logits, targets, epsilon=self.epsilon, activation="sigmoid", **shared)

    def background(self, logits: Tensor, seen: ClassesSeen | None) -> Background:
        return Background(partial(background.poly1, epsilon=self.epsilon))


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityFocal(Sigmoid):
    """Binary cross-entropy towards the box's quality, weighted by the distance from it.

    Args:
        class_weights: as in ``Sigmoid``.
        quality_target: as in ``Sigmoid``, on by default.
        beta: power of the distance; 0, or at least 1.
    """

    quality_target: bool = True
    beta: float

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.quality_focal(logits, targets, beta=self.beta, **shared)

    def background(self, logits: Tensor, seen: ClassesSeen | None) -> Background:
        return _focal(self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Varifocal(Sigmoid):
    """Binary cross-entropy towards the box's quality, weighted by it; "no" terms as in focal loss.

    Args:
        class_weights: as in ``Sigmoid``.
        quality_target: as in ``Sigmoid``, on by default.
        alpha: weight of the "no" terms.
        gamma: how fast a right "no" loses weight; 0, or at least 1.
    """

    quality_target: bool = True
    alpha: float
    gamma: float

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.varifocal(logits, targets, alpha=self.alpha, gamma=self.gamma, **shared)

    def background(self, logits: Tensor, seen: ClassesSeen | None) -> Background:
        return _focal(self.gamma, self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asymmetric(Sigmoid):
    """Focal loss with powers of its own for "yes" and "no"; very easy "no" terms are left out.

    Args:
        class_weights: as in ``Sigmoid``.
        quality_target: as in ``Sigmoid``.
        gamma_pos: power of the "yes" terms; 0, or at least 1.
        gamma_neg: power of the "no" terms; 0, or at least 1.
        clip: "no" terms of a lower probability cost nothing, in [0, 1).
    """

    gamma_pos: float
    gamma_neg: float
    clip: float = 0.05

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.asymmetric(
            logits, targets, gamma_pos=self.gamma_pos, gamma_neg=self.gamma_neg, clip=self.clip, **shared
        )

    def background(self, logits: Tensor, seen: ClassesSeen | None) -> Background:
        if self.clip == 0:
            return _focal(self.gamma_neg)
        return Background(partial(background.asymmetric, gamma=self.gamma_neg, clip=self.clip))


@dataclass(frozen=True, slots=True, kw_only=True)
class GHM(Sigmoid):
    """Binary cross-entropy in which equally hard answers share one weight, however many there are.

    Args:
        class_weights: as in ``Sigmoid``.
        quality_target: as in ``Sigmoid``.
        bins: of the gradient's size, over [0, 1].
    """

    bins: int = 30

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.gradient_harmonised(logits, targets, bins=self.bins, **shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equalization(Sigmoid):
    """Binary cross-entropy that balances each class's "yes" and "no" gradients of the run so far (EQL v2).

    Args:
        class_weights: as in ``Sigmoid``.
        quality_target: as in ``Sigmoid``.
        gamma: slope of the weight over the ratio of the two.
        mu: ratio at which the "no" weight is a half.
        alpha: how much a class that is pushed down more is pushed up more.
    """

    uses_classes_seen: ClassVar[bool] = True

    gamma: float = 12.0
    mu: float = 0.8
    alpha: float = 4.0

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        positive, negative = self._gradients(logits, seen)
        return classification.equalization(
            logits,
            targets,
            positive_gradient=positive,
            negative_gradient=negative,
            gamma=self.gamma,
            mu=self.mu,
            alpha=self.alpha,
            **shared,
        )

    def background(self, logits: Tensor, seen: ClassesSeen | None) -> Background:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        positive, negative = (of.to(dtype) for of in self._gradients(logits, seen))
        weight = equalizing_weight(positive, negative, gamma=self.gamma, mu=self.mu)
        return Background(background.bce, weight)

    def _gradients(self, logits: Tensor, seen: ClassesSeen | None) -> tuple[Tensor, Tensor]:
        """(C,) what pulled each class up and what pushed it down so far."""
        if seen is not None:
            return seen.yes_gradient, seen.no_gradient
        nothing = logits.new_zeros(logits.shape[-1])
        return nothing, nothing


def _focal(gamma: float, weight: float = 1.0) -> Background:
    """The loss that fades where a "no" is already given, whose powers of the "yes" terms differ."""
    return Background(background.bce if gamma == 0 else partial(background.focal, gamma=gamma), weight)
