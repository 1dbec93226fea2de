"""What a run is told about settings that will hardly do what they were chosen for."""

from types import SimpleNamespace

import pytest
from tiny_runs import load_run
from torch import nn

from dethead.training.ema import WeightAverage
from dethead.training.optimisation import lr_factor
from dethead.training.remarks import remarks

MOSAICS = ("data.augment.mosaic=1.0", "data.augment.last_epochs_plain=2", "training.epochs=12")
WARM = "training.schedule={{name: cosine, warmup_steps: {}}}"


def said(*overrides, steps_per_epoch=100, weights=None):
    inputs = SimpleNamespace(weights=weights, init_from=None)
    return [*remarks(load_run(*overrides), inputs, steps_per_epoch)]


def test_of_usual_settings_nothing_is_said():
    assert said(*MOSAICS, WARM.format(100), "training.ema={decay: 0.995, warmup_steps: 200}") == []


def test_frozen_stages_need_weights_from_somewhere():
    frozen = ("backbone.frozen_stages=1", WARM.format(0))
    assert "backbone.frozen_stages 1 stay at random weights" in said(*frozen)[0]
    assert said(*frozen, weights="a.pth") == []


# --- warm-up


@pytest.mark.parametrize(("warmup", "steps_per_epoch"), [(200, 5), (200, 33), (73, 12)])
def test_a_warmup_of_more_than_half_of_the_steps_is_named(warmup, steps_per_epoch):
    options = "training.epochs=12", WARM.format(warmup)
    (line,) = said(*options, steps_per_epoch=steps_per_epoch)
    steps = 12 * steps_per_epoch
    rates = [lr_factor(load_run(*options), step, steps_per_epoch) for step in range(steps)]
    assert f"training.schedule.warmup_steps {warmup} of {steps} steps in all" in line
    assert f"never exceeds {100 * max(rates):.0f}% of training.optimizer.lr" in line
    assert line.endswith(f"a tenth of the steps would be {steps // 10}")


def test_a_warmup_of_half_of_them_is_not():
    assert said("training.epochs=12", WARM.format(300), steps_per_epoch=50) == []


def test_with_milestones_too():
    schedule = "training.schedule={name: steps, milestones: [8], warmup_steps: 100}"
    (line,) = said("training.epochs=12", schedule, steps_per_epoch=10)
    assert "never exceeds 80% of" in line  # step 80 of a warm-up of 100 is the last of the full rate


# --- mosaics that never come


@pytest.mark.parametrize(("plain", "epochs"), [(2, 2), (5, 2), (2, 1)])
def test_mosaics_in_no_epoch_are_named(plain, epochs):
    options = ("data.augment.mosaic=1.0", f"data.augment.last_epochs_plain={plain}", WARM.format(0))
    (line,) = said(*options, f"training.epochs={epochs}")
    assert line.startswith(
        f"data.augment.last_epochs_plain {plain} of training.epochs {epochs}: no epoch has"
    )
    assert said(*options, f"training.epochs={epochs}", "data.augment.mosaic=0.0") == []


# --- an average that is one of mosaics


def share_of_plain(decay, warmup, steps, plain):
    """Of a number that is 1 in the plain steps and 0 before, the average is the share."""
    module = nn.Linear(1, 1, bias=False).requires_grad_(False)
    module.weight.fill_(0)
    module.double()
    average = WeightAverage(module, decay, warmup)
    for step in range(1, steps + 1):
        if step > steps - plain:
            module.weight.fill_(1)
        average.update(module, step)
    return float(average.module.weight)


@pytest.mark.parametrize(
    ("decay", "warmup", "steps_per_epoch"),
    [
        (0.995, 200, 5),
        (0.995, 200, 100),
        (0.995, 0, 5),
        (0.995, 0, 69),  # half: 0.995^138.3
        (0.995, 0, 70),
        (0.999, 200, 225),
        (0.998, 200, 187),
    ],
)
def test_an_average_that_is_mostly_of_mosaics_is_named(decay, warmup, steps_per_epoch):
    ema = f"training.ema={{decay: {decay}, warmup_steps: {warmup}}}"
    lines = said(*MOSAICS, WARM.format(0), ema, steps_per_epoch=steps_per_epoch)
    share = share_of_plain(decay, warmup, 12 * steps_per_epoch, 2 * steps_per_epoch)
    assert len(lines) == (share < 0.5)
    for line in lines:
        assert line.startswith(f"training.ema.decay {decay}: {100 * (1 - share):.0f}% of the last average")
        assert f"the {2 * steps_per_epoch} steps without mosaics" in line


def test_the_decay_that_is_named_would_do():
    ema = "training.ema={{decay: {}, warmup_steps: 0}}"
    (line,) = said(*MOSAICS, WARM.format(0), ema.format(0.999))
    assert "with 0.99 or less" in line
    assert share_of_plain(0.99, 0, 1200, 200) > 0.5
    assert said(*MOSAICS, WARM.format(0), ema.format(0.99)) == []


@pytest.mark.parametrize(
    "change",
    ["training.ema=null", "data.augment.mosaic=0.0", "data.augment.last_epochs_plain=0"],
)
def test_without_average_mosaics_or_an_end_of_plain_epochs_nothing_is_said_of_it(change):
    options = (*MOSAICS, WARM.format(0), "training.ema={decay: 0.999, warmup_steps: 0}")
    assert len(said(*options)) == 1
    assert said(*options, change) == []


@pytest.mark.parametrize("change", ["data.augment.mixup=0.5", "data.augment.jitter=[0.5, 1.5]"])
def test_mixup_and_jitter_count_as_mosaics_do(change):
    options = (*MOSAICS, WARM.format(0), "training.ema={decay: 0.999, warmup_steps: 0}")
    assert len(said(*options, "data.augment.mosaic=0.0", change)) == 1
