"""Every class scheme must pass these. Add yours to SCHEMES."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch

from dethead import schemes
from dethead.build import CLASS_SCHEMES
from dethead.schemes import SigmoidBCE, SoftmaxCE
from dethead.structures import ClassesSeen

WEIGHTS = (0.5, 1.0, 2.0)
COUNTS = (90.0, 9.0, 1.0)
LIKELIHOODS = [
    SoftmaxCE(),
    SigmoidBCE(),
    SoftmaxCE(class_weights=WEIGHTS),
    SigmoidBCE(class_weights=WEIGHTS),
    SigmoidBCE(pos_weight=WEIGHTS),
]
"""Those whose loss is -log P(truth), weighted."""
OF_CLASS_COUNTS = [schemes.LogitAdjustment(class_counts=COUNTS), schemes.LDAM(class_counts=COUNTS, scale=2.0)]
BY_MARGIN = [
    schemes.Hinge(margin=4.0),
    schemes.Hinge(margin=4.0, variant="crammer_singer", squared=True),
    schemes.MarginRanking(margin=4.0),
    schemes.MarginRanking(margin=4.0, against="batch"),
]
ALIKE = [
    schemes.MultilabelSoftmax(),
    schemes.SoftmaxFocal(gamma=2.0),
    schemes.SoftmaxPoly1(epsilon=1.0),
    schemes.KLDivergence(),
    schemes.KLDivergence(temperature=2.0),
    schemes.Seesaw(),
    schemes.SoftmaxBrier(),
    schemes.SoftmaxBrier(penalty="smooth_l1", beta=0.5),
    schemes.SigmoidBrier(),
    schemes.Focal(alpha=0.25, gamma=2.0),
    schemes.Focal(alpha=None, gamma=0.0),
    schemes.SigmoidPoly1(epsilon=1.0),
    schemes.QualityFocal(beta=2.0),
    schemes.Varifocal(alpha=0.75, gamma=2.0),
    schemes.Asymmetric(gamma_pos=1.0, gamma_neg=2.0),
    schemes.GHM(),
    schemes.Equalization(),
]
SCHEMES = [*LIKELIHOODS, *OF_CLASS_COUNTS, *BY_MARGIN, *ALIKE]
BATCHWISE = (schemes.GHM, schemes.MarginRanking)
"""Their rows depend on each other, by definition."""
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
UNIFORM = 1 / 3


def test_every_scheme_of_the_name_table_is_tested_here():
    made = {getattr(factory, "func", factory) for factory in CLASS_SCHEMES.values()}
    assert made == {type(scheme) for scheme in SCHEMES}


def labels_of(scheme):
    """Label sets that the scheme can express."""
    return [[0], [2]] if scheme.exclusive else [[0], [2], [0, 1]]


def truth_of(*labels):
    truth = torch.zeros(len(labels), 3)
    for row, some in enumerate(labels):
        truth[row, some] = 1.0
    return truth


@every_scheme
@pytest.mark.parametrize("prior", [None, (0.8, 0.15, 0.05)])
def test_initial_bias_gives_the_classes_the_prior(scheme, prior):
    wanted = torch.tensor(prior or [UNIFORM] * 3)
    torch.testing.assert_close(scheme.probabilities(scheme.initial_bias(3, prior)), wanted)


@every_scheme
def test_one_prior_for_all_is_one_for_each(scheme):
    assert torch.equal(scheme.initial_bias(4, 0.25), scheme.initial_bias(4, [0.25] * 4))


@every_scheme
@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.5, 0.5, 0.0), (1.0, 0.5, 0.5), 1.0, 0.0, float("nan")])
def test_a_prior_that_no_logit_can_give_is_refused(scheme, prior):
    with pytest.raises(ValueError, match=r"prior must be 3 probabilities in \(0, 1\)"):
        scheme.initial_bias(3, prior)


@every_scheme
def test_a_single_class_starts_without_bias(scheme):
    assert scheme.initial_bias(1).tolist() == [0]


@every_scheme
def test_descending_the_loss_raises_the_probability_of_the_labels(scheme):
    """Catches targets, loss and activation that do not belong together."""
    for labels in labels_of(scheme):
        logits = scheme.initial_bias(3)[None]
        for _ in range(200):
            logits = logits.detach().requires_grad_()
            scheme.loss(logits, scheme.targets(truth_of(labels))).sum().backward()
            logits = logits - 4 * logits.grad
        probabilities = scheme.probabilities(logits.detach())[0]
        order = probabilities.argsort(descending=True)
        assert sorted(order[: len(labels)].tolist()) == labels
        most = 0.9 / len(labels) if scheme.sums_to_one else 0.9
        assert (probabilities[labels] > most).all()
        assert (probabilities[order[len(labels) :]] < 0.1).all()


@every_scheme
def test_the_gradient_vanishes_where_the_probabilities_are_the_targets(scheme):
    # A proper loss: asked for one class, probabilities of 0 and 1 leave nothing to learn.
    logits = torch.tensor([[30.0, -30.0, -30.0]], requires_grad=True)
    scheme.loss(logits, scheme.targets(truth_of([0]))).sum().backward()
    assert logits.grad.abs().max() < 1e-9


@every_scheme
def test_probabilities_are_probabilities_of_any_leading_shape(scheme):
    logits = torch.randn(2, 5, 3) * 50
    probabilities = scheme.probabilities(logits)
    assert probabilities.shape == logits.shape
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    torch.testing.assert_close(probabilities[1, 2], scheme.probabilities(logits[1, 2]))


@every_scheme
def test_sums_to_one_says_whether_probabilities_do(scheme):
    sums = scheme.probabilities(torch.randn(50, 3)).sum(dim=1)
    assert bool(((sums - 1).abs() < 1e-5).all()) == scheme.sums_to_one
    assert scheme.sums_to_one or not scheme.exclusive


@every_scheme
def test_only_schemes_that_teach_background_learn_from_a_row_without_label(scheme):
    logits = torch.zeros(1, 3, requires_grad=True)
    scheme.loss(logits, torch.zeros(1, 3)).sum().backward()
    assert bool((logits.grad > 0).all()) == scheme.teaches_background
    assert bool((logits.grad == 0).all()) != scheme.teaches_background


@every_scheme
def test_an_ignored_row_costs_nothing_and_moves_no_other(scheme):
    logits = torch.randn(4, 3, requires_grad=True)
    truth, ignored = scheme.targets(torch.eye(3)[[0, 1, 2, 0]]), torch.tensor([False, True, False, False])
    loss = scheme.loss(logits, truth, None, ignored)
    loss.sum().backward()
    assert loss[1] == 0
    assert (logits.grad[1] == 0).all()
    without = scheme.loss(logits[~ignored], truth[~ignored])
    torch.testing.assert_close(loss[~ignored], without)


@every_scheme
def test_what_the_run_has_seen_matters_only_where_the_scheme_says_so(scheme):
    logits, truth = torch.randn(5, 3), scheme.targets(torch.eye(3)[[0, 1, 2, 0, 1]])
    rare = ClassesSeen(*(torch.tensor(row) for row in ([900.0, 90.0, 1.0], [9.0, 2.0, 0.1], [3.0, 4.0, 5.0])))
    same = torch.equal(scheme.loss(logits, truth), scheme.loss(logits, truth, rare))
    assert same != scheme.uses_classes_seen


@every_scheme
@pytest.mark.parametrize(
    ("given", "wanted"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_probabilities_and_loss_are_float32_at_least(scheme, given, wanted):
    logits = torch.zeros(1, 3, dtype=given)
    assert scheme.probabilities(logits).dtype == wanted
    assert scheme.loss(logits, truth_of([1])).dtype == wanted


@every_scheme
def test_the_loss_is_one_number_per_row_not_negative_and_independent_of_other_rows(scheme):
    logits, truth = torch.randn(6, 3), scheme.targets(torch.eye(3).repeat(2, 1))
    loss = scheme.loss(logits, truth)
    assert loss.shape == (6,)
    assert (loss >= 0).all()
    rows = torch.tensor([3, 0, 5])
    if not isinstance(scheme, BATCHWISE):
        torch.testing.assert_close(scheme.loss(logits[rows], truth[rows]), loss[rows])


@pytest.mark.parametrize("scheme", [*LIKELIHOODS[:2], *BY_MARGIN, *ALIKE], ids=repr)
def test_no_class_is_special(scheme):
    logits, truth, order = torch.randn(6, 3), scheme.targets(torch.eye(3).repeat(2, 1)), [2, 0, 1]
    torch.testing.assert_close(scheme.loss(logits[:, order], truth[:, order]), scheme.loss(logits, truth))


@pytest.mark.parametrize(
    "scheme",
    # The factor by which Seesaw takes back mitigation is a constant to its gradient, as in the paper.
    [schemes.Seesaw(q=0.0) if isinstance(scheme, schemes.Seesaw) else scheme for scheme in SCHEMES],
    ids=repr,
)
def test_the_gradient_is_the_derivative(scheme):
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    truth = scheme.targets(truth_of([0], [1], [2], []))
    assert torch.autograd.gradcheck(lambda x: scheme.loss(x, truth), logits)


@pytest.mark.parametrize("scheme", LIKELIHOODS, ids=repr)
def test_the_loss_is_the_log_likelihood_of_its_own_probabilities(scheme):
    """-log P(truth) under ``probabilities``, in float64 NumPy; for sigmoids with the noes."""
    logits, truth = torch.randn(6, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64).repeat(2, 1)
    p, t = scheme.probabilities(logits).numpy(), truth.numpy()
    yes = np.array(getattr(scheme, "pos_weight", None) or [1.0] * 3)
    no = 0.0 if scheme.exclusive else (1 - t) * np.log(1 - p)
    factor = t @ np.array(scheme.class_weights or [1.0] * 3)
    wanted = -factor * (yes * t * np.log(p) + no).sum(axis=1)
    torch.testing.assert_close(scheme.loss(logits, scheme.targets(truth)), torch.tensor(wanted))


@every_scheme
def test_no_positives_is_no_loss(scheme):
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = scheme.loss(logits, scheme.targets(torch.zeros(0, 3)))
    assert loss.shape == (0,)
    loss.sum().backward()


@every_scheme
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_saturated_logits_have_a_finite_gradient(scheme, dtype):
    logits = torch.tensor([[1e4, -1e4, 1e4]], dtype=dtype, requires_grad=True)
    loss = scheme.loss(logits, torch.tensor([[0.0, 1.0, 0.0]]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


@every_scheme
def test_a_row_of_unknown_class_passes(scheme):
    assert torch.isfinite(scheme.loss(torch.randn(1, 3), scheme.targets(torch.zeros(1, 3)))).all()


@every_scheme
def test_a_scheme_is_frozen_and_equal_to_its_like(scheme):
    with pytest.raises(AttributeError):
        scheme.class_weights = (1.0, 1.0, 1.0)
    assert scheme == type(scheme)(**{field.name: getattr(scheme, field.name) for field in fields(scheme)})


@pytest.mark.parametrize(
    ("scheme", "wanted"), [(SoftmaxCE(), math.log(3)), (SigmoidBCE(), math.log(3) - 2 * math.log(2 / 3))]
)
def test_first_loss_of_three_classes_is_what_equal_probabilities_cost(scheme, wanted):
    loss = scheme.loss(scheme.initial_bias(3).expand(3, 3), torch.eye(3))
    assert loss.tolist() == pytest.approx([wanted] * 3, rel=1e-6)
    assert round(wanted, 4) == (1.0986 if scheme.exclusive else 1.9095)


def test_both_schemes_start_from_equal_probabilities():
    start = [scheme.probabilities(scheme.initial_bias(3)) for scheme in (SoftmaxCE(), SigmoidBCE())]
    torch.testing.assert_close(start[0], start[1])


def test_class_weights_multiply_the_loss_of_a_box_by_the_same_factor_in_every_scheme():
    logits, truth = torch.randn(6, 3), torch.eye(3).repeat(2, 1)
    for plain in (SoftmaxCE(), SigmoidBCE()):
        factor = type(plain)(class_weights=WEIGHTS).loss(logits, truth) / plain.loss(logits, truth)
        torch.testing.assert_close(factor, torch.tensor(WEIGHTS).repeat(2))


def test_several_labels_on_one_box_are_refused_by_softmax_and_kept_by_sigmoids():
    truth = truth_of([1], [0, 2])
    assert torch.equal(SigmoidBCE().targets(truth), truth)
    with pytest.raises(ValueError, match="box 1 carries several labels"):
        SoftmaxCE().targets(truth)


def test_softmax_refuses_a_prior_that_does_not_sum_to_one_and_sigmoids_take_it():
    with pytest.raises(ValueError, match="softmax probabilities sum to 1"):
        SoftmaxCE().initial_bias(3, (0.5, 0.4, 0.3))
    torch.testing.assert_close(SigmoidBCE().initial_bias(2, 0.01), torch.full((2,), -4.59512))


@pytest.mark.parametrize("wrong", [(1.0, -1.0, 1.0), (1.0, float("nan"), 1.0), (float("inf"), 1.0, 1.0)])
def test_weights_that_are_no_weights_are_refused_by_name(wrong):
    for scheme in (SoftmaxCE, SigmoidBCE):
        with pytest.raises(ValueError, match="class_weights must be finite and not negative"):
            scheme(class_weights=wrong)
    with pytest.raises(ValueError, match="pos_weight must be finite and not negative"):
        SigmoidBCE(pos_weight=wrong)


@pytest.mark.parametrize(
    "scheme",
    [
        SoftmaxCE(class_weights=(1.0, 1.0)),
        SigmoidBCE(class_weights=(1.0, 1.0)),
        SigmoidBCE(pos_weight=(1.0, 1.0)),
    ],
    ids=repr,
)
def test_weights_for_another_number_of_classes_are_refused(scheme):
    with pytest.raises(ValueError, match=r"weights? \(2,\) for 3 classes"):
        scheme.loss(torch.zeros(1, 3), truth_of([0]))
