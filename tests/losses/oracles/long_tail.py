"""Softmax losses that know how many boxes each class has."""

import numpy as np
from losses.oracles.rows import Answer, Array, Mask
from losses.oracles.softmax import cross_entropy, log_softmax


def logit_adjusted(logits: Array, targets: Array, off: Mask, *, class_counts: Array, tau: float) -> Answer:
    """Cross-entropy of z + tau log(prior), a constant shift: its gradient is that of cross-entropy there.

    Menon et al. 2021, https://arxiv.org/abs/2007.07314, equation 10.
    """
    counts = np.maximum(class_counts, 1.0)
    return cross_entropy(logits + tau * np.log(counts / counts.sum()), targets, off)


def balanced_softmax(logits: Array, targets: Array, off: Mask, *, class_counts: Array) -> Answer:
    """L = -sum_y t_y log(n_y e^z_y / sum_j n_j e^z_j), so dL/dz_k = q_k sum(t) - t_k, q the fraction for k.

    Ren et al. 2020, https://arxiv.org/abs/2007.10740: written out, and not by ``logit_adjusted``.
    """
    counts = np.maximum(class_counts, 1.0)
    top = np.where(off, -np.inf, logits).max(axis=1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    mass = np.where(off, 0.0, counts * np.exp(np.minimum(logits - top, 0.0)))
    total = mass.sum(axis=1, keepdims=True)
    total = np.where(total > 0, total, 1.0)
    log_q = np.log(counts) + logits - top - np.log(total)
    loss = -(targets * log_q).sum(axis=1)
    return Answer(loss, mass / total * targets.sum(axis=1, keepdims=True) - targets)


def ldam(
    logits: Array, targets: Array, off: Mask, *, class_counts: Array, max_margin: float, scale: float
) -> Answer:
    """sum_y t_y CE(a, y), a = s (z - m_y e_y), m_y = max_margin (n_y / min n)^(-1/4).

    For each y: dCE/dz_k = s (softmax(a)_k - [k = y]). Cao et al. 2019, https://arxiv.org/abs/1906.07413.
    """
    counts = np.maximum(class_counts, 1.0)
    margins = max_margin * (counts / counts.min()) ** -0.25
    loss, gradient = np.zeros(len(logits)), np.zeros_like(logits)
    for y, one in enumerate(np.eye(logits.shape[1])):
        share = targets[:, y]
        part = cross_entropy(scale * (logits - margins * one), share[:, None] * one, off)
        loss, gradient = loss + part.loss, gradient + scale * part.gradient
    return Answer(loss, gradient)


def seesaw(
    logits: Array,
    targets: Array,
    off: Mask,
    *,
    class_counts: Array,
    p: float,
    q: float,
    factors_at: Array | None = None,
) -> Answer:
    """L = log(1 + sum_{j != i} S_ij e^(z_j - z_i)), the S constant.

    With w_j = S_ij e^z_j / sum_k S_ik e^z_k (S_ii = 1):  dL/dz_k = w_k - [k = i].
    log S_ij = p min(0, log N_j - log N_i) + q max(0, log sigma_j - log sigma_i); log sigma_j - log sigma_i is
    z_j - z_i. ``factors_at``: the logits of which sigma is made, if others than ``logits``.
    Wang et al. 2021, https://arxiv.org/abs/2008.10032.
    """
    counts = np.log(np.maximum(class_counts, 1.0))
    sigma = logits if factors_at is None else factors_at
    i = targets.argmax(axis=1)
    rows = np.arange(len(logits))
    log_s = p * np.minimum(0.0, counts - counts[i][:, None])
    log_s = log_s + q * np.maximum(0.0, sigma - sigma[rows, i][:, None])
    log_w = log_softmax(logits + log_s, off)
    labelled = targets.sum(axis=1)
    with np.errstate(invalid="ignore"):
        loss = np.where(labelled > 0, -log_w[rows, i], 0.0)
    return Answer(loss, np.exp(log_w) * labelled[:, None] - targets)
