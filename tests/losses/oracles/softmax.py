"""Losses of one choice among C classes. With p = softmax(z):  d log p_c / d z_k = [c = k] - p_k."""

import numpy as np
from losses.oracles.rows import Answer, Array, Mask


def log_softmax(logits: Array, off: Mask) -> Array:
    """(N, C) log p over the classes that are not off; -inf for those that are."""
    logits = np.where(off, -np.inf, logits)
    top = logits.max(axis=1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return np.where(off, -np.inf, log_p)


def times(weights: Array, values: Array) -> Array:
    """The product, with 0 * inf = 0."""
    with np.errstate(invalid="ignore"):
        return np.where(weights == 0, 0.0, weights * values)


def rest_of(p: Array) -> Array:
    """(N, C) 1 - p_c as the sum of the others, exact where p_c is nearly 1."""
    return np.stack([np.delete(p, c, axis=1).sum(axis=1) for c in range(p.shape[1])], axis=1)


def cross_entropy(logits: Array, targets: Array, off: Mask, *, label_smoothing: float = 0.0) -> Answer:
    """L = -sum t'_c log p_c with t' = (1 - e) t + e (sum t) / C, so dL/dz_k = p_k sum(t') - t'_k."""
    kept = np.maximum((~off).sum(axis=1, keepdims=True), 1)
    spread = np.where(off, 0.0, targets.sum(axis=1, keepdims=True) / kept)
    smooth = (1 - label_smoothing) * targets + label_smoothing * spread
    log_p = log_softmax(logits, off)
    return Answer(
        -times(smooth, log_p).sum(axis=1), np.exp(log_p) * smooth.sum(axis=1, keepdims=True) - smooth
    )


def negative_log_likelihood(log_p: Array, targets: Array, off: Mask) -> Answer:
    """L = -sum t_c l_c of given l, so dL/dl_k = -t_k."""
    return Answer(-times(targets, log_p).sum(axis=1), -targets)


def multilabel_softmax(logits: Array, targets: Array, off: Mask) -> Answer:
    """Cross-entropy of t / sum(t): dL/dz_k = p_k - t_k / M, M = sum(t)."""
    total = targets.sum(axis=1, keepdims=True)
    return cross_entropy(logits, targets / np.where(total > 0, total, 1.0), off)


def focal(logits: Array, targets: Array, off: Mask, *, gamma: float) -> Answer:
    """L = sum t_c (1 - p_c)^g (-log p_c).

    dL/dp_c = t_c h_c / p_c with h_c = g p_c (1 - p_c)^(g-1) log p_c - (1 - p_c)^g, and
    dp_c/dz_k = p_c ([c = k] - p_k), so dL/dz_k = t_k h_k - p_k sum_c t_c h_c.
    """
    log_p = log_softmax(logits, off)
    p = np.exp(log_p)
    rest = rest_of(p)
    loss = times(targets * rest**gamma, -log_p).sum(axis=1)
    slope = -targets * rest**gamma
    if gamma > 0:
        slope = slope + times(targets * gamma * p * rest ** (gamma - 1), log_p)
    return Answer(loss, slope - p * slope.sum(axis=1, keepdims=True))


def poly1(logits: Array, targets: Array, off: Mask, *, epsilon: float, activation: str = "softmax") -> Answer:
    """L = CE + e sum t_c (1 - p_c); the second term changes by e (p_k sum_c t_c p_c - t_k p_k)."""
    assert activation == "softmax"
    loss, gradient = cross_entropy(logits, targets, off)
    p = np.exp(log_softmax(logits, off))
    tp = targets * p
    extra = epsilon * (targets * rest_of(p)).sum(axis=1)
    return Answer(loss + extra, gradient + epsilon * (p * tp.sum(axis=1, keepdims=True) - tp))


def kl_divergence(logits: Array, targets: Array, off: Mask, *, temperature: float = 1.0) -> Answer:
    """L = T^2 sum t_c (log t_c - log softmax(z / T)_c), so dL/dz_k = T^2 (1 / T) (p_k sum(t) - t_k)."""
    log_p = log_softmax(logits / temperature, off)
    with np.errstate(divide="ignore"):
        entropy = times(targets, np.log(targets))
    loss = temperature**2 * (entropy - times(targets, log_p)).sum(axis=1)
    return Answer(loss, temperature * (np.exp(log_p) * targets.sum(axis=1, keepdims=True) - targets))


def distillation(
    logits: Array, teacher: Array, off: Mask, *, temperature: float, activation: str = "softmax"
) -> Answer:
    """KL of softmax(teacher / T), a constant, and softmax(z / T): dL/dz = T (p - q)."""
    assert activation == "softmax"
    log_p, log_q = log_softmax(logits / temperature, off), log_softmax(teacher / temperature, off)
    p, q = np.exp(log_p), np.exp(log_q)
    with np.errstate(invalid="ignore"):
        apart = np.where(off, 0.0, log_q - log_p)
    return Answer(temperature**2 * times(q, apart).sum(axis=1), temperature * (p - q))
