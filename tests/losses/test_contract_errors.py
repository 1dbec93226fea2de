"""What is refused, and that the message names the culprit."""

import re

import pytest
import torch
from losses.cases import CASES, EVERY
from losses.trials import call, draw, settings_of, tensor, tensors

every_case = pytest.mark.parametrize("case", CASES, ids=str)
LABELLED = [case for case in CASES if "labels" in case.forms]
every_labelled = pytest.mark.parametrize("case", LABELLED, ids=str)
NAN, INF = float("nan"), float("inf")


def named(name):
    return next(case for case in EVERY if case.name == name)


def refused(case, match, *, logits=None, targets=None, **arguments):
    """With 6 rows of 3 classes, one argument of which is wrong."""
    rows = draw(case, case.forms[0], rows=6, classes=3)
    logits = tensor(rows.logits, torch.float32) if logits is None else logits
    targets = tensor(rows.targets, torch.float32) if targets is None else targets
    settings = tensors(settings_of(case, 3), torch.float32)
    with pytest.raises(ValueError, match=match):
        case.function(logits, targets, **settings, **arguments)


def spoilt(case, value):
    """Logits of which the one in row 3, class 1 is spoilt."""
    logits = tensor(draw(case, case.forms[0], rows=6, classes=3).logits, torch.float32)
    logits[3, 1] = value
    return logits


@every_case
def test_logits_of_another_shape(case):
    for shape in [(6,), (6, 3, 1), (5, 3)]:
        # Half of one: a probability, too. The message names the shape.
        refused(case, re.escape(str(shape)), logits=torch.full(shape, 0.5))


@every_labelled
def test_labels_of_another_shape(case):
    for shape in [(), (5,), (7,), (6, 3, 1), (6, 4)]:
        refused(case, re.escape(str(shape)), targets=torch.zeros(shape, dtype=torch.int64))


@every_case
def test_logits_that_are_integers(case):
    refused(case, r"int64", logits=torch.ones(6, 3, dtype=torch.int64))


@every_labelled
def test_a_label_that_is_no_class(case):
    for label in [3, 1000, -3, -99]:
        refused(case, rf"label {label}\b.*row 4", targets=torch.tensor([0, 1, 2, 0, label, 0]))


@every_labelled
def test_labels_that_are_not_integers(case):
    refused(case, r"float32", targets=torch.zeros(6))


@every_case
def test_logits_that_are_nan(case):
    refused(case, r"row 3", logits=spoilt(case, NAN))


@pytest.mark.parametrize("case", [case for case in CASES if case.inputs != "log_probabilities"], ids=str)
def test_logits_that_are_infinite(case):
    for value in [INF, -INF]:
        refused(case, r"row 3", logits=spoilt(case, value))


@pytest.mark.parametrize("case", [case for case in CASES if "one_hot" in case.forms], ids=str)
def test_targets_outside_0_and_1(case):
    for value in [-0.25, 1.5, NAN, INF]:
        targets = torch.eye(3).repeat(2, 1)
        targets[4, 0] = value
        refused(case, r"row 4", targets=targets)


@pytest.mark.parametrize("value", [-0.25, 1.5])
def test_probabilities_outside_0_and_1(value):
    case = named("probability_bce")
    refused(case, r"row 3", logits=spoilt(case, value))


@every_labelled
def test_class_weights_that_are_no_weights(case):
    for value in [-1.0, NAN]:
        refused(case, r"class_weights", class_weights=torch.tensor([1.0, value, 1.0]))


@every_labelled
def test_class_weights_for_other_classes(case):
    for shape in [(), (2,), (4,), (6, 3)]:
        refused(case, r"class_weights", class_weights=torch.ones(shape))


@every_case
def test_sample_weights_that_are_no_weights(case):
    for value in [-1.0, NAN]:
        refused(case, r"sample_weights", sample_weights=torch.tensor([1.0, 1, value, 1, 1, 1]))


@every_case
def test_sample_weights_for_other_rows(case):
    for shape in [(), (5,), (3,), (6, 3)]:
        refused(case, r"sample_weights", sample_weights=torch.ones(shape))


@every_case
def test_a_mask_of_another_shape(case):
    for shape in [(), (5,), (3,), (3, 6)]:
        refused(case, r"ignore", ignore=torch.zeros(shape, dtype=torch.bool))


@every_case
def test_a_mask_that_is_not_bool(case):
    refused(case, r"ignore.*int64|int64.*ignore", ignore=torch.zeros(6, dtype=torch.int64))


SETTINGS = {
    "softmax_ce": {"label_smoothing": [-0.1, 1.0, NAN]},
    "softmax_focal": {"gamma": [0.5, 0.99, -1.0, NAN, INF]},
    "poly1_softmax": {"epsilon": [-1.5, NAN], "activation": ["tanh"]},
    "kl": {"temperature": [0.0, -1.0, NAN]},
    "distillation_softmax": {"temperature": [0.0, -1.0], "activation": ["tanh"]},
    "logit_adjusted": {"class_counts": [torch.ones(4), torch.tensor([1.0, -1.0, 1.0])]},
    "balanced_softmax": {"class_counts": [torch.ones(4), torch.tensor([1.0, -1.0, 1.0])]},
    "ldam": {
        "class_counts": [torch.ones(4), torch.tensor([1.0, -1.0, 1.0])],
        "max_margin": [-0.5],
        "scale": [0.0, -1.0],
    },
    "seesaw": {"class_counts": [torch.ones(4), torch.tensor([1.0, -1.0, 1.0])], "p": [-1.0], "q": [-1.0]},
    "sigmoid_bce": {
        "pos_weight": [torch.ones(4), torch.tensor([1.0, -1.0, 1.0])],
        "neg_weight": [torch.ones(4), torch.tensor([1.0, -1.0, 1.0])],
    },
    "probability_bce": {
        "pos_weight": [torch.ones(4), torch.tensor([1.0, -1.0, 1.0])],
        "neg_weight": [torch.ones(4), torch.tensor([1.0, -1.0, 1.0])],
    },
    "focal": {"alpha": [-0.1, 1.1, NAN], "gamma": [0.5, 0.99, -1.0, NAN]},
    "quality_focal": {"beta": [0.5, 0.99, -1.0, NAN]},
    "varifocal": {"gamma": [0.5, 0.99, -1.0, NAN], "alpha": [-0.1, NAN]},
    "asymmetric": {
        "gamma_pos": [0.5, -1.0],
        "gamma_neg": [0.5, -1.0],
        "clip": [-0.1, 1.0, NAN],
    },
    "ghm": {"bins": [0, -1]},
    "equalization": {"positive_gradient": [torch.ones(4)], "negative_gradient": [torch.ones(4)]},
    "hinge": {"variant": ["other"], "margin": [NAN]},
    "margin_ranking": {"against": ["other"], "margin": [NAN]},
    "brier_softmax": {"activation": ["tanh"], "penalty": ["l3"]},
    "brier_softmax-penalty=smooth_l1-beta=0.25": {"beta": [None, -1.0]},
}


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [(name, key, value) for name, bad in SETTINGS.items() for key in bad for value in bad[key]],
    ids=str,
)
def test_a_setting_outside_its_range_is_named(name, setting, value):
    case = named(name)
    rows = draw(case, case.forms[0], rows=6, classes=3)
    settings = {**tensors(case.settings(3), torch.float32), setting: value}
    with pytest.raises(ValueError, match=setting):
        case.function(tensor(rows.logits, torch.float32), tensor(rows.targets, torch.float32), **settings)


NO_DEFAULT = {
    "softmax_focal": ["gamma"],
    "poly1_softmax": ["epsilon"],
    "distillation_softmax": ["temperature"],
    "logit_adjusted": ["class_counts", "tau"],
    "balanced_softmax": ["class_counts"],
    "ldam": ["class_counts", "max_margin", "scale"],
    "seesaw": ["class_counts", "p", "q"],
    "focal": ["alpha", "gamma"],
    "quality_focal": ["beta"],
    "varifocal": ["alpha", "gamma"],
    "asymmetric": ["gamma_pos", "gamma_neg", "clip"],
    "ghm": ["bins"],
    "equalization": ["positive_gradient", "negative_gradient", "gamma", "mu", "alpha"],
}


@pytest.mark.parametrize(
    ("name", "setting"), [(name, setting) for name, settings in NO_DEFAULT.items() for setting in settings]
)
def test_what_has_no_default_must_be_given(name, setting):
    case = named(name)
    settings = tensors(case.settings(3), torch.float32)
    settings.pop(setting)
    rows = draw(case, case.forms[0], rows=6, classes=3)
    with pytest.raises(TypeError, match=setting):
        case.function(tensor(rows.logits, torch.float32), tensor(rows.targets, torch.float32), **settings)


@pytest.mark.parametrize("case", [case for case in CASES if case.forms == ("labels", "one_hot")], ids=str)
def test_several_labels_where_only_one_makes_sense(case):
    targets = torch.eye(3).repeat(2, 1)
    targets[4, 0] = 1.0
    refused(case, r"row 4", targets=targets)


def test_targets_of_kl_that_are_no_distribution():
    case = named("kl")
    targets = torch.eye(3).repeat(2, 1)
    targets[4] = torch.tensor([0.5, 0.25, 0.0])
    refused(case, r"row 4", targets=targets)


def test_log_probabilities_of_minus_infinity_are_allowed_where_the_target_is_0():
    case = named("nll")
    log_p = torch.tensor([[0.0, -INF], [-INF, 0.0]], requires_grad=True)
    loss = call(case, log_p, torch.tensor([0, 1]))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert log_p.grad.tolist() == [[-1.0, 0.0], [0.0, -1.0]]
