"""The two most used class losses against float64 NumPy, hand-derived gradients and PyTorch's own losses."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dethead.losses import sigmoid_bce, softmax_cross_entropy
from dethead.structures import BACKGROUND, IGNORE

LOSSES = [softmax_cross_entropy, sigmoid_bce]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)

LOGITS = [[1.5, -0.5, 0.25], [-2.0, 3.0, 0.0], [0.5, 0.5, -4.0], [6.0, -1.0, 2.0]]
LABELS = [0, 2, 1, 1]
WEIGHTS = [0.5, 2.0, 3.0]


def one_hot(labels, classes=3):
    return np.eye(classes)[labels]


def ce_oracle(logits, targets):
    """-sum t log p, p = exp(x) / sum exp(x)."""
    logits = np.asarray(logits, dtype=np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -(targets * np.log(p)).sum(axis=1), p


def bce_oracle(logits, targets, pos_weight=1.0):
    """-sum w t log p + (1 - t) log(1 - p), p = 1 / (1 + exp(-x))."""
    p = 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))
    return -(pos_weight * targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(axis=1), p


def value_and_gradient(loss, *args, **kwargs):
    logits = torch.tensor(LOGITS, requires_grad=True)
    value = loss(logits, *args, **kwargs)
    value.sum().backward()
    return value.detach(), logits.grad


def close(actual, wanted, tolerance=1e-6):
    torch.testing.assert_close(actual.double(), torch.as_tensor(wanted), rtol=tolerance, atol=tolerance)


SOFT = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])


def test_cross_entropy_is_that_of_its_definition_and_its_gradient_p_minus_t():
    value, gradient = value_and_gradient(softmax_cross_entropy, torch.tensor(LABELS))
    wanted, p = ce_oracle(LOGITS, one_hot(LABELS))
    close(value, wanted)
    close(gradient, p - one_hot(LABELS))


def test_cross_entropy_of_soft_targets_is_that_of_its_definition():
    value, gradient = value_and_gradient(softmax_cross_entropy, torch.tensor(SOFT))
    wanted, p = ce_oracle(LOGITS, SOFT)
    close(value, wanted)
    close(gradient, p - SOFT)


def test_bce_is_that_of_its_definition_and_its_gradient_p_minus_t():
    value, gradient = value_and_gradient(sigmoid_bce, torch.tensor(LABELS))
    wanted, p = bce_oracle(LOGITS, one_hot(LABELS))
    close(value, wanted)
    close(gradient, p - one_hot(LABELS))


def test_bce_takes_several_labels_and_soft_ones():
    several = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.3, 0.9, 1.0], [1.0, 1.0, 1.0]])
    value, gradient = value_and_gradient(sigmoid_bce, torch.tensor(several))
    wanted, p = bce_oracle(LOGITS, several)
    close(value, wanted)
    close(gradient, p - several)


def test_pos_weight_multiplies_the_yes_terms_alone():
    truth = one_hot(LABELS)
    value, gradient = value_and_gradient(sigmoid_bce, torch.tensor(LABELS), pos_weight=torch.tensor(WEIGHTS))
    wanted, p = bce_oracle(LOGITS, truth, np.array(WEIGHTS))
    close(value, wanted)
    close(gradient, np.where(truth == 1, np.array(WEIGHTS) * (p - 1), p))


@every_loss
def test_class_weights_multiply_the_whole_loss_of_a_row(loss):
    plain, plain_gradient = value_and_gradient(loss, torch.tensor(LABELS))
    value, gradient = value_and_gradient(loss, torch.tensor(LABELS), class_weights=torch.tensor(WEIGHTS))
    factors = torch.tensor(WEIGHTS)[LABELS]
    torch.testing.assert_close(value, plain * factors)
    torch.testing.assert_close(gradient, plain_gradient * factors[:, None])


def test_pos_weight_and_class_weights_multiply():
    value, _ = value_and_gradient(
        sigmoid_bce,
        torch.tensor(LABELS),
        class_weights=torch.tensor(WEIGHTS),
        pos_weight=torch.tensor([4.0, 1.0, 0.5]),
    )
    wanted, _ = bce_oracle(LOGITS, one_hot(LABELS), np.array([4.0, 1.0, 0.5]))
    close(value, wanted * np.array(WEIGHTS)[LABELS])


@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_cross_entropy_of_labels_is_pytorchs(ignore_index):
    logits = torch.randn(50, 3)
    labels = torch.randint(3, (50,))
    labels[::7] = ignore_index
    weights = torch.tensor(WEIGHTS)
    ours = softmax_cross_entropy(logits, labels, class_weights=weights, ignore_index=ignore_index)
    theirs = F.cross_entropy(logits, labels, weights, ignore_index=ignore_index, reduction="none")
    torch.testing.assert_close(ours, theirs)


def test_cross_entropy_of_distributions_is_pytorchs():
    logits, targets = torch.randn(50, 5), torch.rand(50, 5).softmax(dim=1)
    theirs = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(softmax_cross_entropy(logits, targets), theirs)


def test_bce_is_pytorchs_summed_over_classes():
    logits, targets, pos_weight = torch.randn(50, 5), torch.rand(50, 5), torch.rand(5) + 0.5
    theirs = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight, reduction="none")
    torch.testing.assert_close(sigmoid_bce(logits, targets, pos_weight=pos_weight), theirs.sum(dim=1))


@every_loss
def test_labels_and_their_one_hot_rows_cost_the_same(loss):
    by_label = value_and_gradient(loss, torch.tensor(LABELS), class_weights=torch.tensor(WEIGHTS))
    by_row = value_and_gradient(loss, torch.tensor(one_hot(LABELS)), class_weights=torch.tensor(WEIGHTS))
    assert torch.equal(by_label[0], by_row[0])
    assert torch.equal(by_label[1], by_row[1])


@every_loss
@pytest.mark.parametrize("soft", [True, False])
def test_the_gradient_is_the_derivative_of_the_value(loss, soft):
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor(SOFT) if soft else torch.tensor([0, IGNORE, BACKGROUND, 2])
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets, class_weights=weights), logits)


def test_background_costs_nothing_in_cross_entropy_and_c_noes_in_bce():
    logits = torch.zeros(1, 4)
    background = torch.tensor([BACKGROUND])
    assert softmax_cross_entropy(logits, background).item() == 0
    assert sigmoid_bce(logits, background).item() == pytest.approx(4 * math.log(2))


@every_loss
@pytest.mark.parametrize(("ignored", "options"), [(IGNORE, {}), (-100, {}), (255, {"ignore_index": 255})])
def test_ignored_labels_have_exactly_no_loss_and_no_gradient(loss, ignored, options):
    labels = torch.tensor([ignored, 2, ignored, 1])
    value, gradient = value_and_gradient(loss, labels, **options)
    assert [bool(v) for v in value] == [False, True, False, True]
    assert [bool(row.any()) for row in gradient] == [False, True, False, True]


@every_loss
def test_another_ignore_index_takes_the_place_of_the_default(loss):
    with pytest.raises(ValueError, match="label -100 in row 0"):
        loss(torch.zeros(1, 3), torch.tensor([-100]), ignore_index=255)


@every_loss
@pytest.mark.parametrize("targets", [torch.tensor(LABELS), torch.tensor(SOFT)], ids=["labels", "soft"])
def test_masked_rows_have_exactly_no_loss_and_no_gradient(loss, targets):
    value, gradient = value_and_gradient(loss, targets, ignore=torch.tensor([True, False, False, True]))
    assert [bool(v) for v in value] == [False, True, True, False]
    assert [bool(row.any()) for row in gradient] == [False, True, True, False]


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_the_float32_loss_of_their_values(loss, dtype):
    logits = torch.tensor(LOGITS).to(dtype)  # all of them exact in both types
    half = loss(logits, torch.tensor(LABELS), class_weights=torch.tensor(WEIGHTS))
    assert half.dtype == torch.float32
    assert torch.equal(half, loss(logits.float(), torch.tensor(LABELS), class_weights=torch.tensor(WEIGHTS)))


@every_loss
def test_float64_stays(loss):
    assert loss(torch.zeros(2, 3, dtype=torch.float64), torch.tensor([0, 1])).dtype == torch.float64


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_saturated_logits_cost_their_distance_and_have_a_finite_gradient(loss, dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0]] * 3, dtype=dtype, requires_grad=True)
    big = float(logits[0, 0].detach())
    value = loss(logits, torch.tensor([0, 1, 2]))
    value.sum().backward()
    # Softmax: the largest logit minus that of the label. Sigmoids: |x| for each wrong answer, ln 2 at 0.
    softmax = [0, 2 * big, big]
    sigmoids = [math.log(2), 2 * big + math.log(2), big + math.log(2)]
    wanted = softmax if loss is softmax_cross_entropy else sigmoids
    assert value.tolist() == pytest.approx(wanted, rel=1e-6)
    assert torch.isfinite(logits.grad).all()


@every_loss
def test_no_rows_give_no_losses_attached_to_the_graph(loss):
    logits = torch.zeros(0, 3, requires_grad=True)
    for targets in (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)):
        value = loss(logits, targets, class_weights=torch.tensor(WEIGHTS))
        assert value.shape == (0,)
        value.sum().backward()
    assert logits.grad.shape == (0, 3)


@every_loss
@pytest.mark.parametrize("label", [3, -3, 90])
def test_a_label_out_of_range_is_named_with_its_row(loss, label):
    with pytest.raises(ValueError, match=rf"label {label} in row 1 is not in \[0, 3\)"):
        loss(torch.zeros(2, 3), torch.tensor([0, label]))


@every_loss
@pytest.mark.parametrize(
    ("logits", "targets"),
    [((2, 3), (3,)), ((2, 3), (2, 4)), ((2, 3), (2, 1)), ((3,), (3,)), ((1, 2, 3), (1, 2))],
)
def test_targets_that_do_not_fit_are_refused_with_both_shapes(loss, logits, targets):
    with pytest.raises(ValueError, match=r"logits must be \(N, C\)"):
        loss(torch.zeros(logits), torch.zeros(targets, dtype=torch.int64))


@every_loss
@pytest.mark.parametrize("mask", [torch.zeros(3, dtype=torch.bool), torch.zeros(2)])
def test_a_mask_that_does_not_fit_is_refused(loss, mask):
    with pytest.raises(ValueError, match="ignore must be bool"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]), ignore=mask)


@every_loss
def test_class_weights_for_another_number_of_classes_are_refused(loss):
    with pytest.raises(ValueError, match=r"class_weights \(2,\) for 3 classes"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]), class_weights=torch.ones(2))


@pytest.mark.parametrize("count", [1, 2])
def test_pos_weight_for_another_number_of_classes_is_refused(count):
    with pytest.raises(ValueError, match=rf"pos_weight \({count},\) for 3 classes"):
        sigmoid_bce(torch.zeros(2, 3), torch.tensor([0, 1]), pos_weight=torch.ones(count))
