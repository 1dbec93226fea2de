"""Distances between probabilities and targets."""

import numpy as np
from losses.oracles.rows import Answer, Array, Mask
from losses.oracles.sigmoid import sigmoid
from losses.oracles.softmax import log_softmax, rest_of


def brier(
    z: Array,
    t: Array,
    off: Mask,
    *,
    activation: str = "softmax",
    penalty: str = "mse",
    beta: float | None = None,
) -> Answer:
    """sum rho(d_c), d = probability - t.

    Sigmoid: slope rho'(d) s (1 - s). Softmax: dp_c/dz_k = p_c ([c = k] - p_k), so the slope is
    p_k (rho'_k - sum_c rho'_c p_c), and a row without labels costs nothing.
    """
    if activation == "sigmoid":
        yes, no = sigmoid(z), sigmoid(-z)
    else:
        yes = np.exp(log_softmax(z, off))
        no = rest_of(yes)
    # p - t as (1 - t) p - t (1 - p): where p is nearly t = 1 the difference is exact.
    rho, slope = penalties((1 - t) * yes - t * no, penalty, beta)
    if activation == "sigmoid":
        counted, gradient = ~off, slope * yes * no
    else:
        counted = ~off & (t.sum(axis=1, keepdims=True) > 0)
        gradient = yes * (slope - (slope * yes).sum(axis=1, keepdims=True))
    return Answer(np.where(counted, rho, 0.0).sum(axis=1), np.where(counted, gradient, 0.0))


def penalties(d: Array, penalty: str, beta: float | None) -> tuple[Array, Array]:
    """Rho(d) and its slope."""
    if penalty == "mse":
        return d**2, 2 * d
    if penalty == "l1":
        return np.abs(d), np.sign(d)
    assert penalty == "smooth_l1"
    assert beta is not None
    square = np.abs(d) < beta  # nowhere if beta is 0: the absolute difference
    width = beta if beta > 0 else 1.0
    return np.where(square, d**2 / (2 * width), np.abs(d) - beta / 2), np.where(square, d / width, np.sign(d))
