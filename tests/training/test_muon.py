"""Muon, against singular value decompositions, float64 formulas and PyTorch's own."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import load_run

from dethead import DetectionHead, SoftmaxCE, build
from dethead.training.muon import COEFFICIENTS, Muon, orthogonalised
from dethead.training.optimisation import make_optimizer, restore_optimizer


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """Jordan's iteration as he writes it, in float64: of the whole matrix each time."""
    a, b, c = COEFFICIENTS
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x


@given(st.integers(1, 12), st.integers(0, 12), st.integers(1, 3), st.integers(0, 99))
def test_orthogonalised_is_the_iteration_of_its_definition(rows, more, count, seed):
    matrices = drawn(count, rows, rows + more, seed=seed)
    wanted = torch.stack([newton_schulz(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonalised(matrices).double(), wanted, rtol=1e-3, atol=1e-4)


def test_orthogonalised_keeps_singular_vectors_and_levels_the_values():
    left, _ = torch.linalg.qr(drawn(20, 20))
    right, _ = torch.linalg.qr(drawn(50, 20, seed=1))
    values = torch.logspace(0, -2, 20)
    found = orthogonalised((left * values @ right.T)[None])[0]
    levelled = left.T @ found @ right
    assert 0.6 < levelled.diagonal().min() < levelled.diagonal().max() < 1.25
    assert (levelled - levelled.diagonal().diag()).abs().max() < 1e-3


def test_no_gradient_is_no_step_but_decay():
    weight = torch.nn.Parameter(torch.ones(3, 4))
    weight.grad = torch.zeros(3, 4)
    Muon([{"params": [weight], "matrices": True}], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((3, 4), 0.95))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon is there from PyTorch 2.9 on")
@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (8, 8)])
def test_moves_matrices_as_pytorch_does(shape):
    ours, theirs = (torch.nn.Parameter(drawn(*shape)) for _ in range(2))
    settings = {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.9}
    mine = Muon([{"params": [ours], "matrices": True}], **settings)
    peer = torch.optim.Muon([theirs], **settings, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        ours.grad = drawn(*shape, seed=step + 1)
        theirs.grad = ours.grad.clone()
        mine.step()
        peer.step()
    assert (ours - drawn(*shape)).abs().mean() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-3)  # theirs is in bfloat16


def test_a_convolution_is_the_matrix_of_its_outputs_and_a_step_has_the_size_asked_for():
    weight = torch.nn.Parameter(drawn(8, 4, 3, 3).to(memory_format=torch.channels_last))
    before = weight.detach().clone()
    weight.grad = drawn(8, 4, 3, 3, seed=1).to(memory_format=torch.channels_last)
    optimizer = Muon([{"params": [weight], "matrices": True}], lr=0.01, update_rms=0.4)
    optimizer.step()
    step = (before - weight.detach()) / 0.01
    # In the first step average and gradient have one direction, so the momentum does not show.
    wanted = newton_schulz(weight.grad.reshape(8, 36)).float() * 0.4 * 36**0.5
    torch.testing.assert_close(step.reshape(8, 36), wanted, rtol=1e-3, atol=1e-3)
    assert float(step.square().mean().sqrt()) == pytest.approx(0.4, rel=0.2)  # singular values are near 1


def test_equal_shapes_are_moved_as_if_alone():
    shapes = [(6, 9), (9, 6), (6, 9), (4, 2)]
    together = [torch.nn.Parameter(drawn(*shape, seed=k)) for k, shape in enumerate(shapes)]
    alone = copy.deepcopy(together)
    groups = [
        {"params": together[:2], "matrices": True},
        {"params": together[2:], "matrices": True, "lr": 0.2, "weight_decay": 0.1},
    ]
    for parameters in (together, alone):
        for k, parameter in enumerate(parameters):
            parameter.grad = drawn(*parameter.shape, seed=10 + k)
    Muon(groups, lr=0.1).step()
    for k, parameter in enumerate(alone):
        own = {"lr": 0.1} if k < 2 else {"lr": 0.2, "weight_decay": 0.1}
        Muon([{"params": [parameter], "matrices": True, **own}]).step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_everything_else_is_moved_by_adamw():
    ours, theirs = (torch.nn.Parameter(drawn(5)) for _ in range(2))
    matrix = torch.nn.Parameter(drawn(3, 4))
    optimizer = Muon(
        [{"params": [ours], "lr": 0.1, "weight_decay": 0.3}, {"params": [matrix], "matrices": True}]
    )
    peer = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.3)
    for step in range(3):
        ours.grad = drawn(5, seed=step + 1)
        theirs.grad, matrix.grad = ours.grad.clone(), torch.ones(3, 4)
        optimizer.step()
        peer.step()
    assert torch.equal(ours, theirs)


def test_parameters_without_a_gradient_stay_and_the_closure_gives_the_loss():
    still, moved = torch.nn.Parameter(drawn(3, 4)), torch.nn.Parameter(drawn(3, 4))
    optimizer = Muon([{"params": [still, moved], "matrices": True}], lr=0.1)

    def closure():
        loss = moved.square().sum()
        loss.backward()
        return loss

    wanted = float(moved.detach().square().sum())
    assert optimizer.step(closure).item() == pytest.approx(wanted)
    assert torch.equal(still, drawn(3, 4))
    assert not torch.equal(moved, drawn(3, 4))


def test_a_vector_is_no_matrix():
    with pytest.raises(ValueError, match=r"2 dimensions or more, got a parameter of shape \(3,\)"):
        Muon([{"params": [torch.nn.Parameter(torch.zeros(3))], "matrices": True}])


def test_groups_added_later_are_moved_as_those_of_the_start():
    later, first, matrix = (torch.nn.Parameter(drawn(4, 4, seed=k)) for k in range(3))
    optimizer = Muon([{"params": [matrix], "matrices": True}], lr=0.1, weight_decay=0.3)
    optimizer.add_param_group({"params": [later]})
    peer = torch.optim.AdamW([first], lr=0.1, weight_decay=0.3)
    first.data.copy_(later.data)
    for parameter in (later, first, matrix):
        parameter.grad = torch.ones(4, 4)
    optimizer.step()
    peer.step()
    assert torch.equal(later, first)


def test_the_layer_of_embeddings_is_an_output_layer():
    head = DetectionHead(8, 1, 3, SoftmaxCE(), embedding_channels=4)
    assert head.output_layers == (head.prediction, head.embedding)


MUON = (
    "training.optimizer={name: muon, lr: 0.1, weight_decay: 0.5, backbone_lr_factor: 0.25, update_rms: 0.4}"
)


def test_towers_neck_and_backbone_go_to_muon_outputs_depthwise_and_norms_to_adamw():
    run = load_run(MUON, "head.separable=true", "head.depth=1")
    detector = build.detector(run, 3)
    groups = make_optimizer(run, detector).param_groups
    by_muon = {id(p) for group in groups if group["matrices"] for p in group["params"]}
    for group in groups:
        assert group["lr"] in (0.1, 0.025)
        if group["matrices"]:
            assert (group["weight_decay"], group["momentum"], group["update_rms"]) == (0.5, 0.95, 0.4)
    seen = set()
    for name, module in detector.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            kind = (
                "output"
                if module is detector.head.prediction
                else "depthwise"
                if module.groups > 1
                else "full"
            )
            assert (id(module.weight) in by_muon) == (kind == "full"), name
            assert id(module.bias) not in by_muon, name
            seen.add(kind)
    assert seen == {"output", "depthwise", "full"}
    assert all(p.ndim >= 2 for group in groups if group["matrices"] for p in group["params"])
    assert sum(len(group["params"]) for group in groups) == len([*detector.parameters()])


def test_a_saved_state_goes_on_as_if_never_saved():
    run = load_run(MUON)

    def fresh():
        torch.manual_seed(0)
        detector = build.detector(run, 3)
        return detector, make_optimizer(run, detector)

    def move(detector, optimizer, steps):
        for step in steps:
            optimizer.zero_grad()
            images = torch.full((2, 3, 64, 64), 40 * step, dtype=torch.uint8)
            detector(images).raw.square().mean().backward()
            optimizer.step()

    detector, optimizer = fresh()
    move(detector, optimizer, (1, 2))
    weights, state = copy.deepcopy(detector.state_dict()), copy.deepcopy(optimizer.state_dict())
    move(detector, optimizer, (3, 4))
    resumed, other = fresh()
    resumed.load_state_dict(weights)
    restore_optimizer(other, state)
    move(resumed, other, (3, 4))
    for name, value in detector.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_gradient_scaler_leaves_no_trace_and_skips_an_overflow():
    def trained(scaler):
        weight, bias = torch.nn.Parameter(drawn(4, 6)), torch.nn.Parameter(torch.zeros(4))
        optimizer = Muon([{"params": [weight], "matrices": True}, {"params": [bias]}], lr=0.1, fused=True)
        for step in range(3):
            optimizer.zero_grad()
            loss = (drawn(5, 6, seed=step) @ weight.T + bias).square().mean()
            if scaler is None:
                loss.backward()
                if step != 1:
                    optimizer.step()
                continue
            scaler.scale(loss * (float("inf") if step == 1 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
        return weight.detach(), bias.detach()

    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for found, wanted in zip(trained(scaler), trained(None), strict=True):
        torch.testing.assert_close(found, wanted)
