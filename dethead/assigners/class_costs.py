"""What a prediction's classes cost a box, pair by pair and without an (M, A, C) tensor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import torch
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.structures import GroundTruth

LOWEST_LOG: Final = -100.0
"""Logarithms of probabilities are no smaller, as in torch's binary cross-entropy: a cost stays finite."""

PIECE: Final = 2**17
"""Probabilities whose logarithms are added up together: they fit a cache."""


class Labels(NamedTuple):
    """The labels of M boxes; one has L of them, and others at most as many."""

    classes: Tensor
    """(M, L) int64"""
    weights: Tensor
    """(M, L) in [0, 1]; 0 for one too many, and for a box of unknown class."""

    @classmethod
    def of(cls, truth: GroundTruth) -> Self:
        """Give the labels as they are."""
        targets = at_least_float32(truth.targets) * truth.class_known[:, None]
        most = int(targets.count_nonzero(dim=1).max()) if len(targets) else 0
        weights, classes = targets.topk(max(most, 1), dim=1)
        return cls(classes, weights)

    @classmethod
    def shares(cls, truth: GroundTruth) -> Self:
        """Give the labels of each box as a distribution: their sum is 1, or 0 where the class is unknown."""
        classes, weights = cls.of(truth)
        total = weights.sum(dim=1, keepdim=True)
        return cls(classes, weights / total.where(total > 0, 1.0))

    def sums(self, box: Tensor, values: Callable[[Tensor], Tensor]) -> Tensor:
        """Add up over the labels of ``box``, of any shape, weight times the ``values`` of a class."""
        found = [
            weights[box] * values(classes[box])
            for classes, weights in zip(self.classes.T, self.weights.T, strict=True)
        ]
        return torch.stack(found).sum(dim=0) if len(found) > 1 else found[0]


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxCosts:
    """Cross-entropy -log(p q) of a box's label; the mean over several labels; 0 for an unknown class."""

    probabilities: Tensor
    """(A, C) p"""
    confidence: Tensor | None
    """(A,) q; None: 1."""
    labels: Labels
    """As shares."""

    def of(self, box: Tensor, anchors: Tensor) -> Tensor:
        """Give the costs of boxes and anchors whose shapes broadcast."""
        confidence = 1.0 if self.confidence is None else self.confidence[anchors]

        def cost(classes: Tensor) -> Tensor:
            joint = self.probabilities[anchors, classes] * confidence
            return -joint.log().clamp(min=LOWEST_LOG)

        return self.labels.sums(box, cost)


@dataclass(frozen=True, slots=True, eq=False)
class SigmoidCosts:
    """Binary cross-entropy of sqrt(p q), or of p without q, over all C classes; 0 for an unknown class."""

    probabilities: Tensor
    """(A, C) p"""
    confidence: Tensor | None
    """(A,) q; None: p is taken as it is."""
    labels: Labels
    """As they are."""
    known: Tensor
    """(M,) 1 or 0"""
    base: Tensor
    """(A,) what a box without labels pays: -log(1 - p) for every class. A label exchanges its own."""

    @classmethod
    def among(
        cls, rows: Tensor, probabilities: Tensor, confidence: Tensor | None, truth: GroundTruth
    ) -> Self:
        """Get ready for costs of (F,) rows of the predictions: logarithms of all C classes only for these."""
        base = probabilities.new_zeros(len(probabilities))
        for piece in torch.split(rows, max(1, PIECE // probabilities.shape[1])):
            joint = probabilities[piece]
            if confidence is not None:
                joint = joint.mul_(confidence[piece, None]).sqrt_()
            base[piece] = -joint.neg_().log1p_().clamp_(min=LOWEST_LOG).sum(dim=1)
        return cls(probabilities, confidence, Labels.of(truth), truth.class_known.to(base.dtype), base)

    def of(self, box: Tensor, anchors: Tensor) -> Tensor:
        """Give the costs of boxes and anchors whose shapes broadcast."""
        confidence = None if self.confidence is None else self.confidence[anchors]

        def exchange(classes: Tensor) -> Tensor:
            joint = self.probabilities[anchors, classes]
            if confidence is not None:
                joint = (joint * confidence).sqrt_()
            no = torch.log1p(-joint).clamp_(min=LOWEST_LOG)
            return no - joint.log_().clamp_(min=LOWEST_LOG)

        return self.labels.sums(box, exchange).add_(self.known[box] * self.base[anchors])
