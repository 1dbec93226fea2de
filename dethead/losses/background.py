"""What background costs under yes/no questions, with its slope: the formulas of ``one_pass``.

Background answers "no" to all C questions, so that its loss depends on the logits alone. Each formula takes
a (N, C) chunk of logits z, float32 or float64, which it may overwrite, and room for more, and gives loss and
slope = d loss / d z, both (N, C), not weighted. All work in place: a chunk stays in the processor's cache.

With p = sigmoid(z), n = 1 - p and s = -log(1 - p), which is softplus(z). No slope is ever negative.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Room = tuple[Tensor, Tensor, Tensor]
"""Three (N, C) tensors whose contents nobody needs."""

Formula = Callable[[Tensor, Room], tuple[Tensor, Tensor]]
"""(N, C) logits, which are overwritten, and room -> (N, C) loss and slope."""


class Background(NamedTuple):
    """The loss of background rows under one class loss."""

    formula: Formula
    weight: float | Tensor = 1.0
    """Factor on the loss: of all classes, or (C,) of each."""


def bce(logits: Tensor, room: Room) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy: s, with slope p."""
    p, _, s = _answers(logits, room)
    return s, p


def focal(logits: Tensor, room: Room, *, gamma: float) -> tuple[Tensor, Tensor]:
    """Focal loss: ``p^gamma s``, with slope ``p^gamma (p + gamma n s)``.

    Quality focal loss asks the same of background, and so do varifocal loss and, without clip, the asymmetric
    one.

    Args:
        logits: (N, C), overwritten.
        room: three of that shape.
        gamma: 0 or at least 1.

    Example:
        >>> room = torch.empty(1, 1), torch.empty(1, 1), torch.empty(1, 1)
        >>> focal(torch.zeros(1, 1), room, gamma=2.0)  # ln 2 / 4, (1/2 + ln 2) / 4
        (tensor([[0.1733]]), tensor([[0.2983]]))
    """
    p, minus_n, s = _answers(logits, room)
    slope_of_power = minus_n.mul_(s)
    power = torch.pow(p, gamma, out=logits)
    return s.mul_(power), p.sub_(slope_of_power, alpha=gamma).mul_(power)


def poly1(logits: Tensor, room: Room, *, epsilon: float) -> tuple[Tensor, Tensor]:
    """Poly-1: ``s + epsilon p``, with slope ``p (1 + epsilon n)``."""
    p, minus_n, s = _answers(logits, room)
    return s.add_(p, alpha=epsilon), p.mul_(minus_n.mul_(-epsilon).add_(1))


def asymmetric(logits: Tensor, room: Room, *, gamma: float, clip: float) -> tuple[Tensor, Tensor]:
    """Asymmetric loss: ``m^gamma (-log(1 - m))``, m = max(p - clip, 0).

    The slope is ``p n (m^gamma / (1 - m) - gamma m^(gamma - 1) log(1 - m))`` where p is above clip, else 0.

    Args:
        logits: (N, C), overwritten.
        room: three of that shape.
        gamma: 0 or at least 1.
        clip: in (0, 1); without it take ``focal``, which is exact where p is nearly 1.
    """
    p, others, _ = room
    torch.sigmoid(logits, out=p)
    torch.sigmoid(logits.neg_(), out=others)
    pn = p * others
    m, left = p.sub_(clip).clamp_(min=0), others.add_(clip).clamp_(max=1)  # left = 1 - m
    power, cost = m.pow(gamma), -left.log()
    slope = power / left
    if gamma:
        slope.add_(m.pow(gamma - 1) * cost, alpha=gamma)
    return cost.mul_(power), slope.mul_(pn).masked_fill_(m == 0, 0.0)


def _answers(logits: Tensor, room: Room) -> Room:
    """Give p, -n and s; the logits are overwritten.

    ``s = max(z, 0) - log1p(-min(p, n))`` is exact on both sides of 0, of one sigmoid and one logarithm.
    n = 1 - p may be rounded: where that matters, p is nearly 1 and s large beside it.
    """
    p, minus_n, s = room
    torch.sigmoid(logits, out=p)
    torch.sub(p, 1, out=minus_n)
    torch.neg(p, out=s)
    torch.maximum(s, minus_n, out=s).log1p_()
    return p, minus_n, torch.sub(logits.clamp_(min=0), s, out=s)
