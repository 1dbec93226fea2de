"""The focal loss of single logits against its definition in float64."""

import math

import numpy as np
import pytest
import torch

from dethead.losses.elementwise import focal_terms


def by_definition(z, t, alpha, gamma):
    """Loss and gradient of equation 5, the gradient derived by hand."""
    p = 1 / (1 + np.exp(-z))
    yes, no = (1, 1) if alpha is None else (alpha, 1 - alpha)
    loss = -yes * t * (1 - p) ** gamma * np.log(p) - no * (1 - t) * p**gamma * np.log(1 - p)
    of_yes = yes * t * (1 - p) ** gamma * (gamma * p * np.log(p) - (1 - p))
    of_no = no * (1 - t) * p**gamma * (p - gamma * (1 - p) * np.log(1 - p))
    return loss, of_yes + of_no


@pytest.mark.parametrize("alpha", [None, 0.25, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.5, 2.0, 5.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_value_and_gradient_by_definition(alpha, gamma, dtype, tolerance):
    logits = (3 * torch.randn(40, 3)).to(dtype).requires_grad_()
    targets = torch.cat([torch.rand(20, 3), (torch.rand(20, 3) < 0.5).float()])
    value = focal_terms(logits, targets, alpha, gamma)
    value.sum().backward()
    loss, gradient = by_definition(
        logits.detach().numpy().astype(np.float64), targets.numpy().astype(np.float64), alpha, gamma
    )
    torch.testing.assert_close(value.double(), torch.tensor(loss), rtol=tolerance, atol=10 * tolerance)
    torch.testing.assert_close(
        logits.grad.double(), torch.tensor(gradient), rtol=tolerance, atol=10 * tolerance
    )


@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.2, 2.0, 5.0])
@pytest.mark.parametrize("size", [200.0, 1e4])
def test_saturated_logits_cost_their_size_when_wrong_and_nothing_when_right(gamma, size):
    logits = torch.tensor([size, -size, size, -size], requires_grad=True)
    value = focal_terms(logits, torch.tensor([0.0, 1.0, 1.0, 0.0]), None, gamma)
    value.sum().backward()
    assert value.tolist() == pytest.approx([size, size, 0, 0])
    assert logits.grad.tolist() == pytest.approx([1, -1, 0, 0])


def test_the_small_loss_of_a_right_answer_keeps_its_digits():
    # 1 - sigmoid(20) is 0 in float32, e^-20 in truth
    value = focal_terms(torch.tensor([20.0, -20.0]), torch.tensor([1.0, 0.0]), None, 2.0)
    assert value.tolist() == pytest.approx([math.exp(-60)] * 2, rel=1e-5, abs=0)


def test_the_gradient_is_the_derivative():
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(2, 3)
    assert torch.autograd.gradcheck(lambda z: focal_terms(z, targets, 0.25, 1.5), logits)


@pytest.mark.parametrize("gamma", [-1.0, 0.5, 0.99, float("nan"), float("inf")])
def test_a_gamma_whose_gradient_breaks_is_refused(gamma):
    with pytest.raises(ValueError, match="gamma must be 0 or at least 1, got"):
        focal_terms(torch.zeros(1), torch.zeros(1), None, gamma)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_that_is_no_share_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], or None for off, got"):
        focal_terms(torch.zeros(1), torch.zeros(1), alpha, 2.0)
