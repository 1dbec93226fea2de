"""Schemes without a likelihood: margins between raw scores, distances between probabilities."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from dethead.losses import classification
from dethead.schemes.sigmoid import Sigmoid
from dethead.schemes.softmax import Softmax
from dethead.structures import ClassesSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class Hinge(Softmax):
    """Multi-class SVM: the true class must lead by a margin. Probabilities are the softmax of the scores.

    Args:
        class_weights: as in ``Softmax``.
        margin: lead that costs nothing any more, above 0.
        variant: "weston_watkins" sums over the wrong classes, "crammer_singer" takes the worst.
        squared: square what is missing.
    """

    margin: float = 1.0
    variant: Literal["weston_watkins", "crammer_singer"] = "weston_watkins"
    squared: bool = False

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.hinge(
            logits, targets, margin=self.margin, variant=self.variant, squared=self.squared, **shared
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginRanking(Softmax):
    """The true class against the highest wrong one, of the box or of all boxes of the batch.

    Args:
        class_weights: as in ``Softmax``.
        margin: lead that costs nothing any more, above 0.
        against: "row" (which is Crammer and Singer's hinge) or "batch".
    """

    margin: float = 1.0
    against: Literal["row", "batch"] = "row"

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.margin_ranking(
            logits, targets, margin=self.margin, against=self.against, **shared
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxBrier(Softmax):
    """Distance between softmax probabilities and the label.

    Args:
        class_weights: as in ``Softmax``.
        penalty: "mse" (Brier's score), "l1" or "smooth_l1".
        beta: where "smooth_l1" turns into a line, in probability.
    """

    penalty: Literal["mse", "l1", "smooth_l1"] = "mse"
    beta: float | None = None

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.brier(
            logits, targets, activation="softmax", penalty=self.penalty, beta=self.beta, **shared
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SigmoidBrier(Sigmoid):
    """Distance between C sigmoids and the labels.

    Args:
        class_weights: as in ``Sigmoid``.
        quality_target: as in ``Sigmoid``.
        penalty: "mse" (Brier's score), "l1" or "smooth_l1".
        beta: where "smooth_l1" turns into a line, in probability.
    """

    penalty: Literal["mse", "l1", "smooth_l1"] = "mse"
    beta: float | None = None

    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        return classification.brier(
            logits, targets, activation="sigmoid", penalty=self.penalty, beta=self.beta, **shared
        )
