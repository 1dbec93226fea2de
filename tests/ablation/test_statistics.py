"""Comparing the variants of an ablation: what is compared with what, and what is said of it."""

import json
import math

import numpy as np
import pytest
from drawn_sets import draw_set

from dethead.ablation.statistics import compare_variants
from dethead.ablation.variance import Noise
from dethead.ablation.verdicts import Evidence, Rule, Runs, judge
from dethead.evaluation.coco import coco_metrics
from dethead.evaluation.intervals import Interval, holm
from dethead.evaluation.matches import match
from dethead.evaluation.metrics import NUMBER_NAMES

GIVEN = draw_set(images=60, classes=3, seed=5)
SEEDS = (0, 1, 2)


def worsened(seed, by):
    """GIVEN with boxes that are moved at random."""
    found = GIVEN.detections
    shift = np.random.default_rng(seed).normal(0, by, found.boxes.shape) * found.boxes[:, [2, 3, 2, 3]]
    boxes = found.boxes + shift
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
    return GIVEN._replace(detections=found._replace(boxes=boxes))


SETS = {
    name: {seed: worsened(100 * place + seed, by) for seed in SEEDS}
    for place, (name, by) in enumerate((("good", 0.02), ("bad", 0.3), ("same", 0.02)))
}
TABLES = {name: {seed: match(one) for seed, one in of_seed.items()} for name, of_seed in SETS.items()}


@pytest.fixture(scope="module")
def found():
    return compare_variants(TABLES, "good", resamples=100)


def test_the_numbers_are_means_over_seeds_of_those_of_the_engine(found):
    bad = found.comparisons[0]
    assert [one.name for one in bad.numbers] == [*NUMBER_NAMES]
    for one in bad.numbers:
        of = {n: [coco_metrics(s).numbers()[one.name] for s in SETS[n].values()] for n in ("good", "bad")}
        assert (one.baseline, one.variant) == pytest.approx(
            (np.mean(of["good"]), np.mean(of["bad"])), abs=1e-12
        )
        assert one.by_seed == pytest.approx(np.subtract(of["bad"], of["good"]), abs=1e-12)
        assert one.difference == pytest.approx(np.mean(one.by_seed), abs=1e-12)
    assert [one.name for one in bad.classes] == ["class 0", "class 1", "class 2"]


def test_the_baseline_is_compared_with_every_other_variant(found):
    assert [(one.variant, one.baseline) for one in found.comparisons] == [("bad", "good"), ("same", "good")]
    assert all(one.seeds == SEEDS and one.images == 60 and one.paired for one in found.comparisons)


def test_worse_boxes_are_called_worse_and_the_other_way_round_better(found):
    bad = found.comparisons[0]
    assert bad.verdict == "worse"
    assert bad.words.startswith("bad is worse than good: AP -")
    turned = compare_variants({n: TABLES[n] for n in ("good", "bad")}, "bad", resamples=50).comparisons[0]
    assert turned.verdict == "better"


def test_equal_runs_are_identical_with_p_1():
    got = compare_variants({"a": TABLES["good"], "b": TABLES["good"]}, "a", resamples=20).comparisons[0]
    assert (got.identical, got.verdict) == (True, "identical")
    for one in (*got.numbers, *got.classes):
        assert (one.difference, one.p_value, tuple(one.interval), one.by_seed) == (0, 1, (0, 0), (0, 0, 0))
    assert got.numbers[0].p_holm == 1
    assert "identical: no number differs at any seed" in got.words


def test_families_are_ap_over_comparisons_sizes_and_classes_within(found):
    of_ap = holm(np.array([one.numbers[0].p_value for one in found.comparisons]))
    assert [one.numbers[0].p_holm for one in found.comparisons] == pytest.approx(of_ap.tolist())
    bad = found.comparisons[0]
    for family in (bad.numbers[3:6], bad.classes):
        expected = holm(np.array([one.p_value for one in family]))
        assert [one.p_holm for one in family] == pytest.approx(expected.tolist(), nan_ok=True)
    assert all(math.isnan(bad.numbers[place].p_holm) for place in (1, 2, *range(6, 12)))


def test_identical_variants_do_not_weaken_the_others():
    tables = {n: TABLES[n] for n in ("good", "same")}
    alone, beside = (
        compare_variants(given, "good", resamples=20).comparisons[0].numbers[0].p_holm
        for given in (tables, tables | {"twin": TABLES["good"]})
    )
    assert alone == beside


def test_only_the_seeds_that_both_have_are_compared():
    partly = TABLES | {"bad": {seed: TABLES["bad"][seed] for seed in (2, 1)}}
    bad = compare_variants(partly, "good", resamples=20).comparisons[0]
    assert bad.seeds == (1, 2)
    expected = np.mean([coco_metrics(SETS["good"][seed]).AP for seed in (1, 2)])
    assert bad.numbers[0].baseline == pytest.approx(expected, abs=1e-12)


def test_unpaired_runs_are_compared_whatever_their_seeds():
    tables = {"a": TABLES["good"], "b": {7: TABLES["same"][0], 9: TABLES["same"][1]}}
    got = compare_variants(tables, "a", unpaired={"b"}, resamples=50).comparisons[0]
    assert (got.paired, got.seeds) == (False, (7, 9))
    means = [
        np.mean([coco_metrics(SETS[n][s]).AP for s in seeds])
        for n, seeds in (("good", SEEDS), ("same", (0, 1)))
    ]
    assert got.numbers[0].difference == pytest.approx(means[1] - means[0], abs=1e-12)
    assert np.mean(got.numbers[0].by_seed) == pytest.approx(got.numbers[0].difference, abs=1e-12)
    assert "2 and 3 other seeds" in got.words


def test_pairing_takes_out_what_seeds_have_in_common():
    """The same seed moves the boxes of both: pairs do not feel it, sides of their own do."""
    shared = {"a": {s: TABLES["good"][s] for s in SEEDS}, "b": {s: TABLES["good"][s] for s in (1, 2, 0)}}
    paired = compare_variants(shared, "a", resamples=50).comparisons[0]
    unpaired = compare_variants(shared, "a", unpaired=["b"], resamples=50).comparisons[0]
    assert paired.identical
    assert not unpaired.identical
    assert unpaired.numbers[0].interval.high > 0


@pytest.mark.parametrize("of", [("good", "bad"), ("bad", "good")])
def test_one_seed_is_never_better_or_worse_without_saying_so(of):
    one_seed = {name: {0: TABLES[name][0]} for name in of}
    got = compare_variants(one_seed, of[0], resamples=50).comparisons[0]
    assert got.verdict in ("better", "worse")
    assert "One seed: this says nothing about other seeds" in got.words
    assert math.isnan(got.seed_share)
    assert got.seeds_needed is None


def test_a_class_in_fewer_than_10_images_has_neither_interval_nor_p_value():
    def rare(given):
        truth = given.truth
        label = np.where((truth.label == 2) & (truth.image > 12), 0, truth.label)
        return match(given._replace(truth=truth._replace(label=label)))

    tables = {name: {seed: rare(SETS[name][seed]) for seed in (0, 1)} for name in ("good", "bad")}
    of_class = compare_variants(tables, "good", resamples=20).comparisons[0].classes[2]
    assert 0 < of_class.images < 10
    assert of_class.difference != 0
    assert all(math.isnan(value) for value in (*of_class.interval, of_class.p_value, of_class.p_holm))


def test_without_objects_nothing_can_be_said():
    def empty(given):
        return match(given._replace(truth=given.truth._replace(crowd=np.ones_like(given.truth.crowd))))

    tables = {name: {seed: empty(SETS[name][seed]) for seed in (0, 1)} for name in ("good", "bad")}
    got = compare_variants(tables, "good", resamples=20).comparisons[0]
    assert (got.verdict, got.identical) == ("cannot tell", False)
    assert got.words.startswith("Nothing can be said about AP of bad and good")
    assert json.dumps(got.as_dict(), allow_nan=False)


def test_json_is_complete_and_has_null_where_undefined(found):
    read = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (read["level"], read["margin"], read["resamples"], read["seed"]) == (0.95, 0.005, 100, 0)
    bad = read["comparisons"][0]
    assert bad["numbers"][0]["by_seed"] == [*found.comparisons[0].numbers[0].by_seed]
    assert bad["numbers"][1]["p_holm"] is None
    assert (bad["seeds"], bad["verdict"], bad["words"]) == ([0, 1, 2], "worse", found.comparisons[0].words)


def test_progress_is_told_of_every_weighting():
    done = []
    compare_variants(TABLES, "good", resamples=20, progress=done.append)
    assert sum(done) == 9 * 20


def changed(name, tables):
    return TABLES | {name: tables}


OTHER = match(GIVEN._replace(image_ids=GIVEN.image_ids + 1))


@pytest.mark.parametrize(
    ("tables", "options", "message"),
    [
        (TABLES, {"baseline": "best"}, "no variant 'best'; there are 'good', 'bad', 'same'"),
        (TABLES, {"unpaired": ["twin"]}, "no variant 'twin'"),
        (changed("bad", {5: TABLES["bad"][0]}), {}, r"'bad' has no seed in common .* \[5\] and \[0, 1, 2\]"),
        (changed("bad", {}), {}, r"'bad' has no seed in common with the baseline 'good'"),
        (changed("good", {}), {}, "the baseline 'good' has no run"),
        (changed("bad", {1: OTHER}), {}, "variant 'bad', seed 1, and the baseline: the images differ"),
        (TABLES, {"level": 95}, r"level must be in \(0, 1\), got 95"),
        (TABLES, {"resamples": 1}, "got 1 and 0.005"),
        (TABLES, {"margin": 0.0}, "got 20 and 0.0"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(tables, options, message):
    with pytest.raises(ValueError, match=message):
        compare_variants(tables, **({"baseline": "good", "resamples": 20} | options))


def evidence(difference, half, p, p_holm=None, noise=None):
    noise = noise or Noise(images=1e-6, image_df=299, seeds=1e-6, seed_df=4.0, one_seed=5e-6, sides=1.0)
    interval = Interval(difference - half, difference + half)
    return Evidence(difference, interval, p, p if p_holm is None else p_holm, noise, identical=False)


RUNS = Runs("b", "a", True, (0, 1, 2, 3, 4), (0, 1, 2, 3, 4), 300)
RULE = Rule(level=0.95, margin=0.005, family=1)


def test_no_difference_is_claimed_by_the_interval_alone():
    verdict, words = judge(RUNS, evidence(0.001, 0.0071, 0.7), RULE)
    assert verdict == "no difference"
    assert words.startswith("No difference larger than 0.9 points between b and a: AP +0.1 points")
    assert judge(RUNS, evidence(0.001, 0.0095, 0.9), RULE)[0] == "cannot tell"


def test_a_difference_counts_after_holm_and_the_words_say_why_not():
    many = Rule(level=0.95, margin=0.005, family=20)
    verdict, words = judge(RUNS, evidence(0.02, 0.019, 0.03, 0.6), many)
    assert verdict == "cannot tell"
    assert "p = 0.0300, 0.6000 among 20 comparisons" in words
    assert "Alone it would count, but of 20 comparisons" in words


def test_more_seeds_are_advised_where_they_help():
    noise = Noise(images=1e-6, image_df=299, seeds=1e-5, seed_df=4.0, one_seed=5e-5, sides=1.0)
    more = noise.seeds_needed(0.005, 0.95) - 5
    assert more > 1
    assert (
        f"Run {more} more seeds to find 0.5 points as surely."
        in judge(RUNS, evidence(0.01, 0.02, 0.3, noise=noise), RULE)[1]
    )


def test_more_seeds_are_not_advised_where_images_are_too_few():
    noise = Noise(images=1e-4, image_df=299, seeds=1e-5, seed_df=4.0, one_seed=5e-5, sides=1.0)
    words = judge(RUNS, evidence(0.01, 0.02, 0.3, noise=noise), RULE)[1]
    assert "More seeds will not bring that down to 0.5 points: the 300 images are too few" in words
    assert "smaller than 2.8 points" in words


def test_seeds_that_differ_too_much_are_said_to():
    noise = Noise(images=1e-8, image_df=299, seeds=0.04, seed_df=4.0, one_seed=0.2, sides=1.0)
    assert (
        "not even 1000 would find 0.5 points" in judge(RUNS, evidence(0.01, 0.5, 0.9, noise=noise), RULE)[1]
    )
