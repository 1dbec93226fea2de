"""Which parameters are moved, and the learning rate of every step."""

import math

import pytest
import torch
from tiny_runs import load_run

from dethead import build
from dethead.training.accelerator import make_accelerator
from dethead.training.optimisation import lr_factor, make_optimizer, restore_optimizer, set_lr


def factors(*overrides: str, steps: int, steps_per_epoch: int) -> list[float]:
    run = load_run(*overrides)
    return [lr_factor(run, step, steps_per_epoch) for step in range(steps)]


def test_warm_up_rises_in_a_line_and_the_cosine_ends_at_the_final_factor():
    schedule = "training.schedule={name: cosine, warmup_steps: 2, final_factor: 0.1}"
    found = factors("training.epochs=5", schedule, steps=5, steps_per_epoch=1)
    # by hand: 0.1 + 0.9 * (1 + cos(pi * k / 4)) / 2, its first value halved
    cosine = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(5)]
    assert found == pytest.approx([0.5, *cosine[1:]])
    assert found[-1] == pytest.approx(0.1)


def test_the_schedule_of_one_step_is_no_division_by_zero():
    assert factors("training.epochs=1", steps=1, steps_per_epoch=1) == [0.5]  # half of the warm-up


def test_steps_multiply_after_their_epochs():
    schedule = "training.schedule={name: steps, warmup_steps: 0, milestones: [1, 3], factor: 0.1}"
    found = factors("training.epochs=4", schedule, steps=8, steps_per_epoch=2)
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_biases_and_norms_do_not_decay_and_the_backbone_has_its_own_rate():
    optimizer = "training.optimizer={name: adamw, lr: 0.1, weight_decay: 0.5, backbone_lr_factor: 0.25}"
    run = load_run(optimizer)
    detector = build.detector(run, 3)
    inner = {id(p) for p in detector.backbone.backbone.parameters()}
    seen = 0
    for group in make_optimizer(run, detector).param_groups:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(0.025 if id(parameter) in inner else 0.1)
            assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0)
            seen += 1
    assert seen == len([*detector.parameters()])


def test_frozen_stages_are_not_in_the_optimizer():
    run = load_run("backbone.frozen_stages=2")
    detector = build.detector(run, 3)
    moved = {id(p) for group in make_optimizer(run, detector).param_groups for p in group["params"]}
    frozen = [p for stage in detector.backbone.stages()[:2] for p in stage.parameters()]
    assert frozen
    assert not moved & {id(p) for p in frozen}


def test_sgd_gets_its_momentum():
    run = load_run("training.optimizer={name: sgd, lr: 0.1, momentum: 0.8, weight_decay: 0.0}")
    optimizer = make_optimizer(run, build.detector(run, 3))
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.8}


def test_set_lr_multiplies_the_configured_rate_each_time_anew():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [parameter], "lr": 0.2, "base_lr": 0.2}])
    for _ in range(2):
        set_lr(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_adamw_in_one_kernel_moves_as_its_definition_says():
    run = load_run("training.optimizer={name: adamw, lr: 0.1, weight_decay: 0.5}")
    detector = build.detector(run, 3)
    optimizer = make_optimizer(run, detector)
    assert all(group["fused"] for group in optimizer.param_groups)
    exact = [p.detach().double() for group in optimizer.param_groups for p in group["params"]]
    decay = [group["weight_decay"] for group in optimizer.param_groups for _ in group["params"]]
    first, second = ([torch.zeros_like(p) for p in exact] for _ in range(2))
    for step in (1, 2, 3):
        optimizer.zero_grad()
        detector(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)).raw.square().mean().backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for k, p in enumerate(parameters):  # Loshchilov and Hutter 2019, algorithm 2
            slope = p.grad.double()
            first[k] = 0.9 * first[k] + 0.1 * slope
            second[k] = 0.999 * second[k] + 0.001 * slope**2
            mean, square = first[k] / (1 - 0.9**step), second[k] / (1 - 0.999**step)
            exact[k] = exact[k] - 0.1 * decay[k] * exact[k] - 0.1 * mean / (square.sqrt() + 1e-8)
        optimizer.step()
        for p, wanted in zip(parameters, exact, strict=True):
            torch.testing.assert_close(p.detach().double(), wanted, rtol=1e-4, atol=1e-5)


def test_adamw_is_left_to_torch_on_other_devices():
    run = load_run()
    optimizer = make_optimizer(run, build.detector(run, 3).to("meta"))
    assert optimizer.defaults["fused"] is None


def test_adamw_is_left_to_torch_where_a_parameter_has_gaps_in_memory():
    run = load_run()
    detector = build.detector(run, 3)
    detector.scale = torch.nn.Parameter(torch.ones(4, 6)[:, ::2])  # its gradient would have none
    assert make_optimizer(run, detector).defaults["fused"] is None


@pytest.mark.parametrize("saved", [None, True], ids=["one by one", "in one pass"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "accelerate"])
def test_a_checkpoint_of_either_way_of_adamw_goes_on_under_a_gradient_scaler(saved, wrapped):
    def step(optimizer, scaler):
        scaler.scale((weight * torch.tensor([1.0, -2.0])).sum()).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    weight = torch.nn.Parameter(torch.ones(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    first = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, fused=saved)
    step(first, scaler)
    state = first.state_dict()
    resumed = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, fused=True)
    restore_optimizer(make_accelerator("cpu").prepare_optimizer(resumed) if wrapped else resumed, state)
    step(resumed, scaler)
    torch.testing.assert_close(
        weight.detach(), torch.tensor([0.8, 1.2])
    )  # each step is lr, against the slope
