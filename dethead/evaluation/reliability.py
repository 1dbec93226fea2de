"""Reliability diagrams: predicted values in bins, and the share of claims in each that were right.

Sources: Guo et al. 2017, https://arxiv.org/abs/1706.04599; Kueppers et al. 2020, https://arxiv.org/abs/2004.13546.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from dethead.evaluation.arrays import Bools, Floats, Ints


class Reliability(NamedTuple):
    """K claims in B bins of their predicted value."""

    edges: Floats
    """(B + 1,) ascending, in [0, 1]; a value on an edge belongs to the bin above it, 1 to the last."""
    claims: Ints
    """(B,) claims in each bin."""
    predicted: Floats
    """(B,) mean of the predicted values, in [0, 1]; nan: no claim."""
    right: Floats
    """(B,) share of claims that were right, in [0, 1]; nan: no claim."""

    @property
    def ece(self) -> float:
        """Give the expected calibration error, in [0, 1]: sum over bins of n_b / K |right_b - predicted_b|.

        nan without a claim.
        """
        total = int(self.claims.sum())
        gaps = np.abs(self.right - self.predicted)[self.claims > 0]
        return float(gaps @ self.claims[self.claims > 0] / total) if total else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        return {
            "edges": self.edges.tolist(),
            "claims": self.claims.tolist(),
            "predicted": [plain(value) for value in self.predicted.tolist()],
            "right": [plain(value) for value in self.right.tolist()],
        }


def equal_width(predicted: Floats, right: Bools, bins: int) -> Reliability:
    """Put (K,) values in [0, 1] in bins of the same width.

    Example:
        >>> diagram = equal_width(np.array([0.2, 0.4, 0.9, 1.0]), np.array([0, 1, 1, 1], np.bool_), bins=2)
        >>> diagram.claims.tolist(), diagram.right.tolist(), round(diagram.ece, 3)
        ([2, 2], [0.5, 1.0], 0.125)
    """
    return _binned(predicted, right, np.linspace(0, 1, bins + 1))


def equal_mass(predicted: Floats, right: Bools, bins: int) -> Reliability:
    """Put (K,) values in bins of equally many claims; equal values stay together, so bins may be fewer.

    Most scores are near 0: of bins of equal width one holds nearly all claims. These show what it hides.
    """
    if not len(predicted):
        return equal_width(predicted, right, 1)
    inner = np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1], method="higher")
    edges = np.unique(np.concatenate([[0.0], inner, [1.0]]))
    return _binned(predicted, right, edges)


def _binned(predicted: Floats, right: Bools, edges: Floats) -> Reliability:
    place = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(place, minlength=len(edges) - 1)
    sums = (np.bincount(place, weights=values, minlength=len(count)) for values in (predicted, right))
    with np.errstate(invalid="ignore"):  # 0 / 0 is nan, as it should be
        means = [values / count for values in sums]
    return Reliability(edges, count, *means)


def plain(value: float) -> float | None:
    """Give the value for JSON: undefined is None."""
    return None if math.isnan(value) else value
