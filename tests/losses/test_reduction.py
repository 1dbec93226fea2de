"""Reductions by hand and against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from dethead.losses import reduce, sigmoid_bce, softmax_cross_entropy, weights_of_labels

LOSS = torch.tensor([1.0, 2.0, 6.0])
WEIGHTS = torch.tensor([3.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("how", "weights", "wanted"),
    [
        ("none", None, [1, 2, 6]),
        ("none", WEIGHTS, [3, 2, 0]),
        ("sum", None, 9),
        ("sum", WEIGHTS, 5),
        ("mean", None, 3),
        ("mean", WEIGHTS, 1.25),
    ],
)
def test_reductions_by_hand(how, weights, wanted):
    assert reduce(LOSS, how, weights).tolist() == wanted


def test_the_weighted_mean_of_labels_is_pytorchs():
    logits, labels, weights = torch.randn(20, 3), torch.randint(3, (20,)), torch.tensor([0.2, 1.0, 5.0])
    labels[3] = -100
    row_weights = weights[labels.clamp(min=0)] * (labels >= 0)
    ours = reduce(softmax_cross_entropy(logits, labels), "mean", row_weights)
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, weights))


def test_the_sum_of_weighted_losses_is_the_weighted_sum():
    logits, targets, weights = torch.randn(9, 3), torch.eye(3).repeat(3, 1), torch.tensor([0.2, 1.0, 5.0])
    inside = reduce(sigmoid_bce(logits, targets, class_weights=weights), "sum")
    outside = reduce(sigmoid_bce(logits, targets), "sum", weights_of_labels(targets, weights))
    torch.testing.assert_close(inside, outside)


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize(("rows", "weights"), [(0, None), (0, torch.zeros(0)), (2, torch.zeros(2))])
def test_nothing_to_reduce_is_zero_attached_to_the_graph(how, rows, weights):
    loss = torch.ones(rows, requires_grad=True)
    reduced = reduce(loss, how, weights)
    reduced.backward()
    assert reduced.item() == 0
    assert not loss.grad.any()


def test_a_sum_of_weights_below_one_is_divided_by_all_the_same():
    assert reduce(torch.tensor([4.0]), "mean", torch.tensor([0.25])).item() == 4


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"weights \(1,\) do not fit the loss \(3,\)"):
        reduce(LOSS, "mean", torch.ones(1))


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="'none', 'mean' or 'sum', got 'average'"):
        reduce(LOSS, "average")
