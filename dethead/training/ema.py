"""Exponential moving average of the weights."""

import copy
import math

import torch
from torch import nn


class WeightAverage:
    """Keeps a running average of a module's parameters and buffers in a copy of it.

    After step k the average moves by ``1 - decay * (1 - exp(-k / warmup_steps))`` towards the weights: fast
    at first, so that the random start is forgotten, then slowly.

    Args:
        module: what is averaged.
        decay: in (0, 1), the share kept in the long run.
        warmup_steps: 0 for none.
    """

    def __init__(self, module: nn.Module, decay: float, warmup_steps: int) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay, self.warmup_steps = decay, warmup_steps

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards ``module`` after its ``step``-th step, counted from 1."""
        decay = decay_at(step, self.decay, self.warmup_steps)
        current = module.state_dict()
        averages, values = [], []
        for name, average in self.module.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                values.append(current[name])
            else:
                average.copy_(current[name])  # counters, such as BatchNorm's, are not averaged
        torch._foreach_lerp_(averages, values, 1 - decay)


def decay_at(step: int, decay: float, warmup_steps: int) -> float:
    """Give the share of the average that is kept after the ``step``-th step, counted from 1."""
    return decay * (1 - math.exp(-step / warmup_steps)) if warmup_steps else decay
