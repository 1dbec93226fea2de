"""Variance components, quantiles and power, against hand calculation and published tables."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from simulated_runs import Resamples, Shares, draw_differences

from dethead.ablation.quantiles import TAILS, chi_square, normal_cdf, t_quantiles
from dethead.ablation.variance import UNKNOWN, Group, Noise, measure

DRAW = np.random.default_rng(0)
DIFFERENCES = draw_differences(DRAW, Shares(0.4, 0.3, 0.3), seeds=3, images=80)
NOISE = Noise(images=1e-4, image_df=49, seeds=4e-4, seed_df=2.0, one_seed=12e-4, sides=1.0)


@pytest.mark.parametrize(
    ("df", "tail", "expected"),
    [
        (1, 0.05, 12.7062),
        (1, 0.01, 63.6567),
        (2, 0.05, 4.3027),
        (2, 0.001, 31.5991),
        (4, 0.05, 2.7764),
        (9, 0.01, 3.2498),
        (49, 0.05, 2.0096),
        (1e6, 0.05, 1.9600),
    ],
)
def test_t_quantiles_are_those_of_the_tables(df, tail, expected):
    got = np.interp(-math.log(tail), -np.log(TAILS), t_quantiles(df))
    assert got == pytest.approx(expected, rel=5e-5)


def test_t_with_1_and_2_degrees_of_freedom_have_a_formula():
    np.testing.assert_allclose(t_quantiles(1)[1:], 1 / np.tan(np.pi * TAILS[1:] / 2), rtol=1e-4, atol=1e-4)
    inside = 1 - TAILS[1:-900]
    expected = inside * np.sqrt(2 / (1 - inside**2))
    np.testing.assert_allclose(t_quantiles(2)[1:-900], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("df", [1, 2.5, 30, 1000])
def test_chi_square_has_its_mean_and_variance(df):
    values, weights = chi_square(df)
    assert weights @ values == pytest.approx(1, abs=1e-9)
    assert weights @ (values - 1) ** 2 == pytest.approx(2 / df, rel=1e-6)


def test_small_normal_tails_keep_their_digits():
    assert normal_cdf(np.array([-10.0]))[0] == pytest.approx(7.619853e-24, rel=1e-6)


def test_images_are_what_seeds_share_and_seeds_what_differs():
    group = Resamples(80, 300).group(DIFFERENCES)
    got = measure([group], 80, 70)
    covariance = np.cov(group.resampled.T) * 80 / 79
    assert got.images == pytest.approx(covariance[~np.eye(3, dtype=bool)].mean())
    assert got.seeds == pytest.approx(np.var(DIFFERENCES.mean(axis=0), ddof=1) / 3)
    assert (got.image_df, got.seed_df, got.sides) == (69, 2, 1)
    assert got.seed_share == pytest.approx(got.seeds / (got.images + got.seeds))


def test_variances_are_those_drawn():
    """Mean over 300 draws of what is measured: the truth within 4 standard errors."""
    draw, resamples = np.random.default_rng(1), Resamples(60, 300)
    shares = Shares(0.5, 0.2, 0.3)
    found = np.array(
        [
            (noise.images, noise.seeds)
            for noise in (resamples.noise(draw_differences(draw, shares, 3, 60)) for _ in range(300))
        ]
    )
    error = found.std(axis=0) / math.sqrt(300)
    assert (np.abs(found.mean(axis=0) - np.array([0.5, 0.5]) * 1e-4) < 4 * error).all()


def test_two_sides_with_seeds_of_their_own_are_those_of_welch():
    a, b = DIFFERENCES[:, :2], draw_differences(DRAW, Shares(0.0, 0.7, 0.3), seeds=3, images=80)
    resamples = Resamples(80, 300)
    one, two = resamples.group(a), resamples.group(b)
    got = measure([one, Group(-two.full, -two.resampled)], 80, 80)
    squares = [np.var(side.full, ddof=1) / len(side.full) for side in (one, two)]
    assert got.seeds == pytest.approx(sum(squares))
    assert got.seed_df == pytest.approx(sum(squares) ** 2 / (squares[0] ** 2 / 1 + squares[1] ** 2 / 2))
    joint = np.cov(np.concatenate([one.resampled, two.resampled], axis=1).T) * 80 / 79
    own = [joint[:2, :2][~np.eye(2, dtype=bool)].mean(), joint[2:, 2:][~np.eye(3, dtype=bool)].mean()]
    assert got.images == pytest.approx(max(sum(own) - 2 * joint[:2, 2:].mean(), 0))


def test_one_seed_is_images_alone():
    group = Resamples(80, 300).group(DIFFERENCES[:, :1])
    got = measure([group], 80, 80)
    assert got.images == pytest.approx(group.resampled.var(ddof=1) * 80 / 79)
    assert (got.seeds, got.seed_df) == (0, 0)
    assert math.isnan(got.seed_share)
    assert got.seeds_needed(0.005, 0.95) is None


def test_resamples_that_are_undefined_are_left_out():
    group = Resamples(80, 300).group(DIFFERENCES)
    gaps = Group(group.full, np.concatenate([group.resampled, np.full((50, 3), np.nan)]))
    assert measure([gaps], 80, 80).total == pytest.approx(measure([group], 80, 80).total)


def test_few_resamples_know_no_more_than_so_few_images():
    assert measure([Resamples(80, 20).group(DIFFERENCES)], 80, 80).image_df == 19


def test_the_interval_is_cochran_and_coxs():
    """Variances 1e-4 with 49 and 4e-4 with 2 degrees of freedom: t 2.0096 and 4.3027, weighted 1 to 4."""
    half = math.sqrt(5e-4) * (1 * 2.0096 + 4 * 4.3027) / 5
    assert NOISE.interval(0.1, 0.95) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-5)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_the_p_value_is_1_less_the_level_whose_interval_ends_at_0(level):
    half = NOISE.interval(0.0, level).high
    assert NOISE.p_value(half) == pytest.approx(1 - level, rel=1e-6)
    assert NOISE.p_value(-half) == pytest.approx(1 - level, rel=1e-6)


def test_nothing_that_varies_is_certain_of_no_difference_and_knows_nothing_else():
    still = Noise(images=0.0, image_df=9, seeds=0.0, seed_df=1.0, one_seed=0.0, sides=1.0)
    assert still.p_value(0.0) == 1
    assert still.interval(0.0, 0.95) == (0, 0)
    assert math.isnan(still.p_value(0.01))
    assert all(math.isnan(end) for end in still.interval(0.01, 0.95))
    assert all(
        math.isnan(value)
        for value in (UNKNOWN.p_value(0.1), UNKNOWN.detectable(0.95), UNKNOWN.power(1, 0.95))
    )


def test_power_with_images_alone_is_the_normal_curves():
    """80 % power: 1.96 + 0.84 standard errors."""
    noise = NOISE.on_images_alone()
    z = NormalDist()
    expected = 0.01 * (2.00957 + z.inv_cdf(0.8))
    assert noise.detectable(0.95) == pytest.approx(expected, rel=1e-4)
    assert noise.power(0.02, 0.95) == pytest.approx(z.cdf(2 - 2.00957) + z.cdf(-2 - 2.00957), rel=1e-4)


def test_without_a_difference_the_power_is_the_level_where_seeds_alone_vary():
    seeds_alone = Noise(images=0.0, image_df=49, seeds=4e-4, seed_df=2.0, one_seed=12e-4, sides=1.0)
    assert seeds_alone.power(0.0, 0.95) == pytest.approx(0.05, abs=1e-4)


def test_the_detectable_difference_is_found_with_80_percent_power():
    assert NOISE.power(NOISE.detectable(0.95), 0.95) == pytest.approx(0.8, abs=1e-4)


def test_the_seeds_needed_are_the_fewest_that_are_enough():
    needed = NOISE.seeds_needed(0.035, 0.95)
    powers = [NOISE.with_seeds(seeds).power(0.035, 0.95) for seeds in (needed - 1, needed)]
    assert powers[0] < 0.8 <= powers[1]


def test_no_number_of_seeds_is_enough_where_images_hide_more():
    assert NOISE.seeds_needed(0.02, 0.95) is None
    assert NOISE.on_images_alone().detectable(0.95) > 0.02
