"""COCO results files: the known answer, the way there and back, and what is refused."""

import json

import pytest
import torch
from evaluation_cases import found, objects

from dethead.data.coco import CocoSet
from dethead.evaluation import (
    CocoEvaluator,
    ResultsError,
    coco_metrics,
    official_metrics,
    read_evaluation,
    read_results,
    write_results,
)
from dethead.evaluation.results import set_truth
from dethead.structures import Detections

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 8, "name": "truck"}]
ROW = {"image_id": 42, "category_id": 8, "bbox": [10.1, 20.2, 30.3, 40.4], "score": 0.75}


@pytest.fixture
def coco_set(tmp_path):
    """Images 42 and 7, both 100 x 100 pixels; sparse category ids."""
    annotations = tmp_path / "instances.json"
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 100, "width": 100} for i in (42, 7)]
    box = {
        "id": 1,
        "image_id": 42,
        "category_id": 8,
        "bbox": [10.1, 20.2, 30.3, 40.4],
        "area": 900.5,
        "iscrowd": 0,
    }
    content = {"images": images, "categories": CATEGORIES, "annotations": [box]}
    annotations.write_text(json.dumps(content))
    return CocoSet.read(annotations)


def written(tmp_path, rows):
    path = tmp_path / "results.json"
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return path


@pytest.mark.shared
@pytest.mark.parametrize("engine", [coco_metrics, official_metrics])
def test_known_answer_of_all_100_images(shared_folder, engine):
    folder = shared_folder / "data" / "coco_eval_val2014_100"
    coco_set = CocoSet.read(folder / "instances_val2014_100.json")
    wanted = json.loads((folder / "expected_bbox.json").read_text())["stats"]
    results = folder / "instances_val2014_fakebbox100_results.json"
    numbers = engine(read_evaluation(results, coco_set)).numbers()
    assert numbers == pytest.approx(wanted, abs=1e-12, rel=0)


@pytest.mark.shared
def test_the_evaluator_counts_the_image_without_detections(shared_folder):
    # Left out, the AP would be 0.507: the 99 images with a detection.
    folder = shared_folder / "data" / "coco_eval_val2014_100"
    coco_set = CocoSet.read(folder / "instances_val2014_100.json")
    detections = read_results(folder / "instances_val2014_fakebbox100_results.json", coco_set)
    evaluator = CocoEvaluator(coco_set.classes.names)
    skipping = CocoEvaluator(coco_set.classes.names)
    for row, image_id in enumerate(coco_set.image_ids.tolist()):
        one = [detections[image_id]], [coco_set.evaluation_truth(row)]
        evaluator.update(*one)
        if len(detections[image_id].boxes):
            skipping.update(*one)
    assert pytest.approx(0.5045806987249628, abs=1e-12) == evaluator.compute().AP
    assert pytest.approx(0.507, abs=5e-4) == skipping.compute().AP


def test_boxes_are_bit_for_bit_those_of_the_file(tmp_path, coco_set):
    given = read_evaluation(written(tmp_path, [ROW]), coco_set)
    assert given.detections.boxes.tolist() == [ROW["bbox"]]
    assert given.truth.boxes.tolist() == [ROW["bbox"]]
    assert given.truth.areas.tolist() == [900.5]


def test_category_ids_become_labels_and_image_ids_rows(tmp_path, coco_set):
    detections = read_evaluation(written(tmp_path, [ROW]), coco_set).detections
    assert coco_set.image_ids.tolist() == [7, 42]
    assert (detections.image.tolist(), detections.label.tolist()) == ([1], [1])


def test_results_of_a_category_that_is_not_used_are_left_out(tmp_path, coco_set):
    cars = CocoSet.read(coco_set.path, ["car"])
    assert len(read_results(written(tmp_path, [ROW]), cars)[42].boxes) == 0


def test_a_category_of_two_classes_gives_a_detection_of_each(tmp_path, coco_set):
    both = CocoSet.read(coco_set.path, [{"vehicle": ["car", "truck"]}, "truck"])
    assert read_results(written(tmp_path, [ROW, ROW | {"category_id": 3}]), both)[42].labels.tolist() == [
        0,
        1,
        0,
    ]


def test_detections_are_read_best_score_first(tmp_path, coco_set):
    rows = [ROW | {"score": score} for score in (0.1, 0.9, 0.5)]
    assert read_results(written(tmp_path, rows), coco_set)[42].scores.tolist() == [0.9, 0.5, 0.1]


def test_every_image_of_the_set_is_there_without_any_detection(tmp_path, coco_set):
    detections = read_results(written(tmp_path, []), coco_set)
    assert [*detections] == [7, 42]
    assert detections[7].boxes.shape == (0, 4)
    assert read_evaluation(written(tmp_path, []), coco_set).detections.boxes.shape == (0, 4)


def test_written_detections_are_read_back_to_the_last_digit(tmp_path, coco_set):
    one = found([[0.1, 0.2, 70.3, 80.7], [5.0, 5.0, 9.1, 9.9]], [0.9, 0.3], [0, 1])
    one = one._replace(class_probabilities=torch.tensor([0.95, 0.6]), confidence=torch.tensor([0.7, 0.5]))
    path = tmp_path / "results.json"
    write_results(path, [42, 7], [one, Detections.empty()], coco_set.classes.category_ids)
    again = read_results(path, coco_set)[42]
    for name in ("scores", "labels", "class_probabilities", "confidence"):
        assert getattr(again, name).tolist() == getattr(one, name).tolist(), name
    evaluator = CocoEvaluator(coco_set.classes.names)
    evaluator.update([one], [objects(42)])
    in_memory, in_file = evaluator.arrays().detections, read_evaluation(path, coco_set).detections
    assert in_file.boxes.tolist() == in_memory.boxes.tolist()


def test_unknown_class_probability_and_confidence_are_nan_and_not_written(tmp_path, coco_set):
    path = written(tmp_path, [ROW])
    one = read_results(path, coco_set)[42]
    assert one.confidence.isnan().all()
    assert one.class_probabilities.isnan().all()
    write_results(path, [42], [one], coco_set.classes.category_ids)
    assert [*json.loads(path.read_text())[0]] == ["image_id", "category_id", "bbox", "score"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, coco_set):
    path = written(tmp_path, "old")
    with pytest.raises(ValueError, match="label 2 has no category id"):
        write_results(path, [42], [found([[0, 0, 1, 1]], labels=[2])], (3, 8))
    with pytest.raises(ValueError, match="Out of range float"):
        write_results(path, [42], [found([[0, 0, 1, 1]], [float("nan")])], (3, 8))
    assert path.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["instances.json", "results.json"]


@pytest.mark.parametrize(
    ("image_ids", "category_ids", "message"),
    [([], (3, 8), "1 detections for 0 image ids"), ([42], (3, 3), r"two labels share .*\[3, 3\]")],
)
def test_writing_refuses_what_could_not_be_read_back(tmp_path, image_ids, category_ids, message):
    with pytest.raises(ValueError, match=message):
        write_results(tmp_path / "results.json", image_ids, [found()], category_ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, "image_id 9 is not in the annotations"),
        ({"image_id": "42"}, "image_id '42' is not in"),
        ({"category_id": 5}, "category_id 5 is not in the annotations"),
        ({"category_id": True}, "category_id True is not in"),
        ({"bbox": [1, 2, -3, 4]}, r"bbox must be 4 finite .*, is \[1, 2, -3, 4\]"),
        ({"bbox": [1, 2, 3]}, r"bbox must be 4 finite .*, is \[1, 2, 3\]"),
        ({"bbox": [1, 2, 3, float("nan")]}, r"bbox must be 4 finite .*nan\]"),
        ({"bbox": [1, 2, "3", 4]}, "bbox must be 4 finite .*'3'"),
        ({"bbox": 5}, "bbox must be 4 finite .*is 5"),
        ({"score": None}, "score must be a finite number, is None"),
        ({"score": float("inf")}, "score must be a finite number, is inf"),
        ({"score": "0.5"}, "score must be a finite number, is '0.5'"),
        ({"score": 10**30}, "score must be a finite number"),
        ({"confidence": None}, "confidence must be a finite number, is None"),
    ],
)
def test_a_faulty_row_is_named_by_number_and_value(tmp_path, coco_set, change, message):
    path = written(tmp_path, [ROW, ROW | change])
    with pytest.raises(ResultsError, match=f"results.json: row 1: {message}"):
        read_results(path, coco_set)


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_missing_key_is_named(tmp_path, coco_set, key):
    row = {name: value for name, value in ROW.items() if name != key}
    with pytest.raises(ResultsError, match=f"row 0: {key} is missing"):
        read_evaluation(written(tmp_path, [row]), coco_set)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"image_id": 42,\n oops}]', "line 2, column 2: not JSON"),
        ('{"annotations": []}', "must hold a list of detections, holds dict"),
        ("[7]", "row 0: must be an object, is 7"),
    ],
)
def test_text_that_is_no_results_file_is_refused(tmp_path, coco_set, text, message):
    with pytest.raises(ResultsError, match=message):
        read_results(written(tmp_path, text), coco_set)


def test_a_file_that_is_not_there_is_named(tmp_path, coco_set):
    with pytest.raises(ResultsError, match=r"nowhere.json: cannot be read: No such file"):
        read_results(tmp_path / "nowhere.json", coco_set)


def test_truth_of_a_whole_set_is_that_of_its_images_one_by_one(tmp_path):
    boxes = [
        {"category_ids": [8, 3], "bbox": [1, 2, 30, 40]},
        {"category_id": None, "bbox": [5, 5, 10, 10], "area": 7},
        {"category_id": 3, "bbox": [50, 50, 9.5, 9], "iscrowd": 1},
        {"category_id": 5, "bbox": [60, 60, 9, 9]},
    ]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 100, "width": 100} for i in (1, 2, 3)],
        "categories": [*CATEGORIES, {"id": 5, "name": "bus"}],
        "annotations": [box | {"id": i, "image_id": 3 - i % 2} for i, box in enumerate(boxes)],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    coco_set = CocoSet.read(path, ["truck", "car"], other_categories="ignore")
    evaluator = CocoEvaluator(coco_set.classes.names)
    for row in range(3):
        evaluator.update([found()], [coco_set.evaluation_truth(row)])
    whole, one_by_one = set_truth(coco_set), evaluator.arrays().truth
    assert len(whole.label) == 2 + 2 + 1 + 2
    for name in whole._fields:
        assert getattr(whole, name).tolist() == getattr(one_by_one, name).tolist(), name
