"""A class scheme of one's own that breaks: ``tiny_scheme:Exploding``."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dethead.schemes import SoftmaxCE


@dataclass(frozen=True, kw_only=True)
class Exploding(SoftmaxCE):
    """Softmax CE whose loss is infinite at its third call."""

    calls: list[int] = field(default_factory=list)

    def loss(self, logits: Tensor, targets: Tensor, *others: Any) -> Tensor:
        self.calls.append(1)
        loss = SoftmaxCE.loss(self, logits, targets, *others)
        return loss * float("inf") if len(self.calls) == 3 else loss
