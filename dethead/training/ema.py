"""Exponential moving average of the weights."""

import copy
import math

import torch
from torch import nn

from dethead.config import Run


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
        decay = self.decay
        if self.warmup_steps:
            decay *= 1 - math.exp(-step / self.warmup_steps)
        current = module.state_dict()
        averages, values = [], []
        for name, average in self.module.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                values.append(current[name])
            else:
                average.copy_(current[name])  # counters, such as BatchNorm's, are not averaged
        torch._foreach_lerp_(averages, values, 1 - decay)


def remark_on_length(run: Run, steps_per_epoch: int) -> str | None:
    """Give a line for a run whose average reaches back beyond the plain epochs at its end, else None."""
    ema, augment = run.training.ema, run.data.augment
    changes = augment.mosaic or augment.mixup or augment.jitter
    if ema is None or not changes or not 0 < augment.last_epochs_plain < run.training.epochs:
        return None
    length, plain = 1 / (1 - ema.decay), augment.last_epochs_plain * steps_per_epoch
    if length <= plain:
        return None
    enough = 1 - 2 / max(plain, 4)  # half as long as the plain steps; of few steps at least two
    return (
        f"training.ema.decay {ema.decay} averages the last {length:.0f} steps, and only {plain} "
        f"of them (data.augment.last_epochs_plain {augment.last_epochs_plain}) are without mosaics, mixup "
        f"and jitter; with {enough:.4g} or less most would be"
    )
