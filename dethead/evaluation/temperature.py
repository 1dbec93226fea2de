"""One number that makes a branch less, or more, sure of itself.

Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dethead.evaluation.arrays import Bools, Floats
from dethead.evaluation.judgements import Judged
from dethead.evaluation.reliability import equal_width, plain

_CLOSEST: Final = 1e-7  # to 0 and 1: what float32 can tell from 1; logits then are within 16.2
_LOG_RANGE: Final = float(np.log(100.0))
_HALVINGS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedTemperature:
    """What dividing the logits of a branch by T changes, on images that did not help to fit T.

    nan where one of the halves has no claim.
    """

    temperature: float
    """T in [0.01, 100]; above 1 the branch was too sure of itself. At an end of the range: no T is best."""
    fitted_on: int
    """Claims of the fitting half."""
    judged_on: int
    """Claims of the other half, to which the figures below belong."""
    nll_before: float
    """Mean -log P(what was the case), in nats, as it is."""
    nll_after: float
    """The same with T."""
    ece_before: float
    """Expected calibration error in [0, 1], bins of equal width, as it is."""
    ece_after: float
    """The same with T."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        return {name: plain(value) for name, value in dataclasses.asdict(self).items()}


def fit_temperature(claims: Judged, fitting: Bools, bins: int) -> FittedTemperature:
    """Find the T for which sigmoid(logit / T) fits the claims of one half best, and judge it on the other.

    Detections carry the probability p; its logit is ``log(p / (1 - p))``. Of a sigmoid that is the logit of
    the head. Of a class of a softmax it is the logit against all other classes together, so T is that of the
    yes / no question, and the scaled probabilities of a box need not sum to 1.

    Args:
        claims: K claims of one branch.
        fitting: (I,) True for images of the half that is fitted on.
        bins: of the calibration error.
    """
    fits = fitting[claims.image]
    temperature = _best_temperature(_logits(claims.predicted[fits]), claims.right[fits])
    predicted, right = claims.predicted[~fits], claims.right[~fits]
    after = scaled(predicted, temperature)
    return FittedTemperature(
        temperature=temperature,
        fitted_on=int(fits.sum()),
        judged_on=len(right),
        nll_before=_nll(predicted, right),
        nll_after=_nll(after, right),
        ece_before=equal_width(predicted, right, bins).ece,
        ece_after=equal_width(after, right, bins).ece,
    )


def scaled(probabilities: Floats, temperature: float) -> Floats:
    """Give sigmoid(logit(p) / T) of (K,) probabilities.

    Example:
        >>> scaled(np.array([0.5, 0.8]), temperature=2.0).round(4).tolist()  # odds of 4 become odds of 2
        [0.5, 0.6667]
    """
    return _sigmoid(_logits(probabilities) / temperature)


def _best_temperature(logits: Floats, right: Bools) -> float:
    """Halve the range of log T: the loss is convex in 1 / T, so its slope has one sign on each side."""
    if not len(logits):
        return float("nan")
    low, high = -_LOG_RANGE, _LOG_RANGE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = (_sigmoid(logits / np.exp(middle)) - right) @ logits  # of the loss, over 1 / T
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def _logits(probabilities: Floats) -> Floats:
    inside = np.clip(probabilities, _CLOSEST, 1 - _CLOSEST)
    logits: Floats = np.log(inside) - np.log1p(-inside)
    return logits


def _sigmoid(logits: Floats) -> Floats:
    # By tanh, which has no overflow: 1 / (1 + exp(-z)) warns at z = -1600, and T may be 0.01.
    probabilities: Floats = 0.5 + 0.5 * np.tanh(logits / 2)
    return probabilities


def _nll(probabilities: Floats, right: Bools) -> float:
    if not len(right):
        return float("nan")
    inside = np.clip(probabilities, _CLOSEST, 1 - _CLOSEST)
    return float(-np.log(np.where(right, inside, 1 - inside)).mean())
