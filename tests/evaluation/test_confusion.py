"""The confusion matrix, by hand and against what the match table says."""

import numpy as np
import pytest
from evaluation_cases import found, objects
from noisy_sets import noisy_set

from dethead.evaluation.confusion import Confusion, Mistake, confusion_matrix
from dethead.evaluation.evaluator import CocoEvaluator
from dethead.evaluation.matches import match


def of(truth, detections, score=0.0, names=("car", "truck")) -> Confusion:
    evaluator = CocoEvaluator(names)
    evaluator.update([detections], [truth])
    given = evaluator.arrays()
    return confusion_matrix(given, match(given), score)


CAR, TRUCK = [0, 0, 40, 40], [100, 0, 40, 40]  # xywh; as detections xyxy:
ON_CAR, ON_TRUCK, NOWHERE = [0, 0, 40, 40], [100, 0, 140, 40], [300, 0, 340, 40]


def test_rows_are_the_truth_and_columns_the_detections_with_background_last():
    detections = found([ON_CAR, ON_TRUCK, NOWHERE], [0.9, 0.8, 0.7], [1, 1, 0])
    matrix = of(objects(1, [CAR, TRUCK, [200, 0, 40, 40]], [0, 1, 1]), detections)
    assert matrix.counts.tolist() == [[0, 1, 0], [0, 1, 1], [1, 0, 0]]


def test_detections_below_the_score_are_left_out():
    matrix = of(objects(1, [CAR]), found([ON_CAR, NOWHERE], [0.5, 0.4], [0, 0]), score=0.45)
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_the_own_class_comes_first_even_with_a_lower_score():
    matrix = of(objects(1, [CAR]), found([ON_CAR, ON_CAR], [0.9, 0.2], [1, 0]))
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_of_two_wrong_classes_the_better_score_takes_the_object():
    matrix = of(objects(1, [CAR]), found([ON_CAR, ON_CAR], [0.2, 0.9], [1, 2]), names=("car", "truck", "bus"))
    assert matrix.counts[0].tolist() == [0, 0, 1, 0]
    assert matrix.counts[3].tolist() == [0, 1, 0, 0]


def test_a_car_that_is_a_vehicle_too_is_not_taken_for_one():
    """Found as a car twice, and as a vehicle not at all."""
    names = ("car", "truck", "vehicle")
    matrix = of(objects(1, [CAR, CAR], [0, 2]), found([ON_CAR, ON_CAR], [0.9, 0.8], [0, 0]), names=names)
    assert matrix.counts.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]


def test_a_truck_that_is_a_vehicle_too_is_taken_for_a_car_as_a_truck():
    names = ("car", "truck", "vehicle")
    matrix = of(objects(1, [CAR, CAR], [1, 2]), found([ON_CAR], [0.9], [0]), names=names)
    assert matrix.counts.tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_without_an_object_every_detection_lies_on_background():
    matrix = of(objects(1, np.zeros((0, 4)), []), found([ON_CAR], [0.9]))
    assert matrix.counts.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_crowds_and_what_they_absorb_are_left_out():
    matrix = of(objects(1, [[0, 0, 100, 100]], crowd=[True]), found([ON_CAR], [0.9]))
    assert not matrix.counts.any()


def test_neither_images_nor_empty_sets_mix():
    evaluator = CocoEvaluator(["car", "truck"])
    evaluator.update([found([ON_CAR], [0.9], [1]), found()], [objects(1), objects(2, [CAR])])
    given = evaluator.arrays()
    assert confusion_matrix(given, match(given), 0.0).counts.tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_the_diagonal_is_the_right_detections_and_no_object_or_detection_is_lost(seed):
    given = noisy_set(seed, classes=3, crowds=0.2)
    table = match(given)
    kept = (table.score >= 0.3) & ~table.ignored(0, 0)
    matrix = confusion_matrix(given, table, 0.3)
    right = kept & (table.matched(0, 0) >= 0)
    assert np.diag(matrix.counts).tolist() == [*np.bincount(table.label[right], minlength=3), 0]
    assert (
        matrix.counts[:3].sum(axis=1).tolist() == np.bincount(table.object_label[table.counted[0]]).tolist()
    )
    assert matrix.counts[:, :3].sum(axis=0).tolist() == np.bincount(table.label[kept], minlength=3).tolist()


def test_mistakes_are_listed_by_count_with_their_share_of_the_row():
    counts = np.array([[6, 1, 3], [0, 2, 0], [4, 0, 0]])
    listed = Confusion(("car", "truck"), 0.5, 0.5, counts).mistakes()
    assert listed == [
        Mistake("background", "car", 4, 1.0),
        Mistake("car", "background", 3, 0.3),
        Mistake("car", "truck", 1, 0.1),
    ]


def test_the_share_of_an_empty_row_is_undefined():
    counts = np.array([[1, 1], [0, 0]])
    np.testing.assert_array_equal(
        Confusion(("car",), 0.5, 0.5, counts).shares(), [[0.5, 0.5], [np.nan, np.nan]]
    )
