"""Margins between the score of the true class and those of wrong ones."""

import numpy as np
from losses.oracles.rows import Answer, Array, Mask


def hinge(
    z: Array,
    targets: Array,
    off: Mask,
    *,
    margin: float = 1.0,
    variant: str = "weston_watkins",
    squared: bool = False,
) -> Answer:
    """Per row with label y: violations v_j = max(0, margin + z_j - z_y), j != y; their sum or the largest.

    Each v_j > 0 that counts adds h'(v_j), 1 or 2 v_j, to the slope of z_j and takes it from that of z_y;
    equal largest ones share.
    """
    loss, gradient = np.zeros(len(z)), np.zeros_like(z)
    for n in np.flatnonzero(targets.sum(axis=1)):
        y = int(targets[n].argmax())
        others = [j for j in range(z.shape[1]) if j != y and not off[n, j]]
        v = np.maximum(0.0, margin + z[n, others] - z[n, y])
        share = np.ones(len(others))
        if variant == "crammer_singer" and others:
            share = (z[n, others] == z[n, others].max()) / (z[n, others] == z[n, others].max()).sum()
        loss[n] = (share * (v**2 if squared else v)).sum()
        slopes = share * (2 * v if squared else (v > 0))
        gradient[n, others] = slopes
        gradient[n, y] = -slopes.sum()
    return Answer(loss, gradient)


def margin_ranking(
    z: Array, targets: Array, off: Mask, *, margin: float = 1.0, against: str = "row"
) -> Answer:
    """max(0, margin + highest wrong score - z_y), the highest of the row or of all rows that have a label."""
    if against == "row":
        return hinge(z, targets, off, margin=margin, variant="crammer_singer")
    unlabelled = targets.sum(axis=1, keepdims=True) == 0
    wrong = np.where(off | (targets > 0) | unlabelled, -np.inf, z)
    highest = wrong.max() if wrong.size else -np.inf
    share = (wrong == highest) / max((wrong == highest).sum(), 1)
    loss, gradient = np.zeros(len(z)), np.zeros((len(z), *z.shape))
    for n in np.flatnonzero(targets.sum(axis=1)):
        y = int(targets[n].argmax())
        loss[n] = max(0.0, margin + highest - z[n, y])
        if loss[n] > 0:
            gradient[n] = share
            gradient[n, n, y] -= 1.0
    return Answer(loss, gradient)
