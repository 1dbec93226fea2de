"""The running average of the weights, by hand."""

import math

import pytest
import torch
from torch import nn

from dethead.training.ema import WeightAverage


def layer(value: float) -> nn.Linear:
    made = nn.Linear(1, 1, bias=False)
    nn.init.constant_(made.weight, value)
    return made


def test_each_step_moves_the_average_by_one_minus_decay():
    module = layer(1.0)
    average = WeightAverage(module, decay=0.9, warmup_steps=0)
    nn.init.constant_(module.weight, 2.0)
    found = []
    for step in (1, 2):
        average.update(module, step)
        found.append(average.module.weight.item())
    assert found == pytest.approx([1.1, 1.19])


def test_the_average_forgets_faster_in_the_warm_up():
    module = layer(1.0)
    average = WeightAverage(module, decay=0.9, warmup_steps=10)
    nn.init.constant_(module.weight, 2.0)
    average.update(module, 1)
    decay = 0.9 * (1 - math.exp(-1 / 10))
    assert average.module.weight.item() == pytest.approx(decay + 2 * (1 - decay))


def test_buffers_are_averaged_and_counters_copied():
    module = nn.BatchNorm2d(1)
    average = WeightAverage(module, decay=0.5, warmup_steps=0)
    module.running_mean.fill_(4.0)
    module.num_batches_tracked.fill_(7)
    average.update(module, 1)
    assert (average.module.running_mean.item(), average.module.num_batches_tracked.item()) == (2.0, 7)


def test_the_average_is_in_evaluation_mode_and_wants_no_gradient():
    average = WeightAverage(layer(1.0).train(), decay=0.9, warmup_steps=0).module
    assert not average.training
    assert not average.weight.requires_grad


def test_the_module_itself_is_left_alone():
    module = layer(1.0)
    WeightAverage(module, decay=0.9, warmup_steps=0).update(layer(3.0), 1)
    torch.testing.assert_close(module.weight.detach(), torch.tensor([[1.0]]))
