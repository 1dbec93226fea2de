"""``dethead analyse``."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dethead.data.coco import CocoSet
from dethead.evaluation import coco_metrics, read_evaluation

BOX = [10.0, 10.0, 40.0, 40.0]


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """Two cars and a truck in two images; one car is found, the truck is taken for a car."""
    images = [{"id": place, "file_name": f"{place}.png", "width": 100, "height": 80} for place in (1, 2)]
    objects = [(1, 1, BOX), (2, 1, BOX), (2, 2, [60.0, 10.0, 30.0, 30.0])]
    annotations = [
        {
            "id": place,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for place, (image, category, box) in enumerate(objects, start=1)
    ]
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "truck"}]
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    detections = [(1, 1, BOX, 0.9), (2, 1, [60.0, 10.0, 30.0, 30.0], 0.9)]
    found.write_text(
        json.dumps(
            [
                {"image_id": image, "category_id": category, "bbox": box, "score": score}
                for image, category, box, score in detections
            ]
        )
    )
    return truth, found


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Without the pictures, which take seconds."""
    monkeypatch.setattr("dethead.cli.analysis._draw", lambda *_: [])


def test_it_writes_numbers_pictures_and_an_index_that_leads_with_the_answer(dethead, files, tmp_path):
    for place in (1, 2):
        Image.new("RGB", (100, 80), (90, 120, 60)).save(tmp_path / f"{place}.png")
    out = tmp_path / "new" / "out"
    status, said, err = dethead("analyse", *files, "--out", out, "--images", tmp_path)
    assert status == 0, err
    assert "Most AP50 is lost by objects taken for another class" in said
    page = (out / "analysis.md").read_text()
    assert page.splitlines()[2].startswith("**AP 25.2 %, AP50 25.2 %. Most AP50 is lost by objects taken")
    named = {line.split("](")[1].split(")")[0] for line in page.splitlines() if "](" in line}
    assert {path.name for path in out.iterdir()} == named | {"analysis.md"}
    assert {"misses.jpg", "mistakes.jpg", "reliability.png"} < named


@pytest.mark.usefixtures("undrawn")
def test_the_numbers_are_in_full_precision_and_undefined_ones_null(dethead, files, tmp_path):
    dethead("analyse", *files, "--out", tmp_path / "out")
    read = json.loads((tmp_path / "out" / "analysis.json").read_text())
    metrics = coco_metrics(read_evaluation(files[1], CocoSet.read(files[0])))
    assert read["metrics"] == metrics.as_dict()
    assert read["metrics"]["APl"] is None
    assert read["errors"]["counts"]["classification"] == 1
    assert read["confusion"]["counts"] == [[1, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert (read["images"], read["objects"], read["detections"]) == (2, 3, 2)


@pytest.mark.usefixtures("undrawn")
def test_without_images_it_says_that_there_is_no_gallery(dethead, files, tmp_path):
    status, said, _ = dethead("analyse", *files, "--out", tmp_path / "out")
    assert status == 0
    assert "--images FOLDER was not given" in said
    assert not [*(tmp_path / "out").glob("*.jpg")]


@pytest.mark.usefixtures("undrawn")
def test_only_the_classes_that_were_asked_for_are_analysed(dethead, files, tmp_path):
    dethead("analyse", *files, "--out", tmp_path / "out", "--classes", "truck")
    read = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert [one["name"] for one in read["metrics"]["per_class"]] == ["truck"]
    assert read["errors"]["counts"]["missed"] == 1


def test_an_image_folder_that_is_not_there_is_named_before_the_work(dethead, files, tmp_path):
    status, _, err = dethead("analyse", *files, "--out", tmp_path / "out", "--images", tmp_path / "no")
    assert status == 2
    assert f"{tmp_path / 'no'}: no such image folder" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_scores_that_are_no_probabilities_have_no_calibration(dethead, files, tmp_path):
    rows = json.loads(files[1].read_text())
    rows[0]["score"] = 7.5
    files[1].write_text(json.dumps(rows))
    status, _, err = dethead("analyse", *files, "--out", tmp_path / "out")
    assert status == 0, err
    assert json.loads((tmp_path / "out" / "analysis.json").read_text())["calibration"] is None
    assert "scores outside [0, 1]" in (tmp_path / "out" / "analysis.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_no_detection_at_all_is_said_and_not_that_no_error_costs_anything(dethead, files, tmp_path):
    truth, found = files
    found.write_text("[]")
    status, said, err = dethead("analyse", truth, found, "--out", tmp_path / "out")
    assert status == 0, err
    assert said.startswith("AP 0 %: there is no detection.")
