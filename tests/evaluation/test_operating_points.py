"""The score thresholds of best F1."""

import math

import numpy as np
import pytest
from evaluation_cases import found, objects
from noisy_sets import noisy_set

from dethead.evaluation.evaluator import CocoEvaluator
from dethead.evaluation.matches import match
from dethead.evaluation.operating_points import OperatingPoints, find_operating_points

CAR, HIT, MISS = [0, 0, 40, 40], [0, 0, 40, 40], [300, 0, 340, 40]


def of(truth, detections, names=("car",)) -> OperatingPoints:
    evaluator = CocoEvaluator(names)
    evaluator.update([detections], [truth])
    return find_operating_points(match(evaluator.arrays()))


def test_the_best_threshold_by_hand():
    # Right, wrong, right of two: F1 is 2/3, 2/4, 4/5 from score 0.9, 0.8, 0.7 on.
    truth = objects(1, [CAR, [100, 0, 40, 40]])
    point = of(truth, found([HIT, MISS, [100, 0, 140, 40]], [0.75, 0.5, 0.25])).per_class[0]
    assert point == ("car", 2, 0.25, 2 / 3, 1.0, 0.8)


def test_a_threshold_keeps_all_detections_of_its_score():
    point = of(objects(1, [CAR]), found([HIT, MISS], [0.5, 0.5])).per_class[0]
    assert (point.score, point.precision, point.recall) == (0.5, 0.5, 1.0)


def test_of_equally_good_thresholds_the_highest_is_given():
    # 1 of 1 and 2 of 4 right, of two objects: F1 2/3 both times.
    truth = objects(1, [CAR, [100, 0, 40, 40]])
    boxes = [HIT, MISS, MISS, [100, 0, 140, 40]]
    assert of(truth, found(boxes, [0.875, 0.75, 0.5, 0.25])).per_class[0].score == 0.875


@pytest.mark.parametrize("detections", [found(), found([MISS], [0.9])])
def test_without_a_right_detection_there_is_no_threshold(detections):
    point = of(objects(1, [CAR]), detections).per_class[0]
    assert math.isnan(point.score)
    assert math.isnan(point.precision)
    assert (point.recall, point.f1) == (0.0, 0.0)


def test_a_class_without_objects_is_undefined():
    point = of(objects(1, [CAR]), found([HIT], [0.9]), ("car", "truck")).per_class[1]
    assert point.objects == 0
    assert point.as_dict() == {
        "name": "truck", "objects": 0, "score": None, "precision": None, "recall": None, "f1": None
    }  # fmt: skip


def test_what_a_crowd_absorbs_is_neither_right_nor_wrong():
    truth = objects(1, [[100, 0, 100, 100], CAR], crowd=[True, False])
    point = of(truth, found([[100, 0, 140, 40], HIT], [0.9, 0.5])).per_class[0]
    assert (point.precision, point.recall) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better(seed):
    given = noisy_set(seed, crowds=0.2)
    table = match(given)
    points = find_operating_points(table)
    kept, right = ~table.ignored(0, 0), table.matched(0, 0) >= 0
    for label, point in [(None, points.together), *enumerate(points.per_class)]:
        chosen = kept if label is None else kept & (table.label == label)
        cuts = [chosen & (table.score >= score) for score in np.unique(table.score)]
        f1 = [2 * (cut & right).sum() / (cut.sum() + point.objects) for cut in cuts]
        assert point.f1 == max(f1)
        if point.f1 == 0:
            continue
        cut = chosen & (table.score >= point.score)
        assert point.precision == (cut & right).sum() / cut.sum()
        assert point.recall == (cut & right).sum() / point.objects
