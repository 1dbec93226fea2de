"""Smooth L1 on encoded deltas, by hand and against PyTorch."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from dethead.boxes import BoxCodec
from dethead.losses import smooth_l1

ANCHOR = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


def at_anchor(deltas, beta):
    """The loss where the truth is the anchor, so that the differences are the deltas."""
    deltas = torch.tensor([deltas], requires_grad=True)
    loss = smooth_l1(deltas, ANCHOR, ANCHOR, BoxCodec(), beta=beta)
    loss.sum().backward()
    return loss.tolist(), deltas.grad[0].tolist()


@pytest.mark.parametrize(
    ("beta", "loss", "gradient"),
    [
        # square below beta: d^2 / (2 beta); line above: |d| - beta / 2
        (1.0, 1.5 + 0.125 + 0.005, [1, -0.5, 0.1, 0]),
        (0.25, 1.875 + 0.375 + 0.02, [1, -1, 0.4, 0]),
        (0.0, 2 + 0.5 + 0.1, [1, -1, 1, 0]),
    ],
)
def test_loss_and_gradient_by_hand(beta, loss, gradient):
    value, grad = at_anchor([2.0, -0.5, 0.1, 0.0], beta)
    assert value == pytest.approx([loss], rel=1e-6)
    assert grad == pytest.approx(gradient)


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_zero_loss_and_zero_gradient_at_the_target(beta, weights):
    boxes, codec = ANCHOR + torch.tensor([[1.0, 2.0, 4.0, 3.0]]), BoxCodec(weights)
    deltas = codec.encode(boxes, ANCHOR).requires_grad_()
    loss = smooth_l1(deltas, boxes, ANCHOR, codec, beta=beta)
    loss.sum().backward()
    assert loss.item() == 0
    assert not deltas.grad.any()


def test_it_is_pytorchs_on_encoded_boxes():
    corner = torch.rand(20, 2) * 50
    boxes = torch.cat([corner, corner + 1 + torch.rand(20, 2) * 30], dim=1)
    anchors, deltas, codec = boxes.flip(0), torch.randn(20, 4), BoxCodec((10.0, 10.0, 5.0, 5.0))
    theirs = F.smooth_l1_loss(deltas, codec.encode(boxes, anchors), beta=1 / 9, reduction="none").sum(1)
    torch.testing.assert_close(smooth_l1(deltas, boxes, anchors, codec, beta=1 / 9), theirs)


def test_it_is_hubers_loss_over_beta():
    deltas = torch.tensor([[3.0, 0.1, -0.2, 0.0]])
    ours = smooth_l1(deltas, ANCHOR, ANCHOR, BoxCodec(), beta=0.25)
    huber = F.huber_loss(deltas, torch.zeros(1, 4), delta=0.25, reduction="none").sum(dim=1)
    torch.testing.assert_close(ours, huber / 0.25)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_no_positives_are_no_loss_attached_to_the_graph(beta):
    deltas = torch.zeros(0, 4, requires_grad=True)
    loss = smooth_l1(deltas, torch.zeros(0, 4), torch.zeros(0, 4), BoxCodec(), beta=beta)
    assert loss.shape == (0,)
    loss.sum().backward()


def test_the_gradient_is_the_derivative():
    deltas = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    loss = partial(smooth_l1, beta=0.5)
    boxes = (ANCHOR + 1).double().expand(5, 4)
    assert torch.autograd.gradcheck(lambda d: loss(d, boxes, ANCHOR.expand(5, 4), BoxCodec()), deltas)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_loss_is_float32_at_least_and_finite_far_away(dtype):
    deltas = torch.full((1, 4), 1e4, dtype=dtype, requires_grad=True)
    loss = smooth_l1(deltas, ANCHOR, ANCHOR, BoxCodec(), beta=0.1)
    loss.sum().backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(4 * (float(deltas[0, 0].detach()) - 0.05), rel=1e-6)
    assert deltas.grad.tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize("beta", [-0.1, float("nan")])
def test_a_negative_beta_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be at least 0"):
        smooth_l1(ANCHOR, ANCHOR, ANCHOR, BoxCodec(), beta=beta)


@pytest.mark.parametrize(
    "shapes", [[(2, 4), (1, 4), (2, 4)], [(2, 4), (2, 4), (1, 4)], [(1, 4), (2, 4), (2, 4)]]
)
def test_rows_that_do_not_fit_are_refused_rather_than_broadcast(shapes):
    deltas, boxes, anchors = (ANCHOR.expand(shape) for shape in shapes)
    with pytest.raises(ValueError, match="deltas, boxes and anchors must be of one shape"):
        smooth_l1(deltas, boxes, anchors, BoxCodec(), beta=1.0)
