"""The confidence loss against its definition."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dethead.losses import confidence_bce


def test_bce_by_definition_and_gradient_p_minus_t():
    logits = torch.tensor([[2.0, -1.0], [0.5, -3.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0], [0.3, 0.8]])
    value = confidence_bce(logits, targets)
    value.sum().backward()
    t = targets.numpy().astype(np.float64)
    p = 1 / (1 + np.exp(-logits.detach().numpy().astype(np.float64)))
    wanted = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    torch.testing.assert_close(value.detach().double(), torch.tensor(wanted), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits.grad.double(), torch.tensor(p - t), rtol=1e-6, atol=1e-6)


def test_it_is_pytorchs():
    logits, targets = torch.randn(4, 30), torch.rand(4, 30)
    theirs = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(confidence_bce(logits, targets), theirs)


def test_a_prior_of_one_percent_costs_what_it_says():
    bias = torch.full((2,), math.log(0.01 / 0.99))
    wanted = [-math.log(0.01), -math.log(0.99)]
    assert confidence_bce(bias, torch.tensor([1.0, 0.0])).tolist() == pytest.approx(wanted, rel=1e-5)


def test_ignored_anchors_have_exactly_no_loss_and_no_gradient():
    logits = torch.tensor([[3.0, -2.0, 1.0]], requires_grad=True)
    value = confidence_bce(
        logits, torch.tensor([[0.0, 1.0, 0.0]]), ignore=torch.tensor([[True, False, True]])
    )
    value.sum().backward()
    assert [bool(v) for v in value[0]] == [False, True, False]
    assert [bool(g) for g in logits.grad[0]] == [False, True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_loss_is_float32(dtype):
    assert confidence_bce(torch.zeros(3, dtype=dtype), torch.zeros(3)).dtype == torch.float32


def test_float64_stays_and_the_gradient_is_the_derivative():
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(2, 3)
    assert confidence_bce(logits, targets).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: confidence_bce(x, targets), logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_saturated_logits_have_a_finite_loss_and_gradient(dtype):
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype, requires_grad=True)
    value = confidence_bce(logits, torch.tensor([0.0, 1.0, 1.0, 0.0]))
    value.sum().backward()
    big = float(logits[0].detach())
    assert value.tolist() == pytest.approx([big, big, 0, 0])
    assert logits.grad.tolist() == pytest.approx([1, -1, 0, 0])


def test_no_anchors_have_no_losses():
    assert confidence_bce(torch.zeros(2, 0), torch.zeros(2, 0)).shape == (2, 0)


def test_targets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"targets \(3,\) do not fit logits \(2, 3\)"):
        confidence_bce(torch.zeros(2, 3), torch.zeros(3))


@pytest.mark.parametrize("mask", [torch.zeros(3, dtype=torch.bool), torch.zeros(2, 3)])
def test_a_mask_that_does_not_fit_is_refused(mask):
    with pytest.raises(ValueError, match="ignore must be bool"):
        confidence_bce(torch.zeros(2, 3), torch.zeros(2, 3), ignore=mask)
