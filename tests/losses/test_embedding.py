"""Embedding losses against torch.nn, and float64 NumPy where PyTorch has none."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dethead.losses.embedding import contrastive, cosine_embedding, distance_ranking, ratio, triplet

OF_TRIPLETS = [partial(triplet, margin=0.3), partial(triplet, margin=0.3, swap=True), ratio]
OF_TRIPLETS += [partial(ratio, swap=True)]
OF_PAIRS = [partial(cosine_embedding, margin=0.1), partial(contrastive, margin=1.5)]


def rows(count=3, shape=(20, 8)):
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for _ in range(count)]


def agree(ours, theirs, leaves, tolerance=1e-10):
    """The same values, and the same gradients of all leaves."""
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    weights = torch.rand_like(ours)
    for one, other in zip(
        torch.autograd.grad((weights * ours).sum(), leaves),
        torch.autograd.grad((weights * theirs).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def numpy_distance(first, second):
    first, second = (one.detach().numpy().astype(np.float64) for one in (first, second))
    return np.sqrt(((first - second) ** 2).sum(axis=1))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("margin", [0.3, 2.0])
def test_triplet_is_pytorchs(swap, margin):
    leaves = rows()
    # PyTorch adds its eps to every difference of two numbers
    theirs = F.triplet_margin_loss(*leaves, margin=margin, swap=swap, eps=0.0, reduction="none")
    agree(triplet(*leaves, margin=margin, swap=swap), theirs, leaves)


def test_distance_ranking_is_pytorchs_margin_ranking_with_target_minus_1():
    near, far = (torch.rand(50, dtype=torch.float64).requires_grad_() for _ in range(2))
    theirs = F.margin_ranking_loss(near, far, -torch.ones(50), margin=0.2, reduction="none")
    agree(distance_ranking(near, far, margin=0.2), theirs, [near, far])


def test_cosine_embedding_is_pytorchs():
    leaves, same = rows(2), torch.rand(20) < 0.5
    theirs = F.cosine_embedding_loss(*leaves, torch.where(same, 1, -1), margin=0.1, reduction="none")
    agree(cosine_embedding(*leaves, same, margin=0.1), theirs, leaves)


def test_cosine_embedding_by_definition():
    (first, second), same = rows(2), torch.rand(20) < 0.5
    a, b = first.detach().numpy(), second.detach().numpy()
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    wanted = np.where(same.numpy(), 1 - cosine, np.maximum(0, cosine - 0.1))
    value = cosine_embedding(first, second, same, margin=0.1)
    np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("swap", [False, True])
def test_ratio_by_definition(swap):
    anchor, positive, negative = rows()
    near, far = numpy_distance(anchor, positive), numpy_distance(anchor, negative)
    if swap:
        far = np.minimum(far, numpy_distance(positive, negative))
    total = np.exp(near) + np.exp(far)
    wanted = (np.exp(near) / total) ** 2 + (1 - np.exp(far) / total) ** 2
    value = ratio(anchor, positive, negative, swap=swap)
    np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-12)


def test_ratio_of_equal_distances_is_a_half():
    anchor, other = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert ratio(anchor, other, -other).item() == pytest.approx(0.5)


def test_contrastive_by_definition():
    (first, second), same = rows(2), torch.rand(20) < 0.5
    distance = numpy_distance(first, second)
    wanted = np.where(same.numpy(), distance**2, np.maximum(0, 4 - distance) ** 2) / 2
    value = contrastive(first, second, same, margin=4.0)
    assert (value == 0).any()
    np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-12)


def test_swap_takes_the_smaller_of_the_two_negative_distances():
    # the negative is 4 from the anchor and 1 from the positive
    anchor, positive, negative = (torch.tensor([[x, 0.0]]) for x in (0.0, 3.0, 4.0))
    assert triplet(anchor, positive, negative, margin=2.0).item() == 3 - 4 + 2
    assert triplet(anchor, positive, negative, margin=2.0, swap=True).item() == 3 - 1 + 2
    assert triplet(positive, anchor, negative, margin=2.0, swap=True).item() == 3 - 1 + 2


@pytest.mark.parametrize("loss", OF_TRIPLETS)
class TestTriplets:
    def test_the_gradient_is_the_derivative(self, loss):
        assert torch.autograd.gradcheck(loss, rows(shape=(5, 3)))

    def test_a_step_down_brings_the_positive_nearer_and_the_negative_away(self, loss):
        anchor = torch.tensor([[0.0, 0.0]])
        positive = torch.tensor([[1.0, 0.0]], requires_grad=True)
        negative = torch.tensor([[0.0, 1.1]], requires_grad=True)
        loss(anchor, positive, negative).sum().backward()
        assert positive.grad[0, 0] > 0
        assert negative.grad[0, 1] < 0

    def test_equal_vectors_have_a_finite_gradient(self, loss):
        leaves = [torch.ones(4, 3, requires_grad=True) for _ in range(3)]
        value = loss(*leaves)
        value.sum().backward()
        assert value.isfinite().all()
        assert all(leaf.grad.isfinite().all() for leaf in leaves)

    def test_no_rows_have_a_loss_attached_to_the_graph(self, loss):
        leaves = [torch.zeros(0, 3, requires_grad=True) for _ in range(3)]
        value = loss(*leaves)
        assert value.shape == (0,)
        value.sum().backward()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_the_loss_is_float32(self, loss, dtype):
        assert loss(*(row.detach().to(dtype) for row in rows())).dtype == torch.float32

    def test_rows_that_would_broadcast_are_refused(self, loss):
        with pytest.raises(ValueError, match=r"must be of one shape, got \(2, 3\), \(1, 3\), \(2, 3\)"):
            loss(torch.zeros(2, 3), torch.zeros(1, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("loss", OF_PAIRS)
class TestPairs:
    def test_the_gradient_is_the_derivative(self, loss):
        same = torch.tensor([True, False, True, False])
        assert torch.autograd.gradcheck(lambda a, b: loss(a, b, same), rows(2, (4, 3)))

    @pytest.mark.parametrize("value", [0.0, 1.0])
    @pytest.mark.parametrize("same", [True, False])
    def test_equal_vectors_have_a_finite_gradient(self, loss, value, same):
        leaves = [torch.full((4, 3), value, requires_grad=True) for _ in range(2)]
        losses = loss(*leaves, torch.full((4,), same))
        losses.sum().backward()
        assert losses.isfinite().all()
        assert all(leaf.grad.isfinite().all() for leaf in leaves)

    def test_no_rows_have_a_loss_attached_to_the_graph(self, loss):
        leaves = [torch.zeros(0, 3, requires_grad=True) for _ in range(2)]
        loss(*leaves, torch.zeros(0, dtype=torch.bool)).sum().backward()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_the_loss_is_float32(self, loss, dtype):
        first, second = (row.detach().to(dtype) for row in rows(2))
        assert loss(first, second, torch.rand(20) < 0.5).dtype == torch.float32

    @pytest.mark.parametrize("same", [torch.ones(2), torch.ones(3, dtype=torch.bool)])
    def test_an_answer_that_does_not_fit_is_refused(self, loss, same):
        with pytest.raises(ValueError, match=r"same must be bool \(2,\)"):
            loss(torch.zeros(2, 3), torch.zeros(2, 3), same)


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_a_margin_that_is_none_is_refused(margin):
    row, same = torch.zeros(1, 2), torch.tensor([True])
    with pytest.raises(ValueError, match=r"margin must be finite and in \[0.0, inf\], got"):
        triplet(row, row, row, margin=margin)
    with pytest.raises(ValueError, match="margin must be finite"):
        contrastive(row, row, same, margin=margin)


def test_a_margin_that_is_no_cosine_is_refused():
    row = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"margin must be finite and in \[-1.0, 1.0\], got 1.5"):
        cosine_embedding(row, row, torch.tensor([True]), margin=1.5)
