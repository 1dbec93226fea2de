"""Do intervals and p-values keep what they promise, with few seeds and few images?"""

from typing import NamedTuple

import numpy as np
import pytest
from simulated_runs import SIDE, Detector, Resamples, Shares, draw_differences, draw_tables

from dethead.ablation.quantiles import TAILS, t_quantiles
from dethead.ablation.statistics import compare_variants
from dethead.ablation.variance import Noise
from dethead.evaluation.intervals import holm
from dethead.evaluation.weighted import Weighting

SHARES = (
    Shares(images=1.0, seeds=0.0, both=0.0),
    Shares(images=0.7, seeds=0.0, both=0.3),
    Shares(images=0.7, seeds=0.3, both=0.0),
    Shares(images=0.4, seeds=0.3, both=0.3),
    Shares(images=0.3, seeds=0.7, both=0.0),
    Shares(images=0.1, seeds=0.9, both=0.0),
    Shares(images=0.0, seeds=0.0, both=1.0),
)


class Rejections(NamedTuple):
    """Shares of simulated ablations in which a difference was found at 5 %; without one, 1 - coverage."""

    ours: float
    crossed: float
    satterthwaite: float


def simulate(shares, seeds, images, repetitions, *, difference=0.0):
    draw, resamples = np.random.default_rng(1), Resamples(images, 500)
    found = []
    for _ in range(repetitions):
        differences = draw_differences(draw, shares, seeds, images) + difference
        noise, mean = resamples.noise(differences), differences.mean()
        low, high = resamples.crossed_interval(draw, differences)
        far = abs(mean) >= satterthwaite_t(noise) * np.sqrt(noise.total)
        found.append((noise.p_value(mean) <= 0.05, not low <= 0 <= high, far))
    return Rejections(*np.mean(found, axis=0))


def satterthwaite_t(noise):
    """The usual t quantile for a sum of variances, its degrees of freedom to two digits."""
    df = noise.total**2 / (noise.images**2 / noise.image_df + noise.seeds**2 / noise.seed_df)
    return np.interp(-np.log(0.05), -np.log(TAILS), t_quantiles(float(f"{df:.2g}")))


def true_noise(shares, seeds, images):
    of_seeds = SIDE**2 * (shares.seeds + shares.both)
    return Noise(
        images=SIDE**2 * shares.images,
        image_df=images - 1,
        seeds=of_seeds,
        seed_df=seeds - 1,
        one_seed=of_seeds * seeds,
        sides=1.0,
    )


@pytest.mark.parametrize("seeds", [2, 5])
def test_equal_variants_are_seldom_told_apart(seeds):
    assert simulate(Shares(0.3, 0.4, 0.3), seeds, 50, 400).ours <= 0.09


def test_the_plain_crossed_bootstrap_does_not_hold_its_level():
    """Why it is not used; ours rejects about 5 % here."""
    assert simulate(Shares(0.1, 0.9, 0.0), 2, 50, 200).crossed >= 0.2


def test_the_stated_power_is_kept():
    difference = true_noise(SHARES[3], 3, 50).detectable(0.95)
    assert 0.7 <= simulate(SHARES[3], 3, 50, 300, difference=difference).ours <= 0.9


def test_equal_detectors_are_seldom_told_apart():
    """From boxes to verdict, 2 seeds: at most 4 of 15 (the chance of more is 0.001)."""
    draw, equal = np.random.default_rng(0), Detector(skill=0.0, seed_spread=0.15)
    found = [
        compare_variants(draw_tables(draw, 60, 2, {"a": equal, "b": equal}), "a", resamples=100)
        for _ in range(15)
    ]
    assert sum(one.comparisons[0].verdict in ("better", "worse") for one in found) <= 4


# Measured with 2000 repetitions: docs/ablations.md.
@pytest.mark.slow
@pytest.mark.parametrize("images", [50, 300])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("shares", SHARES, ids=str)
def test_the_level_holds(shares, seeds, images):
    """At most 7 %; not below 3 % but where images dominate few seeds: there Cochran and Cox are cautious."""
    found = simulate(shares, seeds, images, 2000)
    print(f"\n{shares}, {seeds} seeds, {images} images: {found}")
    assert (0.018 if seeds < 5 else 0.028) <= found.ours <= 0.072


@pytest.mark.slow
@pytest.mark.parametrize("images", [50, 300])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("shares", SHARES, ids=str)
def test_the_power_is_as_stated(shares, seeds, images):
    """Mean of both directions: skewed image effects make one easier to see, the other harder."""
    difference = true_noise(shares, seeds, images).detectable(0.95)
    found = [simulate(shares, seeds, images, 1000, difference=d).ours for d in (difference, -difference)]
    print(f"\n{shares}, {seeds} seeds, {images} images: better {found[0]:.1%}, worse {found[1]:.1%}")
    assert 0.75 <= np.mean(found) <= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("shares", [SHARES[0], SHARES[4], SHARES[5]], ids=str)
def test_holm_over_20_equal_variants(shares, seeds):
    """Any false alarm, 400 ablations of 300 images. 2 seeds do not hold it: docs/ablations.md."""
    draw, resamples = np.random.default_rng(2), Resamples(300, 500)
    alarms = []
    for _ in range(400):
        drawn = [draw_differences(draw, shares, seeds, 300) for _ in range(20)]
        p_values = np.array([resamples.noise(one).p_value(one.mean()) for one in drawn])
        alarms.append(holm(p_values).min() <= 0.05)
    print(f"\n{shares}, {seeds} seeds: any false alarm in {np.mean(alarms):.1%}")
    assert np.mean(alarms) <= (0.2 if seeds == 2 else 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("images", "seeds"), [(60, 2), (60, 3), (60, 5), (300, 3)])
@pytest.mark.parametrize("gain", [0.0, 0.3])
def test_detectors_from_boxes_to_interval(images, seeds, gain):
    """The true difference is that of 300 pairs of trainings, each on 2000 images of its own."""
    detectors = {"a": Detector(0.0, 0.15), "b": Detector(gain, 0.15)}
    truth = true_difference(detectors) if gain else 0.0
    draw, covered = np.random.default_rng(5), []
    for repetition in range(400):
        tables = draw_tables(draw, images, seeds, detectors)
        low, high = (
            compare_variants(tables, "a", resamples=200, seed=repetition).comparisons[0].numbers[0].interval
        )
        covered.append(low <= truth <= high)
    print(f"\ngain {gain}, {images} images, {seeds} seeds: covered {np.mean(covered):.1%}")
    assert 0.92 <= np.mean(covered) <= 0.99


def true_difference(detectors):
    draw, found = np.random.default_rng(99), []
    once = np.ones((2000, 1), np.int64)
    for _ in range(300):
        tables = draw_tables(draw, 2000, 1, detectors)
        a, b = (Weighting(tables[name][0]).numbers(once).numbers[0, 0] for name in ("a", "b"))
        found.append(b - a)
    return np.mean(found)
