"""What a row may do: order, ignoring, weights, empties, and forms of targets that mean the same."""

import numpy as np
import pytest
import torch
from losses.cases import CASES
from losses.trials import Rows, call, draw, run, tensor

from dethead.structures import BACKGROUND, IGNORE, UNKNOWN_CLASS

every_case = pytest.mark.parametrize("case", CASES, ids=str)
LABELLED = [case for case in CASES if "labels" in case.forms]
every_labelled = pytest.mark.parametrize("case", LABELLED, ids=str)


def same(got, wanted, tolerance=1e-12):
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def taken(rows, which):
    return Rows(rows.logits[which], rows.targets[which])


@every_case
def test_rows_in_another_order_give_the_losses_in_that_order(case):
    rows = draw(case, case.forms[-1])
    order = np.random.default_rng(1).permutation(len(rows.logits))
    straight = run(case, rows)
    same(run(case, taken(rows, order)), [part[order] for part in straight])


@every_case
def test_an_ignored_row_costs_exactly_nothing(case):
    rows = draw(case, case.forms[-1])
    ignore = np.arange(64) % 3 == 0
    loss, gradient = run(case, rows, ignore=ignore)
    assert (loss[ignore] == 0).all()
    assert (gradient[ignore] == 0).all()


@every_case
def test_to_ignore_rows_is_to_leave_them_out(case):
    rows = draw(case, case.forms[-1])
    ignore = np.arange(64) % 3 == 0
    rest = run(case, rows, ignore=ignore)
    same([part[~ignore] for part in rest], run(case, taken(rows, ~ignore)))


@every_labelled
@pytest.mark.parametrize("label", [IGNORE, UNKNOWN_CLASS])
def test_an_ignored_label_is_an_ignored_row(case, label):
    rows = draw(case, "labels")
    ignore = np.arange(64) % 3 == 0
    marked = rows._replace(targets=np.where(ignore, label, rows.targets))
    same(run(case, marked), run(case, rows, ignore=ignore), tolerance=0)


@every_case
def test_an_ignored_element_has_exactly_no_gradient(case):
    rows = draw(case, case.forms[-1])
    ignore = np.random.default_rng(4).random(rows.logits.shape) < 0.4
    if case.forms[-1] == "distribution":
        ignore &= rows.targets == 0
    gradient = run(case, rows, ignore=ignore).gradient
    assert (gradient[ignore] == 0).all()


@every_case
def test_the_value_of_an_ignored_element_does_not_matter(case):
    rows = draw(case, case.forms[0])
    ignore = np.random.default_rng(4).random(rows.logits.shape) < 0.4
    other = np.where(ignore, rows.logits[::-1], rows.logits)
    same(run(case, rows._replace(logits=other), ignore=ignore), run(case, rows, ignore=ignore), tolerance=0)


@every_case
def test_a_row_of_ignored_elements_is_an_ignored_row(case):
    rows = draw(case, case.forms[-1])
    ignore = np.arange(64) % 3 == 0
    elements = np.repeat(ignore[:, None], 5, axis=1)
    same(run(case, rows, ignore=elements), run(case, rows, ignore=ignore), tolerance=0)


@every_labelled
def test_class_weights_of_one_change_nothing(case):
    rows = draw(case, "labels")
    same(run(case, rows, class_weights=np.ones(5)), run(case, rows), tolerance=0)


@every_case
def test_sample_weights_of_one_change_nothing(case):
    rows = draw(case, case.forms[-1])
    same(run(case, rows, sample_weights=np.ones(64)), run(case, rows), tolerance=0)


@every_case
def test_a_mask_of_false_changes_nothing(case):
    rows = draw(case, case.forms[-1])
    same(run(case, rows, ignore=np.zeros((64, 5), dtype=bool)), run(case, rows))


@every_labelled
def test_class_weights_of_k_scale_rows_with_a_label_by_k(case):
    rows = draw(case, "labels")
    factor = np.where(rows.targets >= 0, 4.0, 1.0)
    loss, gradient = run(case, rows)
    scaled = run(case, rows, class_weights=np.full(5, 4.0))
    if case.coupled:  # gradients of other rows' losses arrive here
        return same(scaled[:1], [loss * factor])
    return same(scaled, [loss * factor, gradient * factor[:, None]])


@every_case
def test_sample_weights_of_k_scale_by_k(case):
    rows = draw(case, case.forms[-1])
    scaled = run(case, rows, sample_weights=np.full(64, 4.0))
    same(scaled, [4 * part for part in run(case, rows)])


def finite_zeros(case, rows, **arguments):
    for dtype in (torch.float16, torch.float32, torch.float64):
        logits = tensor(rows.logits, dtype).requires_grad_()
        loss = call(case, logits, tensor(rows.targets, torch.float32), **arguments)
        assert loss.shape == (len(rows.logits),)
        assert (loss == 0).all()
        loss.sum().backward()
        assert logits.grad is not None
        assert (logits.grad == 0).all()


@every_case
def test_nothing_but_ignored_rows_are_zeros_on_the_graph(case):
    rows = draw(case, case.forms[-1], rows=4)
    finite_zeros(case, rows, ignore=torch.ones(4, dtype=torch.bool))


@every_case
def test_nothing_but_ignored_elements_are_zeros_on_the_graph(case):
    rows = draw(case, case.forms[-1], rows=4)
    finite_zeros(case, rows, ignore=torch.ones(4, 5, dtype=torch.bool))


@every_labelled
def test_nothing_but_ignored_labels_are_zeros_on_the_graph(case):
    rows = draw(case, "labels", rows=4)
    finite_zeros(case, rows._replace(targets=np.array([IGNORE, UNKNOWN_CLASS, IGNORE, IGNORE])))


@every_case
def test_no_rows_are_no_losses_on_the_graph(case):
    for form in case.forms:
        finite_zeros(case, taken(draw(case, form, rows=2), slice(0)))


@pytest.mark.parametrize("case", [case for case in LABELLED if case.kind != "elementwise"], ids=str)
def test_background_costs_nothing_where_one_class_is_chosen(case):
    rows = draw(case, "labels", rows=4)
    rows = rows._replace(targets=np.full(4, BACKGROUND))
    finite_zeros(case, rows)


@pytest.mark.parametrize("case", [c for c in LABELLED if c.kind == "elementwise"], ids=str)
def test_background_answers_no_to_every_class(case):
    rows = draw(case, "labels", rows=4)
    zeros = np.zeros((4, 5))
    background = run(case, rows._replace(targets=np.full(4, BACKGROUND)))
    same(background, run(case, rows._replace(targets=zeros)), tolerance=0)
    assert (background.loss > 0).all()


@every_labelled
def test_one_class_has_finite_losses(case):
    rows = draw(case, "labels", classes=1, scale=10.0)
    for dtype in (torch.float32, torch.float64):
        loss, gradient = run(case, rows, dtype)
        assert np.isfinite(loss).all()
        assert np.isfinite(gradient).all()


@every_labelled
def test_labels_and_one_hot_rows_mean_the_same(case):
    rows = draw(case, "labels")
    weights = {"class_weights": np.array([0.5, 1, 2, 3, 4]), "ignore": np.arange(64) % 5 == 0}
    wanted = run(case, rows, **weights)
    for kind in (np.float32, np.float64, np.int64, np.bool_):
        one_hot = (rows.targets[:, None] == np.arange(5)).astype(kind)
        same(run(case, rows._replace(targets=one_hot), **weights), wanted)


@every_case
def test_the_arguments_are_left_as_they_were(case):
    rows = draw(case, case.forms[-1])
    logits, targets = tensor(rows.logits, torch.float64), tensor(rows.targets, torch.float64)
    call(case, logits, targets, ignore=torch.arange(64) % 2 == 0)
    assert np.array_equal(logits.numpy(), rows.logits)
    assert np.array_equal(targets.numpy(), rows.targets)
