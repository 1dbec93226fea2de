"""Weights against images that are really repeated: the truth is the plain engine on that set."""

import numpy as np
import pytest
from drawn_sets import draw_set, repeat_images, without_ties

from dethead.evaluation import weighted
from dethead.evaluation.arrays import NO_DETECTIONS
from dethead.evaluation.bootstrap import MOST_GROUPS, bootstrap, draw_counts, jackknife, spread
from dethead.evaluation.coco import coco_metrics, hits_needed
from dethead.evaluation.matches import match
from dethead.evaluation.rules import COCO_RULES, CocoRules
from dethead.evaluation.weighted import Weighting

OTHER_RULES = CocoRules(
    iou_thresholds=tuple(np.linspace(0.3, 0.95, 23).tolist()),
    max_detections=(2, 10),
    area_ranges=(("all", 0.0, 1e10), ("small", 0.0, 1024.0), ("tiny", 0.0, 300.0)),
)


def assert_numbers(got, row, given_set, rules=COCO_RULES):
    """Row ``row`` is what the engine says of the set."""
    metrics = coco_metrics(given_set, rules)
    expected = [*metrics.numbers().values()]
    np.testing.assert_allclose(got.numbers[row], expected, rtol=0, atol=1e-12)
    of_classes = [one.AP for one in metrics.per_class]
    np.testing.assert_allclose(got.class_ap[row], of_classes, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_a_resample_is_the_set_with_its_images_repeated(seed):
    given_set = draw_set(seed=seed)
    got = bootstrap(match(given_set), 8, seed)
    for row, counts in enumerate(draw_counts(12, 8, seed)):
        assert_numbers(got, row, repeat_images(given_set, counts))


@pytest.mark.parametrize("seed", range(4))
def test_scores_tied_between_images_follow_the_order_of_the_images(seed):
    tied = draw_set(seed=seed, score_digits=1)
    got = bootstrap(match(tied), 8, seed)
    for row, counts in enumerate(draw_counts(12, 8, seed)):
        assert_numbers(got, row, repeat_images(without_ties(tied), counts))


def test_any_rules_are_followed():
    given_set = draw_set(seed=7)
    got = bootstrap(match(given_set, OTHER_RULES), 6)
    for row, counts in enumerate(draw_counts(12, 6, 0)):
        assert_numbers(got, row, repeat_images(given_set, counts), OTHER_RULES)


def test_all_images_once_are_the_12_numbers_and_the_class_ap():
    for seed in range(10):
        given_set = draw_set(images=40, classes=5, seed=seed, score_digits=2)
        assert_numbers(spread(match(given_set), 1).full, 0, given_set)


def test_large_weights_and_recall_that_is_just_reached_are_exact():
    """So many copies that the number of objects is a multiple of 10, 20, 50, 100: where quotients round."""
    given_set = draw_set(images=5, classes=1, seed=3)
    weights = np.stack([np.full(5, 10), np.full(5, 100), np.array([7, 0, 3, 50, 20])], axis=1)
    got = Weighting(match(given_set)).numbers(weights)
    for row in range(3):
        assert_numbers(got, row, repeat_images(given_set, weights[:, row]))


def test_recall_points_are_counted_as_pycocotools_compares_them():
    """All quotients of up to 400 objects, 1000 and 7200; ``hits_needed`` is held to pycocotools elsewhere."""
    for total in [*range(1, 401), 1000, 7200]:
        right = np.arange(1.0, total + 1)
        needed = hits_needed(np.array([total]))[0]
        expected = np.searchsorted(needed, right, side="right") - 1
        got = weighted._points(right[:, None], np.array([float(total)]))[:, 0]
        np.testing.assert_array_equal(got, expected)


def test_blocks_and_pieces_do_not_show(monkeypatch):
    table = match(draw_set(images=30, seed=1))
    whole = bootstrap(table, 50)
    monkeypatch.setattr(weighted, "_WIDTH", 7)
    monkeypatch.setattr(weighted, "_PIECE", 100)
    in_blocks = bootstrap(table, 50)
    np.testing.assert_allclose(in_blocks.numbers, whole.numbers, rtol=0, atol=1e-15)
    np.testing.assert_allclose(in_blocks.class_ap, whole.class_ap, rtol=0, atol=1e-15)


def test_the_jackknife_leaves_out_each_image_once():
    given_set = draw_set(seed=4)
    got = jackknife(match(given_set)).numbers
    images = len(given_set.image_ids)
    each = [coco_metrics(repeat_images(given_set, np.int64(np.arange(images) != i))) for i in range(images)]
    expected = np.array([[*metrics.numbers().values()] for metrics in each])
    for column in range(12):
        np.testing.assert_allclose(np.sort(got[:, column]), np.sort(expected[:, column]), rtol=0, atol=1e-12)


def test_many_images_are_left_out_in_groups_of_nearly_one_size():
    seen = []

    class Recording(Weighting):
        def numbers(self, weights):
            seen.append(weights)
            return super().numbers(weights)

    jackknife(Recording(match(draw_set(images=950, classes=1), CocoRules(iou_thresholds=(0.5,)))))
    left_out = 1 - np.concatenate(seen, axis=1)
    assert left_out.shape == (950, MOST_GROUPS)
    assert left_out.sum(axis=1).tolist() == [1] * 950
    assert {*left_out.sum(axis=0).tolist()} == {2, 3}


def test_a_class_that_is_not_drawn_has_no_ap_and_the_others_make_the_mean():
    given_set = draw_set(classes=2, seed=2)
    truth = given_set.truth
    one_image = truth.image[np.flatnonzero(truth.label == 1)[0]]
    label = np.where((truth.label == 1) & (truth.image != one_image), 0, truth.label)
    table = match(given_set._replace(truth=truth._replace(label=label, crowd=np.zeros_like(truth.crowd))))
    weights = np.ones((12, 1), np.int64)
    weights[one_image] = 0
    got = Weighting(table).numbers(weights)
    assert np.isnan(got.class_ap[0, 1])
    assert got.numbers[0, 0] == pytest.approx(got.class_ap[0, 0], abs=1e-15)


def test_without_detections_all_is_zero_and_without_objects_undefined():
    given_set = draw_set()
    got = bootstrap(match(given_set._replace(detections=NO_DETECTIONS)), 3)
    assert (got.numbers[:, 0] == 0).all()
    crowds = given_set.truth._replace(crowd=np.ones_like(given_set.truth.crowd))
    got = bootstrap(match(given_set._replace(truth=crowds)), 3)
    assert np.isnan(got.numbers).all()
    assert np.isnan(got.class_ap).all()


def test_the_same_seed_draws_the_same_images_and_another_others():
    table = match(draw_set())
    np.testing.assert_array_equal(bootstrap(table, 5, 1).numbers, bootstrap(table, 9, 1).numbers[:5])
    assert (bootstrap(table, 5, 1).numbers != bootstrap(table, 5, 2).numbers).any()


def test_progress_is_told_of_every_weighting():
    done = []
    spread(match(draw_set()), 300, progress=done.append)
    assert sum(done) == 300 + 12


@pytest.mark.parametrize(
    ("images", "resamples", "message"), [(1, 5, "at least 2 of them, got 1"), (9, 0, "got 0")]
)
def test_what_cannot_be_resampled_is_refused(images, resamples, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(match(draw_set(images=images)), resamples)
