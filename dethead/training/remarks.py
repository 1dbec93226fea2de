"""What a run is told before it starts: settings that are allowed and hardly meant."""

import math
from collections.abc import Iterator

from dethead.config import Run
from dethead.training.ema import decay_at
from dethead.training.inputs import Inputs
from dethead.training.optimisation import lr_factor

_LONG_WARMUP = 0.5
"""Of all steps. A third has been found to cost nothing (docs/recipe.md, Fewer photographs)."""


def remarks(run: Run, inputs: Inputs, steps_per_epoch: int) -> Iterator[str]:
    """Give a line for each setting that will hardly do what it was chosen for with these data.

    Args:
        run: the config.
        inputs: what it starts from.
        steps_per_epoch: optimiser steps.
    """
    for line in (
        _on_frozen_stages(run, inputs),
        _on_warmup(run, steps_per_epoch),
        _on_plain_epochs(run),
        _on_average(run, steps_per_epoch),
    ):
        if line is not None:
            yield line


def _on_frozen_stages(run: Run, inputs: Inputs) -> str | None:
    backbone = run.backbone
    if not backbone.frozen_stages or backbone.weights or inputs.weights or inputs.init_from:
        return None
    return (
        f"backbone.frozen_stages {backbone.frozen_stages} stay at random weights: give --weights, "
        "or set it to 0 to train them"
    )


def _on_warmup(run: Run, steps_per_epoch: int) -> str | None:
    steps, warmup = run.training.epochs * steps_per_epoch, run.training.schedule.warmup_steps
    if warmup <= _LONG_WARMUP * steps:
        return None
    highest = max(lr_factor(run, step, steps_per_epoch) for step in range(steps))
    return (
        f"training.schedule.warmup_steps {warmup} of {steps} steps in all: the learning rate never exceeds "
        f"{highest:.0%} of training.optimizer.lr; a tenth of the steps would be {max(1, steps // 10)}"
    )


def _on_plain_epochs(run: Run) -> str | None:
    plain, epochs = run.data.augment.last_epochs_plain, run.training.epochs
    if not _changes_pictures(run) or plain < epochs:
        return None
    return (
        f"data.augment.last_epochs_plain {plain} of training.epochs {epochs}: no epoch has mosaics, mixup "
        "or jitter"
    )


def _on_average(run: Run, steps_per_epoch: int) -> str | None:
    """A long average of the weights at the end is still one of mosaics, which cost 2 points of AP."""
    ema, epochs, last = run.training.ema, run.training.epochs, run.data.augment.last_epochs_plain
    if ema is None or not _changes_pictures(run) or not 0 < last < epochs:
        return None
    total, plain = epochs * steps_per_epoch, last * steps_per_epoch
    before = math.prod(
        decay_at(step, ema.decay, ema.warmup_steps) for step in range(total - plain + 1, total + 1)
    )
    if before <= 0.5:
        return None
    enough = 1 - 2 / max(plain, 4)  # half as long as the plain steps; of few steps at least two
    return (
        f"training.ema.decay {ema.decay}: {before:.0%} of the last average are weights of before the {plain} "
        f"steps without mosaics, mixup and jitter (data.augment.last_epochs_plain {last}); with {enough:.4g} "
        "or less most would be of those steps"
    )


def _changes_pictures(run: Run) -> bool:
    augment = run.data.augment
    return bool(augment.mosaic or augment.mixup or augment.jitter)
