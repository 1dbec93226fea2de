"""Results of a class above others: rows with its own category id, however the file is read."""

import json

import pytest

from dethead.data.coco import CocoSet
from dethead.evaluation import ResultsError, read_evaluation, read_results

HIERARCHY = {"vehicle": ["car", "truck"]}


@pytest.fixture
def coco_set(tmp_path):
    """A 100 x 100 image with a truck; the categories have the ids 3 and 8, so that the parent gets 9."""
    box = {"id": 1, "image_id": 42, "category_id": 8, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0}
    content = {
        "images": [{"id": 42, "file_name": "42.jpg", "height": 100, "width": 100}],
        "categories": [{"id": 3, "name": "car"}, {"id": 8, "name": "truck"}],
        "annotations": [box],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return CocoSet.read(path, hierarchy=HIERARCHY)


def row(category, **changes):
    return {"image_id": 42, "category_id": category, "bbox": [10, 20, 30, 40], "score": 0.5} | changes


# A whole number written with a point is read row by row.
@pytest.mark.parametrize("changes", [{}, {"image_id": 42.0}], ids=["decoded", "row by row"])
def test_a_row_is_a_detection_of_its_class_alone(tmp_path, coco_set, changes):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([row(9, **changes), row(3, **changes), row(8, **changes)]))
    assert read_results(path, coco_set)[42].labels.tolist() == [2, 0, 1]


def test_truth_has_a_row_for_every_label(tmp_path, coco_set):
    path = tmp_path / "results.json"
    path.write_text("[]")
    given = read_evaluation(path, coco_set)
    assert given.class_names == ("car", "truck", "vehicle")
    assert given.truth.label.tolist() == [1, 2]


def test_an_id_that_is_no_category_and_no_parent_is_refused(tmp_path, coco_set):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([row(10)]))
    with pytest.raises(ResultsError, match=r"row 0: category_id 10 is not in the annotations"):
        read_results(path, coco_set)


def test_without_the_hierarchy_the_id_of_a_parent_is_unknown(tmp_path, coco_set):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([row(9)]))
    with pytest.raises(ResultsError, match=r"category_id 9 is not in the annotations"):
        read_results(path, CocoSet.read(coco_set.path))
