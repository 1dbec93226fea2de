"""The confidence loss against its definition."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dethead.losses.confidence import confidence_bce, confidence_focal

FOCAL = {"alpha": 0.25, "gamma": 2.0}


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


def test_pos_weight_multiplies_the_yes_terms_alone():
    logits, targets = torch.randn(4, 30), torch.rand(4, 30)
    theirs = F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=torch.tensor(3.0), reduction="none"
    )
    torch.testing.assert_close(confidence_bce(logits, targets, pos_weight=3.0), theirs)


@pytest.mark.parametrize("pos_weight", [-1.0, float("nan"), float("inf")])
def test_a_pos_weight_that_is_no_weight_is_refused(pos_weight):
    with pytest.raises(ValueError, match="pos_weight must be at least 0 and finite"):
        confidence_bce(torch.zeros(2), torch.zeros(2), pos_weight=pos_weight)


def bce(*args, **options):
    return confidence_bce(*args, **options)


def focal(*args, **options):
    return confidence_focal(*args, **FOCAL, **options)


@pytest.mark.parametrize("loss", [bce, focal])
class TestBoth:
    def test_sample_weights_multiply_the_loss_of_their_anchor(self, loss):
        logits, targets, weights = torch.randn(2, 3), torch.rand(2, 3), torch.rand(2, 3)
        weighted = loss(logits, targets, sample_weights=weights)
        torch.testing.assert_close(weighted, weights * loss(logits, targets))

    def test_an_ignored_anchor_costs_nothing_whatever_its_weight(self, loss):
        logits = torch.tensor([2.0, -1.0], requires_grad=True)
        value = loss(
            logits,
            torch.tensor([0.0, 1.0]),
            ignore=torch.tensor([True, False]),
            sample_weights=torch.tensor([5.0, 1.0]),
        )
        value.sum().backward()
        assert value[0].item() == logits.grad[0].item() == 0
        assert value[1].item() > 0

    def test_weights_that_do_not_fit_are_refused(self, loss):
        with pytest.raises(ValueError, match=r"sample_weights \(3,\) do not fit logits \(2, 3\)"):
            loss(torch.zeros(2, 3), torch.zeros(2, 3), sample_weights=torch.ones(3))

    def test_a_weight_below_0_is_refused(self, loss):
        with pytest.raises(ValueError, match=r"sample_weights must be at least 0, got -2.0"):
            loss(torch.zeros(2), torch.zeros(2), sample_weights=torch.tensor([1.0, -2.0]))

    def test_no_anchors_have_a_loss_attached_to_the_graph(self, loss):
        logits = torch.zeros(2, 0, requires_grad=True)
        loss(logits, torch.zeros(2, 0)).sum().backward()
        assert logits.grad.shape == (2, 0)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_saturated_logits_have_a_finite_float32_loss_and_a_finite_gradient(self, loss, dtype):
        logits = torch.tensor([1e4, -1e4, 1e4, -1e4, 200, -200], dtype=dtype, requires_grad=True)
        value = loss(logits, torch.tensor([0.0, 1.0, 1.0, 0.0, 0.5, 0.5]))
        value.sum().backward()
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert logits.grad.isfinite().all()


def test_the_focal_loss_is_torchvisions_for_hard_targets():
    from torchvision.ops import sigmoid_focal_loss

    logits = torch.randn(4, 30, dtype=torch.float64, requires_grad=True)
    targets = (torch.rand(4, 30) < 0.3).double()
    ours, theirs = focal(logits, targets), sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(one.sum(), logits)[0] for one in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_focal_without_focus_and_alpha_is_bce():
    logits, targets = torch.randn(4, 30, dtype=torch.float64), torch.rand(4, 30, dtype=torch.float64)
    without = confidence_focal(logits, targets, alpha=None, gamma=0.0)
    torch.testing.assert_close(without, confidence_bce(logits, targets), rtol=1e-12, atol=1e-12)


def test_a_soft_target_costs_the_mean_of_yes_and_no():
    logits = torch.randn(50)
    soft = focal(logits, torch.full((50,), 0.3))
    wanted = 0.3 * focal(logits, torch.ones(50)) + 0.7 * focal(logits, torch.zeros(50))
    torch.testing.assert_close(soft, wanted)
