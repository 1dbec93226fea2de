"""Every class loss against its oracle: value and gradient, for every form of targets, weights and masks."""

import itertools

import numpy as np
import pytest
import torch
from losses.cases import CASES, EVERY
from losses.trials import TOLERANCE, Rows, assert_equal, call, draw, expected, inputs_of, run, tensor

from dethead.structures import IGNORE, UNKNOWN_CLASS

LABELLED = [case for case in CASES if "labels" in case.forms]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_labelled = pytest.mark.parametrize("case", LABELLED, ids=str)
every_setting = pytest.mark.parametrize("case", EVERY, ids=str)


def agree(case, rows, note, **arguments):
    """In float32 and float64, value and gradient are the oracle's."""
    wanted = expected(case, rows, **arguments)
    for dtype, tolerance in TOLERANCE.items():
        assert_equal(run(case, rows, dtype, **arguments), wanted, case, rows, tolerance, f"{note}, {dtype}")


def mask(*shape, seed=7):
    return np.random.default_rng(seed).random(shape) < 0.3


@every_case
def test_value_and_gradient_for_any_number_of_classes_and_size_of_logits(case):
    for classes, scale in itertools.product([1, 2, 5, 80], [1.0, 10.0, 200.0]):
        rows = draw(case, case.forms[-1], classes=classes, scale=scale)
        agree(case, rows, f"{classes} classes, scale {scale}")


@every_setting
def test_value_and_gradient_for_every_form_of_targets(case):
    for form in case.forms:
        agree(case, draw(case, form), form)


@every_labelled
def test_class_weights_multiply_a_row_by_the_mean_weight_of_its_labels(case):
    for form in case.forms:
        agree(case, draw(case, form), form, class_weights=np.array([0.0, 0.5, 1.0, 2.0, 4.0]))


@every_case
def test_sample_weights_multiply_a_row(case):
    weights = np.random.default_rng(3).integers(0, 9, 64) / 4
    for form in case.forms:
        agree(case, draw(case, form), form, sample_weights=weights)


@every_case
def test_rows_are_left_out_by_a_mask(case):
    for form in case.forms:
        agree(case, draw(case, form), form, ignore=mask(64))


def partly_ignored(case, form):
    """Rows and an (N, C) mask that leaves nothing of the first three; distributions are of what is left."""
    rows, ignore = draw(case, form), mask(64, 5)
    ignore[:3] = True
    if form == "distribution":
        left = np.where(ignore, 0.0, rows.targets)
        sums = left.sum(axis=1, keepdims=True)
        rows = rows._replace(targets=left / np.where(sums > 0, sums, 1.0))
    return rows, ignore


@every_case
def test_elements_are_left_out_by_a_mask(case):
    for form in case.forms:
        rows, ignore = partly_ignored(case, form)
        agree(case, rows, form, ignore=ignore)


@every_labelled
def test_ignored_labels_are_left_out(case):
    rows = draw(case, "labels")
    rows.targets[mask(64)] = UNKNOWN_CLASS
    rows.targets[mask(64, seed=8)] = IGNORE
    agree(case, rows, "ignored labels")


@every_labelled
def test_a_label_may_be_named_that_is_left_out(case):
    agree(case, draw(case, "labels"), "ignore_index 3", ignore_index=3)


@every_labelled
def test_weights_and_masks_work_together(case):
    weights = {"class_weights": np.array([0.5, 1.0, 2.0, 0.25, 3.0]), "sample_weights": np.arange(64) / 16}
    for form in case.forms:
        rows, ignore = partly_ignored(case, form)
        agree(case, rows, form, ignore=ignore, **weights)


SMOOTH = [case for case in EVERY if not case.detached]  # constant factors: the oracle proves the gradient


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_gradcheck(case):
    rows = draw(case, case.forms[-1], rows=3, classes=3, scale=1.5)
    logits = tensor(rows.logits, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: call(case, z, tensor(rows.targets, torch.float64)), logits)


def extreme_rows(case, largest):
    """Every triple of extreme logits under every label."""
    triples = itertools.product([-largest, -200.0, 0.0, 200.0, largest], repeat=3)
    logits = np.repeat(np.array(list(triples)), 3, axis=0)
    targets = np.tile(np.arange(3), len(logits) // 3)
    if case.forms == ("teacher",):
        return Rows(logits, logits[::-1].copy())
    return Rows(inputs_of(case, logits), targets)


@every_setting
def test_extreme_logits_have_the_oracle_s_finite_value_and_gradient(case):
    wanted = expected(case, extreme_rows(case, 1e4))
    assert np.isfinite(wanted.loss).all()
    assert np.isfinite(wanted.gradient).all()
    agree(case, extreme_rows(case, 1e4), "extreme logits")


@pytest.mark.parametrize("case", [case for case in EVERY if "soft" in case.forms], ids=str)
def test_soft_targets_are_finite_at_extreme_logits(case):
    rows = extreme_rows(case, 1e4)
    soft = np.random.default_rng(0).random(rows.logits.shape)
    got = run(case, rows._replace(targets=soft), torch.float32)
    assert np.isfinite(got.loss).all()
    assert np.isfinite(got.gradient).all()


def in_precision(case, dtype):
    """Logits of a lower precision, and targets."""
    rows = draw(case, case.forms[-1], classes=3, scale=10.0)
    logits = tensor(rows.logits, torch.float32).to(dtype)
    if case.inputs == "probabilities":
        logits = logits.clamp(2.0**-10, 1 - 2.0**-7)  # also in bfloat16 inside (0, 1)
    return logits, tensor(rows.targets, torch.float32)


@every_case
def test_half_precision_logits_are_computed_in_float32(case):
    for half in (torch.float16, torch.bfloat16):
        logits, targets = in_precision(case, half)
        loss = call(case, logits.requires_grad_(), targets)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.dtype == torch.float32
        assert gradient.dtype == half
        assert gradient.isfinite().all()
        assert torch.equal(loss, call(case, logits.detach().float(), targets))


@every_case
def test_autocast_changes_nothing(case):
    for dtype in (torch.float32, torch.bfloat16):
        logits, targets = in_precision(case, dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = call(case, logits, targets)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, call(case, logits, targets))
