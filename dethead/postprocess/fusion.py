"""How confidence and class probability make a score."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

ScoreFusion = Callable[[Tensor, Tensor], Tensor]
"""Makes (..., C) scores in [0, 1] of (..., 1) confidence and (..., C) class probabilities in [0, 1]."""


def product(confidence: Tensor, probabilities: Tensor) -> Tensor:
    """P(object) * P(class | object), the default."""
    return confidence * probabilities


def geometric_mean(confidence: Tensor, probabilities: Tensor) -> Tensor:
    """Square root of the product: the same order within a class, scores on the scale of one probability."""
    return (confidence * probabilities).sqrt()


def class_only(confidence: Tensor, probabilities: Tensor) -> Tensor:
    """The class probability alone."""
    return probabilities.clone()


def confidence_only(confidence: Tensor, probabilities: Tensor) -> Tensor:
    """The confidence alone, the same for every class."""
    return confidence.expand_as(probabilities)


@dataclass(frozen=True, slots=True)
class PowersFusion:
    """confidence^a * probability^b: how much each branch has to say in the ranking.

    Powers in the same ratio rank alike, since s^k rises with s for every k > 0: only a / b matters for AP,
    and their size for what ``score_threshold`` cuts. (1, 1) is ``product``, (0.5, 0.5) ``geometric_mean``,
    (0, 1) ``class_only``, (1, 0) ``confidence_only``. ``evaluation.fit_fusion`` finds powers, with sum 2.

    Args:
        confidence_power: a, not negative.
        class_power: b, not negative; not both 0.
    """

    confidence_power: float
    class_power: float

    def __post_init__(self) -> None:
        powers = (self.confidence_power, self.class_power)
        if not all(0 <= power < math.inf for power in powers) or powers == (0, 0):
            raise ValueError(
                "confidence_power and class_power must be finite, not negative and not both 0, got "
                f"{self.confidence_power} and {self.class_power}"
            )

    def __call__(self, confidence: Tensor, probabilities: Tensor) -> Tensor:
        """Give the (..., C) scores in [0, 1]; 0 to the power 0 is 1, as the branch has nothing to say."""
        return confidence**self.confidence_power * probabilities**self.class_power


_FUSIONS_THAT_RISE = (product, geometric_mean, class_only, confidence_only, PowersFusion)


def rises(fusion: ScoreFusion) -> bool:
    """Whether no score falls as a class probability rises: then none exceeds its value at probability 1."""
    return any(fusion is one or type(fusion) is one for one in _FUSIONS_THAT_RISE)
