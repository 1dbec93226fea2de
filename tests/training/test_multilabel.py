"""A class above others, and samplers: through a whole run, a resume, an evaluation and a results file."""

import json
from unittest.mock import patch

import pytest
import torch
from tiny_runs import CATEGORIES, load_run, log_lines, tensors, train_tiny, write_data
from yaml import safe_load

from dethead.config import ConfigError
from dethead.data import find_split
from dethead.evaluation import coco_metrics, read_evaluation, write_results
from dethead.predict import load, predict_folder
from dethead.training import Inputs, evaluate_run, run_state
from dethead.training.inputs import describe, open_data

HIERARCHY = "data.hierarchy={vehicle: [car, truck]}"
SEVERAL = "class_scheme={name: sigmoid_bce}"
NAMES = ["car", "pedestrian", "truck", "vehicle"]


@pytest.fixture(scope="module")
def run_with_parent(tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("multilabel") / "run"
    train_tiny(tiny_data, out, HIERARCHY, SEVERAL)
    return out


def test_a_parent_is_trained_evaluated_and_reported_as_a_class(tiny_data, run_with_parent):
    split = find_split(tiny_data, "val")
    found = evaluate_run(run_with_parent, split, device="cpu", keep_detections=True)
    boxes = json.loads(split.annotations.read_text())["annotations"]
    of_class = [sum(CATEGORIES[box["category_id"]] == name for box in boxes) for name in NAMES]
    of_class[3] = of_class[0] + of_class[2]
    assert [one.name for one in found.metrics.per_class] == NAMES
    assert [one.objects for one in found.metrics.per_class] == of_class
    assert 3 in torch.cat([one.labels for one in found.detections.values()])


def test_one_box_is_detected_as_child_and_parent(tiny_data, run_with_parent):
    found = evaluate_run(run_with_parent, find_split(tiny_data, "val"), device="cpu", keep_detections=True)
    labels_at: dict[tuple[float, ...], set[int]] = {}
    for one in found.detections.values():
        for box, label in zip(one.boxes.tolist(), one.labels.tolist(), strict=True):
            labels_at.setdefault(tuple(box), set()).add(label)
    assert any({0, 3} <= labels for labels in labels_at.values())


def test_a_results_file_of_an_evaluation_gives_its_numbers_again(tiny_data, run_with_parent, tmp_path):
    done = evaluate_run(run_with_parent, find_split(tiny_data, "val"), device="cpu", keep_detections=True)
    path, ids = tmp_path / "results.json", done.coco.classes.category_ids
    write_results(path, done.coco.image_ids.tolist(), [*done.detections.values()], ids)
    assert {row["category_id"] for row in json.loads(path.read_text())} <= {1, 3, 8, 9}
    again = coco_metrics(read_evaluation(path, done.coco))
    assert again.as_dict() == done.metrics.as_dict()


def test_predictions_name_the_parent_by_an_id_of_its_own(tiny_data, run_with_parent, tmp_path):
    predictor = load(run_with_parent, classes=["vehicle"], score=0.0)
    predict_folder(predictor, sorted((tiny_data / "images").iterdir())[:2], tmp_path)
    categories = json.loads((tmp_path / "images.json").read_text())["categories"]
    assert categories[-1] == {"id": 9, "name": "vehicle"}
    assert {row["category_id"] for row in json.loads((tmp_path / "detections.json").read_text())} == {9}


def test_all_categories_of_the_file_can_have_a_parent_and_are_found_again(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", HIERARCHY, SEVERAL, "data.classes=null", "training.epochs=1")
    found = evaluate_run(tmp_path / "run", find_split(tiny_data, "val"), device="cpu")
    assert [one.name for one in found.metrics.per_class] == NAMES


@pytest.mark.parametrize("scheme", ["softmax_ce", "hinge"])
def test_a_scheme_of_one_class_a_box_is_refused_and_told_what_gives_it_two(tiny_data, tmp_path, scheme):
    with pytest.raises(
        ConfigError,
        match=rf"'{scheme}' gives a box one class, but .*train.json has \d+ boxes with several "
        r"labels under data.hierarchy .*vehicle.* use sigmoid_bce or multilabel_softmax",
    ):
        train_tiny(tiny_data, tmp_path / "run", HIERARCHY, f"class_scheme.name={scheme}")


def test_numbers_by_class_from_the_data_go_with_several_labels(tiny_data, tmp_path):
    scheme = "class_scheme={name: sigmoid_bce, class_weights: {recipe: inverse}, pos_weight: {vehicle: 2.0}}"
    out = tmp_path / "run"
    train_tiny(tiny_data, out, HIERARCHY, scheme, "training.epochs=1")
    saved = safe_load((out / "config.yaml").read_text())["class_scheme"]
    assert saved["pos_weight"] == [1, 1, 1, 2]


def test_boxes_of_several_labels_in_the_validation_set_alone_are_refused_before_the_training(tmp_path):
    data = write_data(tmp_path / "data")
    path = data / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    twin = content["annotations"][0]
    other = next(number for number in CATEGORIES if number != twin["category_id"])
    content["annotations"].append({**twin, "id": 9999, "category_id": other})
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"instances_val\.json has 1 boxes with several labels"):
        train_tiny(data, tmp_path / "run", "data.merge_equal_boxes=true")


def test_softmax_for_several_labels_is_allowed(tiny_data, tmp_path):
    scheme = "class_scheme.name=multilabel_softmax"
    report = train_tiny(tiny_data, tmp_path / "run", HIERARCHY, scheme, "training.epochs=1")
    assert [one["name"] for one in report["last"]["per_class"]] == NAMES


def test_a_child_that_is_no_class_is_named_with_the_file(tiny_data, tmp_path):
    with pytest.raises(ValueError, match=r"instances_train\.json: hierarchy: .* 'Truck'; did you mean"):
        train_tiny(tiny_data, tmp_path, "data.hierarchy={vehicle: [Truck]}", SEVERAL)


def test_lists_by_class_have_a_number_for_the_parent():
    run = load_run(HIERARCHY, "class_scheme={name: sigmoid_bce, class_weights: [1.0, 1.0, 1.0, 2.0]}")
    assert run.data.num_classes == 4
    with pytest.raises(ConfigError, match="class_weights has 3 values for 4 classes"):
        load_run(HIERARCHY, "class_scheme={name: sigmoid_bce, class_weights: [1.0, 1.0, 1.0]}")


def test_the_line_about_a_set_counts_the_parent(tiny_data):
    data = open_data(load_run(HIERARCHY, SEVERAL), Inputs.find(tiny_data, device="cpu"))
    car, pedestrian, truck = data.train.coco.class_counts().tolist()[:3]
    boxes = f"car {car}, pedestrian {pedestrian}, truck {truck}, vehicle {car + truck}"
    assert describe(data.train.coco).startswith(f"8 images (0 without objects); {boxes}; ")


@pytest.mark.parametrize(
    ("sampler", "images"), [("{name: class_aware}", 8), ("{name: repeat_factor, threshold: 1.0}", 10)]
)
def test_a_run_with_a_sampler_goes_on_in_mid_epoch_to_the_same_bits(tiny_data, tmp_path, sampler, images):
    options = (f"data.sampler={sampler}", "training.batch_size=2", "training.checkpoint_every=1")
    train_tiny(tiny_data, tmp_path / "whole", *options)
    assert len(log_lines(tmp_path / "whole")) == 2 * (images // 2 + 1)  # a line for each step and validation

    with pytest.raises(StoppedError), patch.object(run_state, "save", stopping_at(images // 2 + 2)):
        train_tiny(tiny_data, tmp_path / "parts", *options)
    train_tiny(tiny_data, tmp_path / "parts", *options, resume=True)

    whole, parts = (tensors(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "parts"))
    for key in whole.keys() - {"/seconds"}:
        one, two = whole[key], parts[key]
        assert torch.equal(one, two) if torch.is_tensor(one) else one == two, key


class StoppedError(Exception):
    """What ends a run in these tests."""


def stopping_at(step):
    """``run_state.save``, and with the checkpoint of this step the run ends."""
    save = run_state.save

    def save_and_stop(trainer):
        save(trainer)
        if trainer.step == step:
            raise StoppedError

    return save_and_stop
