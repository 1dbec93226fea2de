"""CocoEvaluator: cases by hand, state, and what it refuses."""

import math
import pickle

import numpy as np
import pytest
import torch
from evaluation_cases import found, objects

from dethead.evaluation import CocoEvaluator

BOX = [10.0, 10.0, 40.0, 40.0]  # xywh
HIT = [10.0, 10.0, 50.0, 50.0]  # the same, xyxy
SHIFTED = [19.0, 10.0, 59.0, 50.0]  # 9 px to the right: IoU 31 * 40 / (49 * 40) = 0.633


ONE = pytest.approx(1.0, abs=1e-12)  # the protocol adds an ulp of 1 to every divisor


def score(*images, classes=("car",)):
    evaluator = CocoEvaluator(classes)
    for detections, truth in images:
        evaluator.update([detections], [truth])
    return evaluator.compute()


def test_a_box_shifted_by_9_of_40_pixels_is_a_hit_at_3_of_10_thresholds():
    metrics = score((found([SHIFTED]), objects(1, [BOX])))
    assert pytest.approx(0.3, abs=1e-12) == metrics.AP
    assert (metrics.AP50, metrics.AP75) == (ONE, 0.0)
    assert pytest.approx(0.3, abs=1e-12) == metrics.AR100


def test_numbers_without_an_object_to_measure_are_nan():
    metrics = score((found([HIT]), objects(1, [BOX]))).as_dict()
    assert [name for name, value in metrics.items() if value is None] == ["APs", "APl", "ARs", "ARl"]


def test_an_image_without_detections_counts_as_missed():
    metrics = score((found([HIT]), objects(1, [BOX])), (found(), objects(2, [BOX])))
    assert pytest.approx(0.5) == metrics.AR100
    # precision 1 up to recall 0.5: 51 of 101 recall points
    assert pytest.approx(51 / 101, abs=1e-12) == metrics.AP


def test_no_detections_at_all_is_zero_not_an_error():
    metrics = score((found(), objects(1, [BOX])))
    assert (metrics.AP, metrics.AR1, metrics.APm) == (0.0, 0.0, 0.0)


def test_nothing_at_all_is_nan():
    assert all(math.isnan(value) for value in score().numbers().values())


def test_the_limit_on_detections_is_per_image_and_class():
    # 100 better-scored detections of class 1 do not push out the one of class 0
    others = [[200.0, 200.0, 210.0, 210.0]] * 100
    detections = found([*others, HIT], [0.9] * 100 + [0.1], [1] * 100 + [0])
    metrics = score((detections, objects(1, [BOX])), classes=("car", "truck"))
    assert (metrics.AP, metrics.AR1) == (ONE, 1.0)


def test_the_101st_detection_of_an_image_and_class_is_not_looked_at():
    others = [[200.0, 200.0, 210.0, 210.0]] * 100
    metrics = score((found([*others, HIT], [0.9] * 100 + [0.1]), objects(1, [BOX])))
    assert metrics.AR100 == 0.0


def test_the_size_of_an_object_is_the_annotated_area():
    metrics = score((found([HIT]), objects(1, [BOX], areas=[500.0])))
    assert metrics.APs == ONE
    assert metrics.as_dict()["APm"] is None


def test_an_area_of_1024_is_small_and_medium():
    metrics = score((found([[0.0, 0.0, 32.0, 32.0]]), objects(1, [[0.0, 0.0, 32.0, 32.0]])))
    assert (metrics.APs, metrics.APm) == (ONE, ONE)


def test_a_crowd_absorbs_any_number_of_detections():
    crowd = objects(1, [BOX, [100.0, 100.0, 200.0, 200.0]], crowd=[False, True])
    inside = [[110.0, 110.0, 150.0, 150.0], [120.0, 120.0, 160.0, 160.0]]
    assert score((found([HIT, *inside], [0.5, 0.9, 0.8]), crowd)).AP == ONE


def test_without_the_crowd_the_same_detections_are_wrong():
    inside = [[110.0, 110.0, 150.0, 150.0], [120.0, 120.0, 160.0, 160.0]]
    metrics = score((found([HIT, *inside], [0.5, 0.9, 0.8]), objects(1, [BOX])))
    assert pytest.approx(1 / 3, abs=1e-12) == metrics.AP


def test_a_second_detection_of_an_object_is_wrong():
    metrics = score(
        (found([HIT, HIT], [0.9, 0.8]), objects(1, [BOX])), (found([HIT], [0.7]), objects(2, [BOX]))
    )
    # ranks: right, wrong, right; precision 1 for 51 recall points, 2/3 for 50
    assert pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12) == metrics.AP50


def test_the_mean_over_classes_leaves_out_a_class_without_objects():
    metrics = score((found([HIT]), objects(1, [BOX])), classes=("car", "truck"))
    assert metrics.AP == ONE
    assert [(c.name, c.objects) for c in metrics.per_class] == [("car", 1), ("truck", 0)]
    assert metrics.as_dict()["per_class"][1]["AP"] is None


def test_update_order_of_the_images_does_not_matter():
    # one hit and one miss with equal scores: the tie is broken by image id, not by arrival
    right, wrong = (found([HIT]), objects(1, [BOX])), (found([[80.0, 80.0, 90.0, 90.0]]), objects(2, [BOX]))
    assert score(right, wrong).as_dict() == score(wrong, right).as_dict()


def test_float32_boxes_get_their_size_in_float64():
    evaluator = CocoEvaluator(["car"])
    box = torch.tensor([0.1, 0.1, 1000.3, 1000.3])
    evaluator.update([found([box.tolist()])], [objects(1)])
    width = evaluator.arrays().detections.boxes[0, 2]
    assert width == float(box[2]) - float(box[0])


def test_merged_states_of_two_processes_give_the_numbers_of_one():
    images = [
        (found([HIT]), objects(1, [BOX])),
        (found([SHIFTED]), objects(2, [BOX])),
        (found(), objects(3, [BOX])),
    ]
    parts = [CocoEvaluator(["car"]), CocoEvaluator(["car"])]
    for place, (detections, truth) in enumerate(images):
        parts[place % 2].update([detections], [truth])
    states = pickle.loads(pickle.dumps([part.state() for part in parts]))
    parts[0].merge(states)
    assert parts[0].compute().as_dict() == score(*images).as_dict()


def test_reset_forgets_all_images():
    evaluator = CocoEvaluator(["car"])
    evaluator.update([found()], [objects(1, [BOX])])
    evaluator.reset()
    evaluator.update([found([HIT])], [objects(1, [BOX])])
    assert evaluator.compute().AP == ONE


def test_an_image_given_twice_is_refused_and_changes_nothing():
    evaluator = CocoEvaluator(["car"])
    evaluator.update([found([HIT])], [objects(7, [BOX])])
    with pytest.raises(ValueError, match="image 7 was given twice"):
        evaluator.update([found(), found()], [objects(8, [BOX]), objects(7, [BOX])])
    assert evaluator.compute().AP == ONE


def test_images_repeated_by_a_padding_sampler_are_dropped_on_request():
    evaluator = CocoEvaluator(["car"], repeats="drop")
    evaluator.update([found([HIT])], [objects(7, [BOX])])
    evaluator.merge([evaluator.state(), evaluator.state()])
    assert len(evaluator.arrays().image_ids) == 1


@pytest.mark.parametrize(
    ("detections", "truth", "message"),
    [
        (found([HIT], labels=[1]), objects(3, [BOX]), r"image 3, detection 0: label 1 is not in \[0, 1\)"),
        (found([HIT], [float("nan")]), objects(3, [BOX]), "image 3, detection 0: .*nan must be finite"),
        (
            found([[5.0, 5.0, 4.0, 9.0]]),
            objects(3),
            "image 3, detection 0: .* must not be negative, got .-1.0, 4.0",
        ),
        (found(), objects(3, [BOX], [2]), "image 3, object 0: label 2"),
        (found([HIT], [0.5, 0.5]), objects(3), "image 3, detections: 1 boxes, 1 labels, 2 scores"),
    ],
)
def test_impossible_values_are_refused_with_their_place(detections, truth, message):
    with pytest.raises(ValueError, match=message):
        CocoEvaluator(["car"]).update([detections], [truth])


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="1 detections for 0 images"):
        CocoEvaluator(["car"]).update([found()], [])


@pytest.mark.parametrize("kind", [torch.tensor, np.int64, np.uint8])
def test_ids_of_any_integer_type_name_the_same_image(kind):
    def evaluator(repeats):
        made = CocoEvaluator(["car"], repeats=repeats)
        made.update([found([HIT])], [objects(kind(7), [BOX])])
        return made

    dropped = evaluator("drop")
    dropped.update([found()], [objects(kind(7), [BOX])])
    assert dropped.arrays().image_ids.tolist() == [7]
    with pytest.raises(ValueError, match="image 7 was given twice"):
        evaluator("refuse").update([found()], [objects(7, [BOX])])


@pytest.mark.parametrize("image_id", ["7", 1.5, None, torch.tensor(1.5)])
def test_an_id_that_is_no_integer_is_refused_at_once(image_id):
    with pytest.raises(ValueError, match="image_id must be an integer, got "):
        CocoEvaluator(["car"]).update([found()], [objects(image_id, [BOX])])


@pytest.mark.parametrize("crowd", [[], [False, True], [[False]]])
def test_crowd_flags_of_another_shape_are_refused(crowd):
    truth = objects(7, [BOX])._replace(crowd=torch.tensor(crowd, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"image 7, objects: 1 labels, but crowd is \("):
        CocoEvaluator(["car"]).update([found()], [truth])


@pytest.mark.parametrize("label", [0.75, math.nan])
def test_a_label_between_two_classes_is_refused(label):
    wrong = found([HIT, HIT])._replace(labels=torch.tensor([0.0, label]))
    with pytest.raises(ValueError, match=f"image 7, detection 1: label {label} is not an integer"):
        CocoEvaluator(["car"]).update([wrong], [objects(7, [BOX])])
    whole = found([HIT])._replace(labels=torch.tensor([0.0]))
    assert score((whole, objects(7, [BOX]))).AP == ONE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": "car"}, "class_names must be a list of one name or more, got 'car'"),
        ({"class_names": []}, r"class_names must be a list of one name or more, got \[\]"),
        ({"class_names": ["a", "a"]}, "class_names has a name twice"),
        ({"class_names": ["a"], "repeats": "error"}, "repeats must be 'refuse' or 'drop', got 'error'"),
    ],
)
def test_an_evaluator_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CocoEvaluator(**arguments)
