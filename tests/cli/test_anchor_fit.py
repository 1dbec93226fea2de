"""``dethead anchors``: measure, fit, paste."""

import json

import pytest
import yaml
from tiny_runs import CONFIG, load_run

from dethead import build


def pasted(out):
    """The section that the command prints."""
    return yaml.safe_load(out[out.index("anchors:\n") :])["anchors"]


def test_the_printed_lines_are_a_section_that_builds_these_anchors(dethead, tiny_data, tmp_path):
    status, out, _ = dethead(
        "anchors", CONFIG, "--data", tiny_data, "--shapes", 3, "--json", tmp_path / "n.json"
    )
    assert status == 0
    shapes = pasted(out)["shapes"]
    run = load_run(f"anchors={{shapes: {shapes}}}")
    wanted = tuple(tuple(tuple(shape) for shape in level) for level in shapes)
    assert build.detector(run, 3).grid.shapes == wanted
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["fitted"]["shapes"] == shapes
    assert numbers["of the config"]["shapes"] == [[[24.0, 24.0]]]


def test_boxes_are_counted_by_size_and_class_before_and_after(dethead, tiny_data, tmp_path):
    status, out, _ = dethead("anchors", CONFIG, "--data", tiny_data, "--json", tmp_path / "n.json")
    assert status == 0
    assert "anchors of the config, max_iou" in out
    assert "anchors fitted, max_iou" in out
    numbers = json.loads((tmp_path / "n.json").read_text())
    before, after = (numbers[name]["groups"] for name in ("of the config", "fitted"))
    names = ["all", "small", "medium", "large", "car", "pedestrian", "truck"]
    assert [group["name"] for group in before] == [group["name"] for group in after] == names
    assert before[0]["boxes"] == after[0]["boxes"] == 12
    assert after[0]["shape_iou"] > before[0]["shape_iou"]


def test_augmented_boxes_are_seen_so_many_times(dethead, tiny_data, tmp_path):
    dethead("anchors", CONFIG, "--data", tiny_data, "--augmented", 2, "--json", tmp_path / "n.json",
            "data.augment={photometric: 0.0, zoom_out: 1.0, iou_crop: 0.0, flip: 0.5}")  # fmt: skip
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["fitted"]["groups"][0]["boxes"] == 24


def test_an_assigner_that_looks_at_predictions_is_said_to_see_a_guess(dethead, tiny_data):
    status, out, _ = dethead("anchors", CONFIG, "--data", tiny_data, "assigner={name: task_aligned}")
    assert status == 0
    assert "task_aligned looks at predictions" in out


def test_more_shapes_than_boxes_are_refused(dethead, tiny_data):
    status, _, err = dethead("anchors", CONFIG, "--data", tiny_data, "--shapes", 40)
    assert status == 2
    assert "40 shapes cannot be fitted to 12 different boxes" in err


def test_the_anchors_of_the_config_are_measured_also_where_none_can_be_fitted(dethead, data):
    file = data / "annotations" / "instances_train.json"
    truth = json.loads(file.read_text())
    for one in truth["annotations"]:
        one["iscrowd"] = 1
    file.write_text(json.dumps(truth))
    status, out, err = dethead("anchors", CONFIG, "--data", data)
    assert status == 2
    assert "anchors of the config, max_iou" in out
    assert "cannot be fitted to 0 different boxes" in err


@pytest.mark.parametrize("option", ["--shapes", "--augmented"])
def test_numbers_below_their_range_are_refused(dethead, tiny_data, option):
    assert dethead("anchors", CONFIG, "--data", tiny_data, option, -1)[0] == 2
