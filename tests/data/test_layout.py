from pathlib import Path

import pytest

from dethead.data.errors import DataError
from dethead.data.layout import find_split


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize(
    ("annotations", "images", "split"),
    [
        ("annotations/instances_val.json", "images", "val"),
        ("annotations/instances_val.json", "val", "val"),
        ("annotations/instances_val2017.json", "val2017", "val"),
        ("annotations/instances_val2014.json", "val2014", "val"),
        ("annotations/instances_val2017.json", "val2017", "val2017"),
        ("annotations/instances_night.json", "images/night", "night"),
        ("valid/_annotations.coco.json", "valid", "valid"),
    ],
)
def test_the_usual_layouts_are_found(tmp_path: Path, annotations: str, images: str, split: str) -> None:
    file, expected = touch(tmp_path / annotations), folder(tmp_path / images)

    assert find_split(tmp_path, split) == (file, expected)


def test_an_explicit_file_and_folder_are_taken(tmp_path: Path) -> None:
    file, images = touch(tmp_path / "a.json"), folder(tmp_path / "b")

    assert find_split(tmp_path / "absent", "val", annotations=file, images=images) == (file, images)


def test_a_missing_annotation_file_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        find_split(tmp_path, "val")

    for looked_for in ("instances_val.json", "instances_val<year>.json", "_annotations.coco.json"):
        assert looked_for in str(error.value)


def test_a_missing_image_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path / "annotations" / "instances_val2017.json")

    with pytest.raises(DataError, match=r"no image folder of split 'val'.*val2017.*images"):
        find_split(tmp_path, "val")


def test_two_years_are_not_guessed_between(tmp_path: Path) -> None:
    touch(tmp_path / "annotations" / "instances_val2014.json")
    touch(tmp_path / "annotations" / "instances_val2017.json")

    with pytest.raises(DataError, match="several annotation files"):
        find_split(tmp_path, "val")


def test_explicit_paths_that_are_absent_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.json: no such annotation file"):
        find_split(tmp_path, "val", annotations=tmp_path / "x.json")
    with pytest.raises(DataError, match="y: no such image folder"):
        find_split(tmp_path, "val", annotations=touch(tmp_path / "x.json"), images=tmp_path / "y")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_split(tmp_path / "nowhere", "val")


def test_the_shared_road_set_is_found(shared_folder: Path) -> None:
    road = shared_folder / "data" / "road"

    assert find_split(road, "train") == (road / "annotations" / "instances_train.json", road / "images")
