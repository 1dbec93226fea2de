"""Losses that are one loss under two names, and numbers worked by hand."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from dethead.losses import classification as losses
from dethead.structures import BACKGROUND

COUNTS = tensor([100.0, 40.0, 7.0, 1.0], dtype=torch.float64)
EQUAL = [
    (
        "focal without alpha and gamma is BCE",
        lambda z, t: losses.sigmoid_focal(z, t, alpha=None, gamma=0.0),
        losses.sigmoid_bce,
    ),
    (
        "focal with alpha one half and without gamma is half of BCE",
        lambda z, t: 2 * losses.sigmoid_focal(z, t, alpha=0.5, gamma=0.0),
        losses.sigmoid_bce,
    ),
    (
        "quality focal with beta 0 is BCE",
        lambda z, t: losses.quality_focal(z, t, beta=0.0),
        losses.sigmoid_bce,
    ),
    (
        "asymmetric without gammas and clip is BCE",
        lambda z, t: losses.asymmetric(z, t, gamma_pos=0.0, gamma_neg=0.0, clip=0.0),
        losses.sigmoid_bce,
    ),
    (
        "asymmetric with equal gammas is focal without alpha",
        lambda z, t: losses.asymmetric(z, t, gamma_pos=2.0, gamma_neg=2.0, clip=0.0),
        lambda z, t: losses.sigmoid_focal(z, t, alpha=None, gamma=2.0),
    ),
    (
        "quality focal of hard labels is focal without alpha",
        lambda z, t: losses.quality_focal(z, t, beta=2.0),
        lambda z, t: losses.sigmoid_focal(z, t, alpha=None, gamma=2.0),
    ),
    (
        "varifocal with alpha 1 and without gamma is BCE",
        lambda z, t: losses.varifocal(z, t, alpha=1.0, gamma=0.0),
        losses.sigmoid_bce,
    ),
    (
        "sigmoid poly-1 with epsilon 0 is BCE",
        lambda z, t: losses.poly1(z, t, epsilon=0.0, activation="sigmoid"),
        losses.sigmoid_bce,
    ),
    (
        "one bin of gradients has BCE with the weight 1",
        lambda z, t: losses.gradient_harmonised(z, t, bins=1),
        losses.sigmoid_bce,
    ),
    (
        "equalization without gradients so far is BCE",
        lambda z, t: losses.equalization(
            z,
            t,
            positive_gradient=torch.zeros(4),
            negative_gradient=torch.zeros(4),
            gamma=12.0,
            mu=0.8,
            alpha=4.0,
        ),
        losses.sigmoid_bce,
    ),
    (
        "BCE of probabilities is that of their logits",
        lambda z, t: losses.probability_bce(z.sigmoid(), t),
        losses.sigmoid_bce,
    ),
    (
        "softmax focal without gamma is CE",
        lambda z, t: losses.softmax_focal(z, t, gamma=0.0),
        losses.softmax_cross_entropy,
    ),
    (
        "softmax poly-1 with epsilon 0 is CE",
        lambda z, t: losses.poly1(z, t, epsilon=0.0, activation="softmax"),
        losses.softmax_cross_entropy,
    ),
    ("KL of one-hot rows is CE", losses.kl_divergence, losses.softmax_cross_entropy),
    ("multi-label softmax of one label is CE", losses.multilabel_softmax, losses.softmax_cross_entropy),
    (
        "logit adjustment with tau 0 is CE",
        lambda z, t: losses.logit_adjusted(z, t, class_counts=COUNTS, tau=0.0),
        losses.softmax_cross_entropy,
    ),
    (
        "balanced softmax is logit adjustment with tau 1",
        lambda z, t: losses.balanced_softmax(z, t, class_counts=COUNTS),
        lambda z, t: losses.logit_adjusted(z, t, class_counts=COUNTS, tau=1.0),
    ),
    (
        "LDAM without margin and scale is CE",
        lambda z, t: losses.ldam(z, t, class_counts=COUNTS, max_margin=0.0, scale=1.0),
        losses.softmax_cross_entropy,
    ),
    (
        "seesaw with p and q 0 is CE",
        lambda z, t: losses.seesaw(z, t, class_counts=COUNTS, p=0.0, q=0.0),
        losses.softmax_cross_entropy,
    ),
    (
        "NLL of log-softmax is CE",
        lambda z, t: losses.negative_log_likelihood(z.log_softmax(dim=1), t),
        losses.softmax_cross_entropy,
    ),
    (
        "ranking against the row is Crammer-Singer",
        lambda z, t: losses.margin_ranking(z, t, margin=1.5),
        lambda z, t: losses.hinge(z, t, margin=1.5, variant="crammer_singer"),
    ),
]


def value_and_gradient(loss, logits, targets):
    logits = logits.clone().requires_grad_()
    value = loss(logits, targets)
    return value, *torch.autograd.grad(value.sum(), logits)


@pytest.mark.parametrize(("one", "other"), [pytest.param(*pair, id=name) for name, *pair in EQUAL])
def test_two_names_have_one_value_and_gradient(one, other):
    logits = 4 * torch.randn(40, 4, dtype=torch.float64)
    targets = torch.randint(BACKGROUND, 4, (40,))
    got, wanted = value_and_gradient(one, logits, targets), value_and_gradient(other, logits, targets)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_softmax_over_z_and_0_is_bce_of_z():
    z = 5 * torch.randn(40, 1, dtype=torch.float64)
    yes = torch.randint(0, 2, (40,))
    ce, slope = value_and_gradient(
        losses.softmax_cross_entropy, torch.cat([z, torch.zeros_like(z)], dim=1), 1 - yes
    )
    bce, wanted = value_and_gradient(losses.sigmoid_bce, z, yes[:, None].double())
    torch.testing.assert_close(ce, bce)
    torch.testing.assert_close(slope[:, :1], wanted)


def test_distilling_from_one_s_own_logits_costs_nothing():
    logits = 4 * torch.randn(10, 4, dtype=torch.float64)
    for activation in ("softmax", "sigmoid"):
        value, gradient = value_and_gradient(
            lambda z, t, a=activation: losses.distillation(z, t, temperature=2.0, activation=a),
            logits,
            logits,
        )
        assert value.abs().max() < 1e-12
        assert gradient.abs().max() < 1e-12


def test_distillation_is_kl_to_the_teacher_s_probabilities():
    logits, teacher = torch.randn(2, 10, 4, dtype=torch.float64)
    got = losses.distillation(logits, teacher, temperature=3.0, activation="softmax")
    torch.testing.assert_close(
        got, losses.kl_divergence(logits, (teacher / 3).softmax(dim=1), temperature=3.0)
    )


def test_a_teacher_has_no_gradient():
    logits, teacher = torch.randn(2, 10, 4, requires_grad=True)
    for activation in ("softmax", "sigmoid"):
        loss = losses.distillation(logits, teacher, temperature=3.0, activation=activation)
        _, to_teacher = torch.autograd.grad(loss.sum(), (logits, teacher), allow_unused=True)
        assert to_teacher is None or (to_teacher == 0).all()


def test_several_labels_share_the_softmax():
    logits = torch.randn(1, 4, dtype=torch.float64)
    _, gradient = value_and_gradient(losses.multilabel_softmax, logits, tensor([[1.0, 0.0, 1.0, 0.0]]))
    wanted = logits.softmax(dim=1) - tensor([[0.5, 0.0, 0.5, 0.0]])
    torch.testing.assert_close(gradient, wanted)


def test_softmax_of_5_4_2_by_hand():
    logits = tensor([[5.0, 4.0, 2.0]])
    losses_of = [losses.softmax_cross_entropy(logits, tensor([label])).item() for label in range(3)]
    assert [math.exp(-loss) for loss in losses_of] == pytest.approx([0.7054, 0.2595, 0.0351], abs=5e-5)
    _, gradient = value_and_gradient(losses.softmax_cross_entropy, logits, tensor([0]))
    assert gradient[0].tolist() == pytest.approx([-0.2946, 0.2595, 0.0351], abs=5e-5)


def test_the_start_at_equal_probabilities_costs_1_0986_and_1_9095():
    label = tensor([1])
    assert losses.softmax_cross_entropy(torch.zeros(1, 3), label).item() == pytest.approx(1.0986, abs=5e-5)
    third = torch.full((1, 3), -math.log(2))
    assert losses.sigmoid_bce(third, label).item() == pytest.approx(1.9095, abs=5e-5)


@pytest.mark.parametrize(
    ("scores", "variant", "squared", "wanted"),
    [
        ([3.2, 5.1, -1.7], "weston_watkins", False, 2.9),
        ([3.2, 5.1, -1.7], "crammer_singer", False, 2.9),
        ([3.2, 5.1, 2.7], "weston_watkins", False, 3.4),
        ([3.2, 5.1, 2.7], "crammer_singer", False, 2.9),
        ([3.2, 5.1, 2.7], "weston_watkins", True, 8.66),
        ([3.2, 5.1, 2.7], "crammer_singer", True, 8.41),
    ],
)
def test_hinge_of_scores_worked_by_hand(scores, variant, squared, wanted):
    loss = losses.hinge(tensor([scores]), tensor([0]), variant=variant, squared=squared)
    assert loss.item() == pytest.approx(wanted, abs=1e-5)


def test_hinge_is_weston_watkins_with_margin_1_by_default():
    logits, labels = torch.randn(20, 4), torch.randint(0, 4, (20,))
    explicit = losses.hinge(logits, labels, margin=1.0, variant="weston_watkins", squared=False)
    assert torch.equal(losses.hinge(logits, labels), explicit)


def test_equal_wrong_scores_share_the_gradient():
    of_the_batch = partial(losses.margin_ranking, against="batch")
    of_the_row = partial(losses.hinge, variant="crammer_singer")
    for loss in (losses.margin_ranking, of_the_batch, of_the_row):
        _, gradient = value_and_gradient(loss, tensor([[0.0, 2.0, 2.0]]), tensor([0]))
        assert gradient.tolist() == [[-1.0, 0.5, 0.5]]


def test_ranking_against_the_batch_by_hand():
    # Wrong scores: 1 of row 0, 4 of row 1; the highest is 4: 1 + 4 - 2 for row 0 and nothing for row 1.
    loss = losses.margin_ranking(tensor([[2.0, 1.0], [4.0, 6.0]]), tensor([0, 1]), against="batch")
    assert loss.tolist() == [3.0, 0.0]


def test_brier_of_equal_probabilities_by_hand():
    # (1/2 - 1)^2 + (1/2)^2 and |1/2 - 1| + 1/2; with beta 1: half the squares.
    zeros, label = torch.zeros(1, 2), tensor([0])
    for activation in ("softmax", "sigmoid"):
        assert losses.brier(zeros, label, activation=activation, penalty="mse").item() == 0.5
        assert losses.brier(zeros, label, activation=activation, penalty="l1").item() == 1.0
        smooth = losses.brier(zeros, label, activation=activation, penalty="smooth_l1", beta=1.0)
        assert smooth.item() == 0.25


def test_label_smoothing_by_hand():
    # t' = (0.9 + 0.05, 0.05), p = (0.8, 0.2).
    loss = losses.softmax_cross_entropy(tensor([[math.log(4), 0.0]]), tensor([0]), label_smoothing=0.1)
    assert loss.item() == pytest.approx(-0.95 * math.log(0.8) - 0.05 * math.log(0.2))


def test_focal_by_hand():
    # s = 0.8: 0.25 (1 - 0.8)^2 (-log 0.8) for the label, 0.75 0.8^2 (-log 0.2) for the other class.
    loss = losses.sigmoid_focal(torch.full((1, 2), math.log(4)), tensor([0]), alpha=0.25, gamma=2.0)
    wanted = -0.25 * 0.04 * math.log(0.8) - 0.75 * 0.64 * math.log(0.2)
    assert loss.item() == pytest.approx(wanted)


def test_seesaw_by_hand():
    # Class 1 has a tenth of the boxes of class 0 and twice its probability: S = 0.1^1 * 2^2 = 0.4.
    logits = tensor([[0.0, math.log(2)]])
    loss = losses.seesaw(logits, tensor([0]), class_counts=tensor([100.0, 10.0]), p=1.0, q=2.0)
    assert loss.item() == pytest.approx(math.log(1 + 0.4 * 2))


def test_ldam_by_hand():
    # Margins 0.5 (16)^(-1/4) = 0.25 and 0.5: logits 0 become -0.25, 0 for class 0; times 2.
    loss = losses.ldam(
        torch.zeros(2, 2), tensor([0, 1]), class_counts=tensor([16.0, 1.0]), max_margin=0.5, scale=2.0
    )
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(0.5)), math.log(1 + math.e)])


def test_logit_adjustment_by_hand():
    # Priors 0.9 and 0.1 instead of equal ones.
    loss = losses.logit_adjusted(
        torch.zeros(2, 2), tensor([0, 1]), class_counts=tensor([90.0, 10.0]), tau=1.0
    )
    assert loss.tolist() == pytest.approx([-math.log(0.9), -math.log(0.1)])


def test_a_class_without_boxes_counts_as_one_box():
    logits, labels = torch.randn(20, 3), torch.randint(0, 3, (20,))
    none, one = tensor([50.0, 0.0, 8.0]), tensor([50.0, 1.0, 8.0])
    for loss in (
        losses.balanced_softmax,
        lambda z, t, class_counts: losses.ldam(z, t, class_counts=class_counts, max_margin=0.5, scale=4.0),
        lambda z, t, class_counts: losses.seesaw(z, t, class_counts=class_counts, p=0.8, q=2.0),
    ):
        assert torch.equal(loss(logits, labels, class_counts=none), loss(logits, labels, class_counts=one))


def test_gradient_harmonisation_by_hand():
    # g = 0.5 three times and 0.1 once: 2 bins of 10 are filled, weights 4 / (3 * 2) and 4 / (1 * 2).
    nine = math.log(9)
    loss = losses.gradient_harmonised(tensor([[0.0, 0.0], [0.0, nine]]), tensor([0, 1]), bins=10)
    rare, frequent = 2 * -math.log(0.9), 2 / 3 * math.log(2)
    assert loss.tolist() == pytest.approx([2 * frequent, frequent + rare])


def test_equalization_by_hand():
    # Ratio 0.8 = mu: no-weight 1/2, yes-weight 1 + 4 / 2.
    loss = losses.equalization(
        torch.zeros(2, 1),
        tensor([0, BACKGROUND]),
        positive_gradient=tensor([8.0]),
        negative_gradient=tensor([10.0]),
        gamma=12.0,
        mu=0.8,
        alpha=4.0,
    )
    assert loss.tolist() == pytest.approx([3 * math.log(2), 0.5 * math.log(2)])


def test_the_clip_of_the_asymmetric_loss_forgives_easy_negatives():
    logits = tensor([[-5.0, -4.0, 1.0]], requires_grad=True)
    loss = losses.asymmetric(logits, tensor([2]), gamma_pos=0.0, gamma_neg=1.0, clip=0.05)
    loss.backward()
    assert loss.item() == pytest.approx(F.softplus(tensor(-1.0)).item())
    assert logits.grad[0, :2].tolist() == [0.0, 0.0]


def test_kl_has_the_square_of_the_temperature():
    logits = torch.randn(10, 4, dtype=torch.float64)
    targets = torch.randn(10, 4, dtype=torch.float64).softmax(dim=1)
    cold = losses.kl_divergence(logits / 3, targets)
    torch.testing.assert_close(losses.kl_divergence(logits, targets, temperature=3.0), 9 * cold)
