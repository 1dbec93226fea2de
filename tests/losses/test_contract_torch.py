"""Class losses against the losses PyTorch and torchvision have."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from dethead.losses import classification as losses
from dethead.losses import reduce, weights_of_labels

N, C = 50, 6


@pytest.fixture
def logits():
    return 5 * torch.randn(N, C, dtype=torch.float64)


@pytest.fixture
def labels():
    return torch.randint(0, C, (N,))


@pytest.fixture
def soft():
    return torch.rand(N, C, dtype=torch.float64)


@pytest.fixture
def weights():
    return torch.rand(C, dtype=torch.float64) + 0.5


def assert_same(ours, theirs, inputs):
    """Values and gradients of the sums."""
    slopes = []
    for loss in (ours, theirs):
        at = inputs.clone().requires_grad_()
        value = loss(at)
        slopes.append((value, *torch.autograd.grad(value.sum(), at)))
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_of_labels(logits, labels, smoothing):
    labels[::7] = -100
    assert_same(
        lambda z: losses.softmax_cross_entropy(z, labels, label_smoothing=smoothing),
        lambda z: F.cross_entropy(z, labels, reduction="none", label_smoothing=smoothing),
        logits,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_distributions(logits, soft, smoothing):
    soft = soft / soft.sum(dim=1, keepdim=True)
    assert_same(
        lambda z: losses.softmax_cross_entropy(z, soft, label_smoothing=smoothing),
        lambda z: F.cross_entropy(z, soft, reduction="none", label_smoothing=smoothing),
        logits,
    )


def test_weighted_mean_of_cross_entropy(logits, labels, weights):
    labels[::7] = -100
    kept = labels != -100
    factor = torch.where(kept, weights[labels.clamp(min=0)], 0.0)
    assert_same(
        lambda z: reduce(losses.softmax_cross_entropy(z, labels), "mean", factor),
        lambda z: torch.nn.CrossEntropyLoss(weight=weights)(z, labels),
        logits,
    )


def test_weighted_sum_of_cross_entropy(logits, labels, weights):
    assert_same(
        lambda z: reduce(losses.softmax_cross_entropy(z, labels, class_weights=weights), "sum"),
        lambda z: F.cross_entropy(z, labels, weight=weights, reduction="sum"),
        logits,
    )


def test_negative_log_likelihood(logits, labels, weights):
    labels[::7] = 3
    assert_same(
        lambda z: losses.negative_log_likelihood(z, labels, class_weights=weights, ignore_index=3),
        lambda z: F.nll_loss(z, labels, weight=weights, reduction="none", ignore_index=3),
        logits.log_softmax(dim=1),
    )


def test_weighted_mean_of_negative_log_likelihood(logits, labels, weights):
    log_p = logits.log_softmax(dim=1)
    one_hot = F.one_hot(labels, C).double()
    ours = reduce(losses.negative_log_likelihood(log_p, labels), "mean", weights_of_labels(one_hot, weights))
    torch.testing.assert_close(ours, F.nll_loss(log_p, labels, weight=weights))


def test_binary_cross_entropy_with_logits(logits, soft, weights):
    assert_same(
        lambda z: losses.sigmoid_bce(z, soft, pos_weight=weights),
        lambda z: F.binary_cross_entropy_with_logits(z, soft, pos_weight=weights, reduction="none").sum(1),
        logits,
    )


def test_binary_cross_entropy_of_probabilities(logits, soft):
    assert_same(
        lambda p: losses.probability_bce(p, soft),
        lambda p: F.binary_cross_entropy(p, soft, reduction="none").sum(1),
        (logits / 3).sigmoid(),
    )


def test_binary_cross_entropy_of_certain_probabilities(soft):
    certain = torch.randint(0, 2, (N, C)).double().requires_grad_()
    loss = losses.probability_bce(certain, soft)
    torch.testing.assert_close(loss, F.binary_cross_entropy(certain, soft, reduction="none").sum(1))
    (gradient,) = torch.autograd.grad(loss.sum(), certain)
    assert gradient.isfinite().all()


def test_kl_divergence(logits, soft):
    soft = soft / soft.sum(dim=1, keepdim=True)
    soft[:, 1] = 0.0
    soft = soft / soft.sum(dim=1, keepdim=True)
    assert_same(
        lambda z: losses.kl_divergence(z, soft),
        lambda z: F.kl_div(z.log_softmax(dim=1), soft, reduction="none").sum(1),
        logits,
    )


@pytest.mark.parametrize("squared", [False, True])
def test_weston_watkins_is_pytorch_s_times_the_number_of_classes(logits, labels, squared):
    assert_same(
        lambda z: losses.hinge(z, labels, margin=0.7, variant="weston_watkins", squared=squared),
        lambda z: C * F.multi_margin_loss(z, labels, p=1 + squared, margin=0.7, reduction="none"),
        logits,
    )


@pytest.mark.parametrize(("alpha", "theirs"), [(0.25, 0.25), (0.9, 0.9), (None, -1)])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
def test_focal_loss(logits, labels, alpha, theirs, gamma):
    one_hot = F.one_hot(labels, C).double()
    assert_same(
        lambda z: losses.sigmoid_focal(z, labels, alpha=alpha, gamma=gamma),
        lambda z: sigmoid_focal_loss(z, one_hot, alpha=theirs, gamma=gamma).sum(1),
        logits,
    )


@pytest.mark.parametrize(("penalty", "theirs"), [("mse", F.mse_loss), ("l1", F.l1_loss)])
def test_distances_of_probabilities(logits, soft, penalty, theirs):
    for activation, probabilities in (("softmax", lambda z: z.softmax(1)), ("sigmoid", torch.sigmoid)):
        assert_same(
            lambda z, a=activation: losses.brier(z, soft, activation=a, penalty=penalty),
            lambda z, p=probabilities: theirs(p(z), soft, reduction="none").sum(1),
            logits,
        )


def test_smooth_distances_of_probabilities(logits, soft):
    assert_same(
        lambda z: losses.brier(z, soft, activation="sigmoid", penalty="smooth_l1", beta=0.2),
        lambda z: F.smooth_l1_loss(z.sigmoid(), soft, beta=0.2, reduction="none").sum(1),
        logits,
    )
