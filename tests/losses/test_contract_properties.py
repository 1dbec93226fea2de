"""Laws that hold for any logits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses.cases import CASES
from losses.trials import Rows, call, draw, tensor

from dethead.structures import BACKGROUND

EXAMPLES = 6
FROM_LOGITS = [case for case in CASES if case.inputs == "logits"]
LABELLED = [case for case in CASES if "labels" in case.forms]
SHIFTED = [case for case in FROM_LOGITS if case.kind != "elementwise"]

numbers = st.floats(-50, 50, width=32)
seeds = st.integers(0, 1000)


def loss_of(case, logits, targets):
    return call(case, tensor(logits, torch.float64), tensor(targets, torch.float64)).numpy()


@pytest.mark.parametrize("case", CASES, ids=str)
@given(seed=seeds, scale=st.sampled_from([0.1, 3.0, 50.0]))
@settings(max_examples=EXAMPLES)
def test_a_loss_is_not_negative(case, seed, scale):
    rows = draw(case, case.forms[-1], rows=4, classes=3, scale=scale, seed=seed)
    assert (loss_of(case, *rows) >= -1e-12 * max(1, scale)).all()


@pytest.mark.parametrize("case", SHIFTED, ids=str)
@given(seed=seeds, shift=numbers)
@settings(max_examples=EXAMPLES)
def test_the_same_number_added_to_all_logits_changes_nothing(case, seed, shift):
    rows = draw(case, case.forms[-1], rows=4, classes=3, seed=seed)
    np.testing.assert_allclose(
        loss_of(case, rows.logits + shift, rows.targets), loss_of(case, *rows), atol=1e-9
    )


# A smoothed target is missed by a logit that is too high, too; GHM divides by numbers of its bins.
MONOTONE = [case for case in LABELLED if case.name not in ("softmax_ce_smoothed", "ghm")]


@pytest.mark.parametrize("case", MONOTONE, ids=str)
@given(seed=seeds, logits=st.lists(numbers, min_size=3, max_size=3), more=st.floats(0, 20))
@settings(max_examples=EXAMPLES)
def test_a_higher_true_logit_never_costs_more(case, seed, logits, more):
    before = draw(case, "labels", rows=1, classes=3, seed=seed).logits
    if case.inputs == "logits":
        before = np.array([logits])
    after = before.copy()
    after[0, 0] = after[0, 0] + more
    if case.inputs == "probabilities":
        after = np.minimum(after, 1.0)
    label = np.array([0])
    assert loss_of(case, after, label)[0] <= loss_of(case, before, label)[0] + 1e-9


ALIKE = [
    case for case in LABELLED if not any(isinstance(value, np.ndarray) for value in case.settings(4).values())
]


@pytest.mark.parametrize("case", ALIKE, ids=str)
@given(seed=seeds)
@settings(max_examples=EXAMPLES)
def test_the_classes_have_no_order(case, seed):
    rows = draw(case, "labels", rows=5, classes=4, seed=seed)
    order = np.random.default_rng(seed).permutation(4)
    place = np.argsort(order)
    moved = np.where(rows.targets == BACKGROUND, BACKGROUND, place[rows.targets])
    np.testing.assert_allclose(
        loss_of(case, rows.logits[:, order], moved), loss_of(case, *rows), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("case", [case for case in CASES if not case.coupled], ids=str)
@given(seed=seeds)
@settings(max_examples=EXAMPLES)
def test_a_row_alone_costs_what_it_costs_among_others(case, seed):
    rows = draw(case, case.forms[-1], rows=4, classes=3, seed=seed)
    together = loss_of(case, *rows)
    alone = [loss_of(case, *Rows(rows.logits[n : n + 1], rows.targets[n : n + 1]))[0] for n in range(4)]
    np.testing.assert_allclose(alone, together, rtol=1e-12, atol=1e-12)
