"""``dethead score`` and ``dethead compare`` on files, as a person calls them."""

import json
import re

import pytest

from dethead.data.coco import CocoSet
from dethead.evaluation import coco_metrics, read_evaluation

ANNOTATIONS = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 200} for i in range(1, 13)],
    "categories": [{"id": 3, "name": "car"}, {"id": 8, "name": "truck"}],
    "annotations": [
        {
            "id": 10 * i + c,
            "image_id": i,
            "category_id": (3, 8)[c],
            "bbox": [10 + 90 * c, 10, 40 + i, 40],
            "area": 40 * (40 + i),
            "iscrowd": 0,
        }
        for i in range(1, 13)
        for c in range(2)
    ],
}


def results(shift):
    return [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "bbox": [one["bbox"][0] + shift * one["image_id"] / 6, *one["bbox"][1:]],
            "score": 0.9 - 0.05 * one["image_id"],
        }
        for one in ANNOTATIONS["annotations"]
    ]


@pytest.fixture
def files(tmp_path):
    for name, values in {"truth": ANNOTATIONS, "a": results(2), "b": results(8)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    return [tmp_path / f"{name}.json" for name in ("truth", "a", "b")]


def test_score_prints_and_writes_the_12_numbers(dethead, files, tmp_path):
    truth, a, _ = files
    status, said, err = dethead("score", truth, a, "--json", tmp_path / "new" / "numbers.json")
    assert status == 0, err
    metrics = coco_metrics(read_evaluation(a, CocoSet.read(truth)))
    read = json.loads((tmp_path / "new" / "numbers.json").read_text())
    assert read == metrics.as_dict()
    assert f"{100 * metrics.AP:.1f}" in said
    assert "truck" not in said


def test_score_official_gives_the_same(dethead, files, tmp_path):
    truth, a, _ = files
    for name, more in {"ours.json": (), "theirs.json": ("--official",)}.items():
        assert dethead("score", truth, a, "--json", tmp_path / name, *more)[0] == 0
    ours, theirs = (json.loads((tmp_path / name).read_text()) for name in ("ours.json", "theirs.json"))
    assert {name: ours[name] for name in ours if name != "per_class"} == pytest.approx(
        {name: theirs[name] for name in ours if name != "per_class"}, abs=1e-12
    )


def test_score_shows_chosen_classes_and_their_intervals(dethead, files, tmp_path):
    truth, a, _ = files
    out = tmp_path / "numbers.json"
    more = ("--per-class", "--classes", "truck", "--resamples", 50, "--json", out)
    status, said, err = dethead("score", truth, a, *more)
    assert status == 0, err
    assert "truck" in said
    assert "car" not in said
    low, high = json.loads(out.read_text())["intervals"]["AP"]
    assert f"{100 * low:.1f} to {100 * high:.1f}" in said


def test_a_true_box_without_an_area_counts_as_it_does_to_pycocotools(dethead, files, tmp_path):
    truth, a, _ = files
    content = json.loads(truth.read_text())
    content["annotations"][0]["bbox"][2] = 0
    truth.write_text(json.dumps(content))
    numbers = {}
    for name, more in {"ours": (), "theirs": ("--official",)}.items():
        status, _, err = dethead("score", truth, a, "--json", tmp_path / name, *more)
        assert status == 0, err
        numbers[name] = json.loads((tmp_path / name).read_text())
    assert numbers["ours"]["per_class"][0]["objects"] == 12
    assert numbers["ours"]["AR100"] == pytest.approx(numbers["theirs"]["AR100"], abs=1e-12)
    assert numbers["ours"]["AP"] == pytest.approx(numbers["theirs"]["AP"], abs=1e-12)


def test_a_true_box_that_is_not_finite_is_refused(dethead, files):
    truth, a, _ = files
    content = json.loads(truth.read_text())
    content["annotations"][0]["bbox"][2] = float("nan")
    truth.write_text(json.dumps(content))
    status, _, err = dethead("score", truth, a)
    assert status == 2
    assert "truth.json: 1 boxes with a coordinate that is not finite" in err


def test_a_class_name_is_no_markup(dethead, files):
    truth, a, _ = files
    truth.write_text(truth.read_text().replace('"car"', '"[/b]"'))
    status, said, err = dethead("score", truth, a, "--per-class", "--resamples", 10)
    assert status == 0, err
    assert said.count("[/b]") == 2


def test_score_draws_curves(dethead, files, tmp_path):
    truth, a, _ = files
    status, said, err = dethead("score", truth, a, "--plots", tmp_path / "plots")
    assert status == 0, err
    assert (tmp_path / "plots" / "pr_curves.png").stat().st_size > 1000
    assert "pr_curves.png" in said


def test_compare_says_which_is_better(dethead, files, tmp_path):
    truth, a, b = files
    out = tmp_path / "comparison.json"
    status, said, err = dethead("compare", truth, a, b, "--resamples", 200, "--seed", 1, "--json", out)
    assert status == 0, err
    read = json.loads(out.read_text())
    assert read["verdict"].startswith("B is worse than A")
    assert read["verdict"] in said
    assert (read["resamples"], read["seed"], read["a"]) == (200, 1, str(a))
    assert "truck" in said


def test_compare_takes_further_seeds(dethead, files, tmp_path):
    truth, a, b = files
    for name, shift in (("a1", 2.4), ("b1", 9), ("a2", 1.5), ("b2", 7.5)):
        (tmp_path / f"{name}.json").write_text(json.dumps(results(shift)))
    a1, b1, a2, b2 = (tmp_path / f"{name}.json" for name in ("a1", "b1", "a2", "b2"))
    out = tmp_path / "comparison.json"
    pairs = (a, b, a1, b1, a2, b2)
    status, said, err = dethead("compare", truth, *pairs, "--resamples", 200, "--json", out)
    assert status == 0, err
    coco_set = CocoSet.read(truth)
    aps = {path: coco_metrics(read_evaluation(path, coco_set)).AP for path in pairs}
    by_seed = [aps[b] - aps[a], aps[b1] - aps[a1], aps[b2] - aps[a2]]
    read = json.loads(out.read_text())
    (found,) = read["comparisons"]
    assert found["numbers"][0]["by_seed"] == pytest.approx(by_seed, abs=1e-12)
    assert (read["a"], read["b"]) == ([*map(str, (a, a1, a2))], [*map(str, (b, b1, b2))])
    assert found["words"].startswith("B is worse than A: AP ")
    assert "(3 seeds, 12 images)" in found["words"]
    assert found["words"] in said.replace("\n", " ")
    row = next(line for line in said.splitlines() if " AP " in line and "APs" not in line)
    means = [100 * sum(aps[one] for one in side) / 3 for side in ((a, a1, a2), (b, b1, b2))]
    assert [cell.strip() for cell in re.split("[│|]", row)][3:5] == [f"{mean:.1f}" for mean in means]
    assert "truck" in said


def test_a_further_seed_needs_both_detectors(dethead, files):
    truth, a, b = files
    status, _, err = dethead("compare", truth, a, b, a)
    assert status == 2
    assert "a.json has no B beside it" in " ".join(err.split())


def test_comparing_a_file_with_itself_is_identical(dethead, files):
    truth, a, _ = files
    assert "identical" in dethead("compare", truth, a, a, "--resamples", 10)[1]


def test_a_wrong_row_is_named_with_its_file(dethead, files):
    truth, a, b = files
    b.write_text(json.dumps([*results(0)[:2], {**results(0)[2], "image_id": 99}]))
    for command in (("score", truth, b), ("compare", truth, a, b, "--resamples", 5)):
        status, _, err = dethead(*command)
        assert status == 2
        assert "b.json: row 2: image_id 99 is not in the annotations" in err


@pytest.mark.parametrize("command", ["score", "compare"])
def test_a_place_that_cannot_be_written_is_named_before_the_work(
    dethead, files, tmp_path, monkeypatch, command
):
    truth, a, b = files
    monkeypatch.setattr("dethead.evaluation.results.read_evaluation", lambda *_: pytest.fail("work was done"))
    inputs = (truth, a) if command == "score" else (truth, a, b)
    status, _, err = dethead(command, *inputs, "--json", a / "numbers.json")
    assert status == 2
    assert "a.json: this folder cannot be made" in err
    status, _, err = dethead(command, *inputs, "--json", tmp_path)
    assert status == 2
    assert "is a folder, name a file" in err


def test_a_parent_class_is_scored_with_rows_of_its_own(dethead, tmp_path):
    truth = {
        "images": [{"id": 1, "file_name": "1.png", "height": 50, "width": 50}],
        "categories": [{"id": 1, "name": "car"}, {"id": 4, "name": "truck"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 4, "bbox": [20, 20, 10, 10], "area": 100, "iscrowd": 0},
        ],
    }
    rows = [  # the id of the parent is the largest of the file + 1
        {"image_id": 1, "category_id": category, "bbox": box, "score": 0.9}
        for category, box in ((1, [0, 0, 10, 10]), (5, [0, 0, 10, 10]), (5, [20, 20, 10, 10]))
    ]
    for name, content in (("truth", truth), ("rows", rows)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = (str(tmp_path / "truth.json"), str(tmp_path / "rows.json"))
    out = tmp_path / "out.json"
    assert dethead("score", *files, "--parent", "vehicle=car,truck", "--json", str(out))[0] == 0
    scored = {one["name"]: one["AP"] for one in json.loads(out.read_text())["per_class"]}
    assert scored == pytest.approx({"car": 1.0, "truck": 0.0, "vehicle": 1.0})
    status, _, err = dethead("score", *files, "--parent", "vehicle=car,truck", "--parent", "all=vehicle")
    assert status == 0
    assert "rows.json: no detection has category id 6 (all): its AP is 0" in err
    assert "id 5" not in err
    status, _, err = dethead("score", *files, "--classes", "")
    assert status == 2
    assert "the annotation file has no category ''" in err
    status, _, err = dethead("score", *files, "--parent", "vehicle")
    assert status == 2
    assert "must look like vehicle=car,truck" in err
