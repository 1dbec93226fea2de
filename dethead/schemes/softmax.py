"""Schemes whose classes compete: the probabilities of a box are a softmax."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.losses import classification
from dethead.schemes.interface import Prior, as_tensor, check_not_negative, class_prior, one_label_each
from dethead.schemes.weighted import Weighted
from dethead.structures import ClassesSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Weighted):
    """What all softmax schemes share. It has no loss: take one of those below.

    Args:
        class_weights: C factors on the class loss of a box of each class.
    """

    exclusive: ClassVar[bool] = True
    sums_to_one: ClassVar[bool] = True
    teaches_background: ClassVar[bool] = False
    quality_target: ClassVar[bool] = False
    uses_classes_seen: ClassVar[bool] = False

    def initial_bias(self, num_classes: int, prior: Prior = None) -> Tensor:
        if num_classes == 1:  # softmax over one class is 1 whatever the logit says
            return torch.zeros(1)
        probabilities = class_prior(num_classes, prior)
        if not math.isclose(float(probabilities.sum()), 1.0, abs_tol=1e-5):
            raise ValueError(f"softmax probabilities sum to 1, the prior {prior} does not")
        return probabilities.log()

    def targets(self, truth: Tensor) -> Tensor:
        return one_label_each(truth, type(self).__name__) if self.exclusive else truth

    def probabilities(self, logits: Tensor) -> Tensor:
        return at_least_float32(logits).softmax(dim=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxCE(Softmax):
    """One choice among the C classes: softmax and cross-entropy.

    Args:
        class_weights: as in ``Softmax``.
        label_smoothing: share of every label that is spread evenly over all C classes, in [0, 1).
    """

    label_smoothing: float = 0.0

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.softmax_cross_entropy(
            logits, targets, label_smoothing=self.label_smoothing, **shared
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MultilabelSoftmax(Softmax):
    """Softmax in which the M labels of a box share one cross-entropy, each by 1/M."""

    exclusive: ClassVar[bool] = False

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.multilabel_softmax(logits, targets, **shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxFocal(Softmax):
    """Cross-entropy that well classified boxes hardly enter.

    Args:
        class_weights: as in ``Softmax``.
        gamma: how fast a right answer loses weight; 0 is cross-entropy, else at least 1.
    """

    gamma: float

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.softmax_focal(logits, targets, gamma=self.gamma, **shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxPoly1(Softmax):
    """Cross-entropy whose first polynomial term is raised by ``epsilon``, at least -1."""

    epsilon: float

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.poly1(logits, targets, epsilon=self.epsilon, activation="softmax", **shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class KLDivergence(Softmax):
    """Divergence from the label's distribution; with one-hot labels and temperature 1 cross-entropy.

    Args:
        class_weights: as in ``Softmax``.
        temperature: what logits are divided by in the loss, above 0; the loss is multiplied by its square.
    """

    temperature: float = 1.0

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.kl_divergence(logits, targets, temperature=self.temperature, **shared)

    def probabilities(self, logits: Tensor) -> Tensor:
        return (at_least_float32(logits) / self.temperature).softmax(dim=-1)

    def initial_bias(self, num_classes: int, prior: Prior = None) -> Tensor:
        return Softmax.initial_bias(self, num_classes, prior) * self.temperature


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitAdjustment(Softmax):
    """Cross-entropy of logits that the training set's class frequencies were added to.

    In training a frequent class must win by less; without the addition, in use, rare classes stand as if all
    were equally frequent.

    Args:
        class_weights: as in ``Softmax``.
        class_counts: C boxes of each class in the training set.
        tau: strength; 0 is cross-entropy, 1 balanced softmax.
    """

    class_counts: Sequence[float]
    tau: float = 1.0

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        check_not_negative("class_counts", self.class_counts)

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        counts = as_tensor(self.class_counts, logits)
        assert counts is not None
        return classification.logit_adjusted(logits, targets, class_counts=counts, tau=self.tau, **shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class LDAM(Softmax):
    """Cross-entropy in which a rare class must win by a larger margin.

    Args:
        class_weights: as in ``Softmax``.
        class_counts: C boxes of each class in the training set.
        max_margin: margin of the rarest class, in logits.
        scale: what logits are multiplied by, above 0; the probabilities know it.
    """

    class_counts: Sequence[float]
    max_margin: float = 0.5
    scale: float = 1.0

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        check_not_negative("class_counts", self.class_counts)

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        counts = as_tensor(self.class_counts, logits)
        assert counts is not None
        return classification.ldam(
            logits, targets, class_counts=counts, max_margin=self.max_margin, scale=self.scale, **shared
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        return (at_least_float32(logits) * self.scale).softmax(dim=-1)

    def initial_bias(self, num_classes: int, prior: Prior = None) -> Tensor:
        return Softmax.initial_bias(self, num_classes, prior) / self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Seesaw(Softmax):
    """Cross-entropy that spares rare classes: frequent ones push them down less.

    Args:
        class_weights: as in ``Softmax``.
        p: how much the counts of boxes seen so far mitigate; 0 switches it off.
        q: how much a wrong answer that is too sure takes back of that; 0 switches it off.
    """

    uses_classes_seen: ClassVar[bool] = True

    p: float = 0.8
    q: float = 2.0

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.seesaw(
            logits,
            targets,
            class_counts=logits.new_ones(logits.shape[1]) if seen is None else seen.positives,
            p=self.p,
            q=self.q,
            **shared,
        )
