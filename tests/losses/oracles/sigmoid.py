"""Losses of C independent yes / no questions. With s = sigmoid(z):  ds/dz = s (1 - s).

-log s = softplus(-z) and -log(1 - s) = softplus(z), whose derivatives are -(1 - s) and s.
"""

import numpy as np
from losses.oracles.rows import Answer, Array, Mask


def sigmoid(z: Array) -> Array:
    """Exact to rounding on both sides: e^z / (1 + e^z) where z is negative."""
    small = np.exp(-np.abs(z))
    s: Array = np.where(z >= 0, 1.0, small) / (1 + small)
    return s


def softplus(z: Array) -> Array:
    """log(1 + e^z)."""
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def summed(terms: Array, slopes: Array, off: Mask) -> Answer:
    """Rows of what counts."""
    return Answer(np.where(off, 0.0, terms).sum(axis=1), np.where(off, 0.0, slopes))


def bce(
    z: Array, t: Array, off: Mask, *, pos_weight: Array | None = None, neg_weight: Array | None = None
) -> Answer:
    """-(a t log s + b (1 - t) log(1 - s)) changes by b (1 - t) s - a t (1 - s)."""
    a, b = 1.0 if pos_weight is None else pos_weight, 1.0 if neg_weight is None else neg_weight
    terms = a * t * softplus(-z) + b * (1 - t) * softplus(z)
    return summed(terms, b * (1 - t) * sigmoid(z) - a * t * sigmoid(-z), off)


def probability_bce(s: Array, t: Array, off: Mask, *, pos_weight: Array, neg_weight: Array) -> Answer:
    """-(a t log s + b (1 - t) log(1 - s)), the logarithms at least -100.

    Its slope is b (1 - t) / (1 - s) - a t / s.
    """
    with np.errstate(divide="ignore"):
        log_yes, log_no = np.maximum(np.log(s), -100.0), np.maximum(np.log1p(-s), -100.0)
        slopes = neg_weight * (1 - t) / (1 - s) - pos_weight * t / s
    return summed(-pos_weight * t * log_yes - neg_weight * (1 - t) * log_no, slopes, off)


def suppressed(z: Array, gamma: float) -> Answer:
    """s^g (-log(1 - s)), the "no" term of the focal losses.

    Its slope is g s^g (1 - s) (-log(1 - s)) + s^(g+1).
    """
    s = sigmoid(z)
    return Answer(s**gamma * softplus(z), gamma * s**gamma * sigmoid(-z) * softplus(z) + s ** (gamma + 1))


def focal(z: Array, t: Array, off: Mask, *, alpha: float | None, gamma: float) -> Answer:
    """a t (1-s)^g (-log s) + (1-a) (1-t) s^g (-log(1-s)); the first is the second's mirror image, z -> -z.

    Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 5.
    """
    yes, no = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    left, right = suppressed(-z, gamma), suppressed(z, gamma)
    terms = yes * t * left.loss + no * (1 - t) * right.loss
    return summed(terms, no * (1 - t) * right.gradient - yes * t * left.gradient, off)


def quality_focal(z: Array, t: Array, off: Mask, *, beta: float) -> Answer:
    """d^b bce with d = |s - t|: changes by b d^(b-1) sign(s - t) s (1 - s) bce + d^b (s - t).

    s - t is taken as (1 - t) s - t (1 - s). Li et al. 2020, https://arxiv.org/abs/2006.04388.
    """
    s, no = sigmoid(z), sigmoid(-z)
    signed = (1 - t) * s - t * no
    d = np.abs(signed)
    cost = t * softplus(-z) + (1 - t) * softplus(z)
    slopes = d**beta * signed
    if beta > 0:
        slopes = slopes + beta * d ** (beta - 1) * np.sign(signed) * s * no * cost
    return summed(d**beta * cost, slopes, off)


def varifocal(z: Array, t: Array, off: Mask, *, alpha: float, gamma: float) -> Answer:
    """t bce(z, t) where t > 0, slope t (s - t); a s^g (-log(1-s)) elsewhere.

    Zhang et al. 2021, https://arxiv.org/abs/2008.13367.
    """
    no = suppressed(z, gamma)
    cost = t * softplus(-z) + (1 - t) * softplus(z)
    signed = (1 - t) * sigmoid(z) - t * sigmoid(-z)
    terms = np.where(t > 0, t * cost, alpha * no.loss)
    return summed(terms, np.where(t > 0, t * signed, alpha * no.gradient), off)


def asymmetric(z: Array, t: Array, off: Mask, *, gamma_pos: float, gamma_neg: float, clip: float) -> Answer:
    """t (1-s)^gp (-log s) + (1-t) m^gn (-log(1-m)), m = max(s - clip, 0).

    The second changes by [gn m^(gn-1) (-log(1-m)) + m^gn / (1-m)] s (1-s) where m > 0, and not at all
    elsewhere. Without a clip, m = s, it is the focal term.
    Ridnik et al. 2021, https://arxiv.org/abs/2009.14119.
    """
    yes = suppressed(-z, gamma_pos)
    no = suppressed(z, gamma_neg) if clip == 0 else clipped(z, gamma_neg, clip)
    return summed(t * yes.loss + (1 - t) * no.loss, (1 - t) * no.gradient - t * yes.gradient, off)


def clipped(z: Array, gamma: float, clip: float) -> Answer:
    """m^g (-log(1-m)) and its slope."""
    s = sigmoid(z)
    m = np.maximum(s - clip, 0.0)
    cost = -np.log1p(-m)
    slope = m**gamma / (1 - m)
    if gamma > 0:
        slope = slope + gamma * np.where(m > 0, m, 1.0) ** (gamma - 1) * cost
    return Answer(m**gamma * cost, np.where(m > 0, slope * s * sigmoid(-z), 0.0))


def gradient_harmonised(
    z: Array, t: Array, off: Mask, *, bins: int, factors_at: Array | None = None
) -> Answer:
    """w bce with constant w = V / (n_b k), so its slope is w (s - t).

    V elements count, k bins of |s - t| are not empty, n_b elements share the bin. ``factors_at``: the logits
    of which w is made, if others than ``z``. Li et al. 2019, https://arxiv.org/abs/1811.05181.
    """
    at = z if factors_at is None else factors_at
    g = np.abs((1 - t) * sigmoid(at) - t * sigmoid(-at))
    where = np.minimum((g * bins).astype(int), bins - 1)
    filled = np.bincount(where[~off], minlength=bins)
    weight = (~off).sum() / (np.maximum(filled, 1) * max((filled > 0).sum(), 1))
    loss = t * softplus(-z) + (1 - t) * softplus(z)
    return summed(weight[where] * loss, weight[where] * ((1 - t) * sigmoid(z) - t * sigmoid(-z)), off)


def equalization(
    z: Array,
    t: Array,
    off: Mask,
    *,
    positive_gradient: Array,
    negative_gradient: Array,
    gamma: float,
    mu: float,
    alpha: float,
) -> Answer:
    """BCE weighted by the ratio of a class's gradients so far; 1 for a class that had none.

    Tan et al. 2021, https://arxiv.org/abs/2012.08548.
    """
    ratio = positive_gradient / np.maximum(negative_gradient, 1e-10)
    started = (positive_gradient > 0) | (negative_gradient > 0)
    no = np.where(started, sigmoid(gamma * (ratio - mu)), 1.0)
    return bce(z, t, off, pos_weight=1 + alpha * (1 - no), neg_weight=no)


def poly1(z: Array, t: Array, off: Mask, *, epsilon: float, activation: str) -> Answer:
    """bce + e (1 - pt), 1 - pt = t (1 - s) + (1 - t) s, which changes by (1 - 2 t) s (1 - s).

    Leng et al. 2022, https://arxiv.org/abs/2204.12511.
    """
    assert activation == "sigmoid"
    s, no = sigmoid(z), sigmoid(-z)
    terms = t * softplus(-z) + (1 - t) * softplus(z) + epsilon * (t * no + (1 - t) * s)
    return summed(terms, (1 - t) * s - t * no + epsilon * (1 - 2 * t) * s * no, off)


def distillation(z: Array, teacher: Array, off: Mask, *, temperature: float, activation: str) -> Answer:
    """T^2 [q log(q / s) + (1 - q) log((1 - q) / (1 - s))] of z / T and a constant q: slope T (s - q)."""
    assert activation == "sigmoid"
    z, teacher = z / temperature, teacher / temperature
    yes, no = sigmoid(teacher), sigmoid(-teacher)
    terms = yes * (softplus(-z) - softplus(-teacher)) + no * (softplus(z) - softplus(teacher))
    # s - q, exact also where both are nearly 1: s (1 - q) - (1 - s) q.
    return summed(temperature**2 * terms, temperature * (sigmoid(z) * no - sigmoid(-z) * yes), off)
