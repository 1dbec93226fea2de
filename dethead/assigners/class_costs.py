"""What a prediction's classes cost a box, for all pairs and without an (M, A, C) tensor."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.structures import GroundTruth

LOWEST_LOG = -100.0
"""Logarithms of probabilities are no smaller, as in torch's binary cross-entropy: a cost stays finite."""


class ClassCosts(NamedTuple):
    """Costs that are linear in a box's labels: ``base`` for any box, ``slope`` for each label it has."""

    base: Tensor
    """(A,)"""
    slope: Tensor
    """(A, C)"""
    labels: Tensor
    """(M, C); 0 for a box of unknown class."""
    known: Tensor
    """(M,) 1 or 0: a box of unknown class has cost 0."""

    @classmethod
    def softmax(cls, probabilities: Tensor, truth: GroundTruth) -> Self:
        """Cross-entropy -log(p) of a box's label, from (A, C) p; the mean over several labels."""
        slope = -probabilities.log().clamp(min=LOWEST_LOG)
        return cls(slope.new_zeros(len(slope)), slope, label_shares(truth), truth.class_known.to(slope.dtype))

    @classmethod
    def sigmoid(cls, probabilities: Tensor, truth: GroundTruth) -> Self:
        """Binary cross-entropy over all C classes, from (A, C) p.

        A box without labels would pay -log(1 - p) for every class; each label exchanges its own for -log(p).
        """
        no = -torch.log1p(-probabilities).clamp(min=LOWEST_LOG)
        slope = -probabilities.log().clamp(min=LOWEST_LOG) - no
        known = truth.class_known.to(slope.dtype)
        return cls(no.sum(dim=1), slope, truth.targets * known[:, None], known)

    def of(self, rows: slice) -> Tensor:
        """(N, A) costs of N of the boxes."""
        return self.known[rows, None] * self.base + pair_sums(self.labels[rows], self.slope)


def label_shares(truth: GroundTruth) -> Tensor:
    """(M, C) labels of each box as a distribution: their sum is 1, or 0 where the class is unknown."""
    labels = at_least_float32(truth.targets) * truth.class_known[:, None]
    total = labels.sum(dim=1, keepdim=True)
    return labels / total.where(total > 0, 1.0)


def pair_sums(labels: Tensor, values: Tensor) -> Tensor:
    """(N, A) sums over the classes of (N, C) labels times (A, C) values, not rounded by autocast."""
    with torch.autocast(values.device.type, enabled=False):
        return labels.to(values.dtype) @ values.T
