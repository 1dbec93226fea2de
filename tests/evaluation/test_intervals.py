"""Intervals and p-values on numbers with known answers."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from dethead.evaluation.intervals import (
    bca_interval,
    holm,
    normal_p_value,
    percentile_interval,
    shifted_p_value,
)

NAN = float("nan")
EVEN = np.linspace(0, 1, 1001)


def test_percentiles_cut_off_the_same_share_on_both_sides():
    assert percentile_interval(EVEN, 0.9) == pytest.approx((0.05, 0.95))


def test_bca_without_bias_and_skewness_is_the_percentile_interval():
    assert bca_interval(EVEN, 0.5, np.array([0.4, 0.5, 0.6]), 0.9) == pytest.approx((0.05, 0.95), abs=1e-9)


def test_bca_is_efrons_formula():
    """By hand, with 30 % of the resamples below the estimate and a skewed jackknife."""
    left_out = np.array([0.1, 0.2, 0.2, 0.7])
    normal, d = NormalDist(), 0.3 - left_out
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    bias, z = normal.inv_cdf(0.30), normal.inv_cdf(0.025)
    low, high = (normal.cdf(bias + (bias + end) / (1 - a * (bias + end))) for end in (z, -z))
    got = bca_interval(np.linspace(0, 1, 100_001), 0.30, left_out)
    assert got == pytest.approx((low, high), abs=1e-4)


def test_an_estimate_beyond_all_resamples_still_has_an_interval():
    low, high = bca_interval(np.linspace(0, 1, 2000), 2.0, np.array([0.0, 0.0, 1.0]))
    assert 0 <= low <= high <= 1


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\)"):
        percentile_interval(EVEN, level)
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\)"):
        bca_interval(EVEN, 0.5, EVEN, level)


def test_undefined_resamples_are_left_out_and_without_any_all_is_unknown():
    with_gaps = np.append(EVEN, [NAN] * 500)
    left_out = np.array([0.4, NAN, 0.5, 0.6])
    assert bca_interval(with_gaps, 0.5, left_out, 0.9) == pytest.approx((0.05, 0.95), abs=1e-9)
    assert percentile_interval(with_gaps, 0.9) == pytest.approx((0.05, 0.95))
    unknown = np.array([NAN, NAN])
    assert all(
        math.isnan(end) for end in (*bca_interval(unknown, NAN, unknown), *percentile_interval(unknown))
    )
    assert percentile_interval(unknown).as_list() == [None, None]


def test_the_p_value_counts_shifted_resamples_as_far_from_0_as_the_difference():
    # Shifted by 0.2: -0.3, -0.1, 0, 0.1, 0.2; two of the five are 0.2 or more from 0.
    differences = np.array([-0.1, 0.1, 0.2, 0.3, 0.4])
    assert shifted_p_value(differences, 0.2) == pytest.approx((1 + 2) / 6)
    assert shifted_p_value(-differences, -0.2) == pytest.approx((1 + 2) / 6)


def test_the_p_value_is_never_0():
    assert shifted_p_value(np.linspace(0.9, 1.1, 999), 1.0) == pytest.approx(1 / 1000)


def test_the_normal_p_value_of_two_standard_deviations_is_0_0455():
    differences = np.random.default_rng(0).normal(0, 1, 999)
    differences = (differences - differences.mean()) / differences.std(ddof=1) + 2
    assert normal_p_value(differences, 2.0) == pytest.approx(0.0455, abs=1e-4)


@pytest.mark.parametrize("p_value", [shifted_p_value, normal_p_value])
def test_no_difference_has_p_1_and_one_that_never_varies_has_none(p_value):
    assert p_value(np.zeros(10), 0.0) == 1.0
    assert p_value(np.full(5, NAN), 0.0) == 1.0
    assert math.isnan(p_value(np.full(10, 0.1), 0.1))
    assert math.isnan(p_value(np.full(10, NAN), 0.1))
    assert math.isnan(p_value(np.linspace(0, 1, 9), NAN))


def test_holm_is_its_step_down_by_hand():
    # Ordered: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1 -> not below the one before.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, NAN, 0.8])) == pytest.approx([1.0, NAN, 1.0], nan_ok=True)
    assert holm(np.zeros(0)).tolist() == []
