"""The oracles themselves: gradients derived by hand against differences, numbers worked on paper."""

import numpy as np
import pytest
from losses.cases import EVERY
from losses.oracles.margins import hinge, margin_ranking
from losses.oracles.rows import answer
from losses.oracles.sigmoid import bce
from losses.oracles.softmax import cross_entropy
from losses.trials import Rows, draw, settings_of

STEP = 1e-5
every_setting = pytest.mark.parametrize("case", EVERY, ids=str)


def differences(loss_at, logits):
    """(N, C) change of the sum of the losses per change of each logit."""
    gradient = np.zeros_like(logits)
    for at in np.ndindex(*logits.shape):
        step = np.zeros_like(logits)
        step[at] = STEP
        gradient[at] = (loss_at(logits + step).sum() - loss_at(logits - step).sum()) / (2 * STEP)
    return gradient


@every_setting
def test_a_gradient_derived_by_hand_is_that_of_central_differences(case):
    rows = draw(case, case.forms[-1], rows=6, classes=4, scale=1.5, seed=1)
    ignore = np.random.default_rng(2).random(rows.logits.shape) < 0.2
    settings = settings_of(case, 4)
    if case.detached:
        settings["factors_at"] = rows.logits
    weights = {"class_weights": np.array([0.5, 1, 2, 3]), "sample_weights": np.arange(1.0, 7)}

    def loss_at(logits):
        return answer(case.oracle, logits, rows.targets, settings, ignore=ignore, **weights).loss

    by_hand = answer(case.oracle, *rows, settings, ignore=ignore, **weights).gradient
    wanted = differences(loss_at, rows.logits)
    np.testing.assert_allclose(by_hand, wanted, atol=1e-7 * max(1, np.abs(wanted).max()))


@every_setting
def test_an_oracle_is_finite_at_ten_thousand(case):
    rows = Rows(np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]), np.array([0, 0]))
    if case.inputs != "logits":
        rows = draw(case, "labels", rows=2, classes=3, scale=1e4)
    if case.forms == ("teacher",):
        rows = rows._replace(targets=-rows.logits)
    loss, gradient = answer(case.oracle, *rows, settings_of(case, 3))
    assert np.isfinite(loss).all()
    assert np.isfinite(gradient).all()


def test_softmax_of_5_4_2_and_its_gradient_by_hand():
    loss, gradient = answer(cross_entropy, np.array([[5.0, 4, 2]]), np.array([0]), {})
    np.testing.assert_allclose(np.exp(-loss), [0.7054], atol=5e-5)
    np.testing.assert_allclose(gradient, [[-0.2946, 0.2595, 0.0351]], atol=5e-5)


def test_a_start_at_a_third_costs_bce_1_9095():
    logits = np.full((1, 3), -np.log(2))
    np.testing.assert_allclose(answer(bce, logits, np.array([0]), {}).loss, [1.9095], atol=5e-5)


@pytest.mark.parametrize(
    ("scores", "variant", "squared", "wanted"),
    [
        ((3.2, 5.1, -1.7), "weston_watkins", False, 2.9),
        ((3.2, 5.1, -1.7), "crammer_singer", False, 2.9),
        ((3.2, 5.1, 2.7), "weston_watkins", False, 3.4),
        ((3.2, 5.1, 2.7), "crammer_singer", False, 2.9),
        ((3.2, 5.1, 2.7), "weston_watkins", True, 8.66),
        ((3.2, 5.1, 2.7), "crammer_singer", True, 8.41),
    ],
)
def test_hinge_of_scores_worked_by_hand(scores, variant, squared, wanted):
    settings = {"variant": variant, "squared": squared}
    assert answer(hinge, np.array([scores]), np.array([0]), settings).loss[0] == pytest.approx(wanted)


def test_ranking_against_the_batch_by_hand():
    # Wrong scores: 1 of row 0, 4 of row 1. 4 is the highest: 1 + 4 - 2 and 1 + 4 - 6 < 0.
    logits = np.array([[2.0, 1.0], [4.0, 6.0]])
    loss, gradient = answer(margin_ranking, logits, np.array([0, 1]), {"against": "batch"})
    assert loss.tolist() == [3.0, 0.0]
    assert gradient.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
