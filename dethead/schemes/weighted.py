"""What the schemes of this package have in common: class weights, and how they enter the loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dethead.schemes.interface import as_tensor, check_not_negative
from dethead.structures import ClassesSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted(ABC):
    """Hands class weights and ignored rows to the loss of a scheme, ``_loss``.

    Args:
        class_weights: C factors on the class loss of a box of each class.
    """

    class_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_not_negative("class_weights", self.class_weights)

    def loss(
        self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None = None, ignore: Tensor | None = None
    ) -> Tensor:
        weights = as_tensor(self.class_weights, logits)
        return self._loss(logits, targets, seen, class_weights=weights, ignore=ignore)

    @abstractmethod
    def _loss(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None, **shared: Any) -> Tensor:
        """(P,) loss; ``shared`` are the keyword arguments that every class loss takes."""
