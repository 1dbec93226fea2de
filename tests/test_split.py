"""tools/split.py: training images in two parts, to choose settings without the validation images."""

import importlib.util
import json
from pathlib import Path

import pytest

from dethead.data.layout import find_split

TOOL = Path(__file__).parents[1] / "tools" / "split.py"


@pytest.fixture(scope="module")
def split():
    spec = importlib.util.spec_from_file_location("split", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def annotations(images):
    return {
        "categories": [{"id": 1, "name": "car"}],
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 4, "width": 4} for i in images],
        "annotations": [
            {"id": 10 * i + k, "image_id": i, "category_id": 1} for i in images for k in range(2)
        ],
    }


def ids(part):
    return {image["id"] for image in part["images"]}


def test_every_image_is_in_one_part_with_all_its_objects(split):
    parts = split.halves(annotations(range(5, 25)), val=6, seed=0)
    assert len(ids(parts["val"])) == 6
    assert ids(parts["train"]) | ids(parts["val"]) == set(range(5, 25))
    assert not ids(parts["train"]) & ids(parts["val"])
    for part in parts.values():
        assert {one["image_id"] for one in part["annotations"]} == ids(part)
        assert len(part["annotations"]) == 2 * len(part["images"])
        assert part["categories"] == [{"id": 1, "name": "car"}]


def test_the_draw_is_a_function_of_the_seed_and_not_of_the_order_of_images(split):
    forward, backward = annotations(range(20)), annotations(range(19, -1, -1))
    assert ids(split.halves(forward, 5, 0)["val"]) == ids(split.halves(backward, 5, 0)["val"])
    assert ids(split.halves(forward, 5, 0)["val"]) != ids(split.halves(forward, 5, 1)["val"])


def test_fewer_to_train_on_leave_the_others_to_score_on_as_they_are(split):
    whole = annotations(range(20))
    few, all_others = split.halves(whole, 5, 0, train=4), split.halves(whole, 5, 0)
    assert few["val"] == all_others["val"]
    assert len(ids(few["train"])) == 4
    assert ids(few["train"]) < ids(all_others["train"])
    assert {one["image_id"] for one in few["train"]["annotations"]} == ids(few["train"])
    assert split.halves(whole, 5, 0, train=15) == all_others


@pytest.mark.parametrize("train", [0, 16, -1])
def test_more_to_train_on_than_there_are_is_refused(split, train):
    with pytest.raises(ValueError, match=rf"between 1 and the 15 other images, got {train}"):
        split.halves(annotations(range(20)), 5, 0, train)


@pytest.mark.parametrize("val", [0, 20, -1])
def test_a_part_without_images_is_refused(split, val):
    with pytest.raises(ValueError, match=rf"between 1 and 19 of the 20 images, got {val}"):
        split.halves(annotations(range(20)), val, 0)


def test_the_result_is_a_data_set_of_its_own(split, tmp_path, monkeypatch, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "annotations").mkdir(parents=True)
    (data / "images").mkdir()
    (data / "annotations" / "instances_train.json").write_text(json.dumps(annotations(range(8))))
    monkeypatch.setattr("sys.argv", ["split.py", str(data), str(out), "--val", "2"])
    split.main()
    split.main()  # a second time changes nothing
    assert find_split(out, "val").images.samefile(data / "images")
    assert "val: 2 images, 4 objects" in capsys.readouterr().out


def written(folder, images):
    (folder / "annotations").mkdir(parents=True)
    (folder / "train").mkdir()
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(annotations(images)))
    return folder


def test_the_data_set_itself_is_not_overwritten(split, tmp_path, monkeypatch):
    data = written(tmp_path / "data", range(8))
    before = (data / "annotations" / "instances_train.json").read_bytes()
    (tmp_path / "other_name").symlink_to(data)
    for out in (data, tmp_path / "other_name"):
        monkeypatch.setattr("sys.argv", ["split.py", str(data), str(out), "--val", "2"])
        with pytest.raises(SystemExit, match="the data set itself"):
            split.main()
    assert (data / "annotations" / "instances_train.json").read_bytes() == before
    assert [path.name for path in (data / "annotations").iterdir()] == ["instances_train.json"]


def test_annotations_are_not_put_beside_the_images_of_another_set(split, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for name, count in (("one", 8), ("other", 9)):
        written(tmp_path / name, range(count))
    monkeypatch.setattr("sys.argv", ["split.py", str(tmp_path / "one"), str(out), "--val", "2"])
    split.main()
    before = (out / "annotations" / "instances_train.json").read_bytes()
    monkeypatch.setattr("sys.argv", ["split.py", str(tmp_path / "other"), str(out), "--val", "2"])
    with pytest.raises(SystemExit, match=r"images: leads to .*one.train, not to .*other.train"):
        split.main()
    assert (out / "annotations" / "instances_train.json").read_bytes() == before
