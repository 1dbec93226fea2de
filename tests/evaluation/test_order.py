"""Stable orders, against Python's own sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dethead.evaluation.order import best_first, ranges, run_starts, sort_stable

CLOSE = 0.1 + 0.2  # an ulp above 0.3: equal in its leading bits


@given(
    st.lists(st.sampled_from([0.0, -0.0, 0.3, CLOSE, -0.3, -CLOSE, 1e300, 5e-324, 1.0]) | st.floats(-9, 9))
)
def test_best_first_is_the_stable_order_of_descending_scores(scores):
    wanted = sorted(range(len(scores)), key=lambda place: -scores[place])
    assert best_first(np.array(scores, dtype=np.float64)).tolist() == wanted


def test_scores_that_differ_in_the_last_bit_only_are_told_apart():
    assert best_first(np.array([0.3, CLOSE, 0.3, CLOSE])).tolist() == [1, 3, 0, 2]


@given(st.lists(st.integers(0, 3) | st.integers(0, 2**40)))
def test_sort_stable_keeps_the_order_given_among_equals(keys):
    order = list(range(len(keys)))[::-1]
    wanted = sorted(order, key=lambda place: keys[place])
    assert sort_stable(np.array(keys, dtype=np.int64), np.array(order, dtype=np.int64)).tolist() == wanted


@pytest.mark.parametrize(("values", "starts"), [([], []), ([4], [True]), ([4, 4, 5], [True, False, True])])
def test_run_starts_by_hand(values, starts):
    assert run_starts(np.array(values)).tolist() == starts


def test_ranges_of_no_numbers_give_nothing():
    assert ranges(np.array([7, 3, 9]), np.array([0, 2, 0])).tolist() == [3, 4]
