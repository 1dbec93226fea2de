"""What the commands do and print."""

import json
import os
import re
import sys

import pytest
import torch
import yaml
from tiny_runs import CONFIG, load_run, log_lines

from dethead import config
from dethead.cli import main


def test_scenes_train_evaluate_and_predict_make_the_demo(dethead, tmp_path):
    scenes, run, out = tmp_path / "scenes", tmp_path / "run", tmp_path / "found"
    status, said, _ = dethead("scenes", scenes, "--images", 12, "--seed", 0)
    assert status == 0
    assert "9 train, 3 val images; " in said
    small = ("data.image_size=[64, 96]", "neck.channels=16", "head.depth=1", "training.epochs=1")
    cpu = ("--device", "cpu", "--workers", 0)
    status, said, err = dethead("train", "scenes_softmax_ce", "--data", scenes, "--out", run, *cpu, *small)
    assert status == 0, err
    assert re.search(r"epoch 1/1 \| loss .* images/s \| val loss .* \| AP .*\nbest: AP ", said)
    numbers = tmp_path / "numbers.json"
    status, said, err = dethead("evaluate", run, "--data", scenes, *cpu, "--json", numbers)
    assert status == 0, err
    assert "AP50" in said
    assert re.search(r"\n3 images, [1-9]\d*\.\d images/s\n", said)
    assert numbers.is_file()
    status, said, err = dethead("predict", run, scenes / "images" / "000001.jpg", "--out", out, "--score", 0)
    assert status == 0, err
    assert re.search(r"\d+ objects in 1 images", said)
    assert {path.name for path in out.iterdir()} == {"00001_000001.jpg", "detections.json", "images.json"}


def test_evaluate_tries_another_postprocessing_and_nothing_else(dethead, tiny_run, tiny_data, tmp_path):
    cpu = ("--data", tiny_data, "--device", "cpu", "--workers", 0)
    files = [tmp_path / "one.json", tmp_path / "other.json"]
    change = "postprocess.class_thresholds={truck: 1.0}"
    for file, more in zip(files, ((), (change,)), strict=True):
        status, _, err = dethead("evaluate", tiny_run, *cpu, "--detections", file, *more)
        assert status == 0, err
    every, some = (json.loads(file.read_text()) for file in files)
    categories = json.loads((tiny_data / "annotations" / "instances_val.json").read_text())["categories"]
    truck = next(one["id"] for one in categories if one["name"] == "truck")
    assert [one for one in every if one["category_id"] != truck] == some
    assert len(some) < len(every)
    numbers = tmp_path / "numbers.json"
    dethead("evaluate", tiny_run, *cpu, "--json", numbers, change)
    assert json.loads(numbers.read_text())["overrides"] == [change]
    for wrong, message in (
        (
            "training.epochs=3",
            "'training.epochs=3': of a trained run only postprocess.key=value can be changed",
        ),
        ("postprocess.class_thresholds={trcuk: 1.0}", "unknown class 'trcuk'; did you mean 'truck'?"),
        ("postprocess.nms_iou=2", "postprocess.nms_iou: Input should be less than or equal to 1, got 2"),
    ):
        status, _, err = dethead("evaluate", tiny_run, *cpu, wrong)
        assert status != 0
        assert message in err


def test_evaluate_writes_the_12_numbers_and_per_class_in_full_precision(
    dethead, tiny_run, tiny_data, tmp_path
):
    file = tmp_path / "numbers.json"
    dethead("evaluate", tiny_run, "--data", tiny_data, "--device", "cpu", "--workers", 0, "--json", file)
    found = json.loads(file.read_text())
    names = (
        "AP",
        "AP50",
        "AP75",
        "APs",
        "APm",
        "APl",
        "AR1",
        "AR10",
        "AR100",
        "ARs",
        "ARm",
        "ARl",
        "per_class",
    )
    assert found.keys() >= {*names}
    best = json.loads((tiny_run / "metrics.json").read_text())["best"]
    assert {name: found[name] for name in names[:-1]} == pytest.approx(
        {name: best[name] for name in names[:-1]}, abs=1e-9
    )
    assert [one["name"] for one in found["per_class"]] == ["car", "pedestrian", "truck"]


def test_official_numbers_are_those_of_the_own_engine(dethead, tiny_run, tiny_data, tmp_path):
    files = [tmp_path / "own.json", tmp_path / "official.json"]
    for file, more in zip(files, ([], ["--official"]), strict=True):
        cpu = ("--device", "cpu", "--workers", 0)
        status, _, err = dethead("evaluate", tiny_run, "--data", tiny_data, *cpu, "--json", file, *more)
        assert status == 0, err
    own, official = (json.loads(file.read_text())["AP"] for file in files)
    assert own == pytest.approx(official, abs=1e-12)


def test_score_finds_in_the_results_of_evaluate_the_same_numbers(dethead, tiny_run, tiny_data, tmp_path):
    ours, results, theirs = (tmp_path / f"{name}.json" for name in ("ours", "results", "theirs"))
    cpu = ("--device", "cpu", "--workers", 0)
    files = ("--json", ours, "--detections", results)
    status, _, err = dethead("evaluate", tiny_run, "--data", tiny_data, *cpu, *files)
    assert status == 0, err
    truth = tiny_data / "annotations" / "instances_val.json"
    chosen = ("--classes", "car,pedestrian,truck", "--json", theirs)
    status, _, err = dethead("score", truth, results, *chosen)
    assert status == 0, err
    assert json.loads(ours.read_text()) == json.loads(theirs.read_text())


def test_config_prints_every_default_and_overrides(dethead):
    status, said, _ = dethead("config", CONFIG, "training.epochs=7")
    assert status == 0
    assert yaml.safe_load(said) == load_run("training.epochs=7").model_dump(mode="json")


def test_config_lists_what_is_shipped(dethead):
    _, said, _ = dethead("config", "--list")
    assert {line.split()[0] for line in said.splitlines()} == {*config.shipped(), *config.shipped_ablations()}


def test_config_prints_the_json_schema(dethead):
    _, said, _ = dethead("config", "--schema")
    assert json.loads(said)["title"] == "Run"


def test_without_arguments_there_is_help(dethead):
    status, out, err = dethead()
    assert status != 0
    assert "evaluate" in out + err


def test_files_may_be_named_one_by_one(train, data, tmp_path):
    moved = {"--train-annotations": "a.json", "--val-annotations": "b.json"}
    for split, name in zip(("train", "val"), moved.values(), strict=True):
        (data / "annotations" / f"instances_{split}.json").rename(tmp_path / name)
    images = ("--train-images", data / "images", "--val-images", data / "images")
    options = [part for key, name in moved.items() for part in (key, tmp_path / name)]
    status, _, err = train(tmp_path / "nowhere", *options, *images)
    assert status == 0, err


def test_one_corrupt_image_can_be_left_out(train, data):
    (data / "images" / "12.png").write_bytes(b"no image")
    status, said, _ = train(data, "data.skip_unreadable=true")
    assert status == 0
    assert "best: AP" in said


def test_a_corrupt_image_of_the_validation_is_not_scored_as_missed(train, data, tmp_path):
    (data / "images" / "19.png").write_bytes(b"no image")
    status, _, err = train(data, "data.skip_unreadable=true", "training.epochs=1")
    assert status == 0, err
    (metrics,) = [json.loads(path.read_text()) for path in tmp_path.rglob("metrics.json")]
    assert metrics["unreadable"] == {"train": 0, "val": 1}
    annotations = json.loads((data / "annotations" / "instances_val.json").read_text())["annotations"]
    readable = [one for one in annotations if one["image_id"] != 19]
    assert sum(one["objects"] for one in metrics["last"]["per_class"]) == len(readable) < len(annotations)


def test_a_corrupt_image_that_is_left_out_is_named_and_counted(train, data, caplog):
    (data / "images" / "12.png").write_bytes(b"no image")
    train(data, "data.skip_unreadable=true")
    assert "1 of 8 images cannot be used" in caplog.text
    assert str(data / "images" / "12.png") in caplog.text


def test_traceback_is_there_for_who_asks(dethead):
    _, _, err = dethead("--traceback", "config", "no_such_config")
    os.environ.pop("DETHEAD_TRACEBACK")
    assert "Traceback (most recent call last)" in err


def test_other_processes_than_the_first_say_who_they_are(dethead, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert (
        "dethead (process 1): no_such_config: no such config file" in dethead("config", "no_such_config")[2]
    )


def test_what_nobody_foresaw_keeps_its_traceback(dethead, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("dethead.config.dump", fail)
    with pytest.raises(RuntimeError, match=r"a bug"):
        main(["config", str(CONFIG)])


def test_the_working_folder_is_searched_for_own_parts(dethead, tmp_path, monkeypatch):
    (tmp_path / "found_here.py").write_text("from tiny_backbone import make\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    dethead("config", CONFIG)
    from dethead.build import import_factory

    assert callable(import_factory("found_here:make"))


def test_log_lines_are_written_where_the_output_says(train, data, tmp_path):
    _, said, _ = train(data)
    assert str(tmp_path / "run") in said
    assert log_lines(tmp_path / "run")


def test_predict_draws_a_class_from_its_own_threshold_on(dethead, tiny_run, tiny_data, tmp_path):
    values = torch.load(tiny_run / "checkpoints" / "best.pt", weights_only=True)

    def scores(of_cars: float, *more: object) -> dict[int, list[float]]:
        values["config"]["postprocess"]["class_thresholds"] = [of_cars, 0.0, 0.0]
        torch.save(values, tmp_path / "best.pt")
        image, out = tiny_data / "images" / "18.png", tmp_path / "found"
        status, _, err = dethead("predict", tmp_path / "best.pt", image, "--out", out, *more)
        assert status == 0, err
        found: dict[int, list[float]] = {}
        for one in json.loads((out / "detections.json").read_text()):
            found.setdefault(one["category_id"], []).append(one["score"])
        return found

    every = scores(0.0, "--score", 0)
    cars, highest = every[1], max(max(one) for one in every.values())
    assert len(every) == 3
    assert highest < 0.3
    assert scores(0.0) == {}
    middle = (min(cars) + max(cars)) / 2
    of_cars = [score for score in cars if score >= middle]
    assert 0 < len(of_cars) < len(cars)
    assert scores(middle) == {1: of_cars}
    assert scores(middle, "--score", 0) == {**every, 1: of_cars}


@pytest.fixture
def group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_a_process_leaves_its_group_before_it_ends(dethead, group):
    assert dethead("config", "--list")[0] == 0
    assert not torch.distributed.is_initialized()


def test_a_failed_one_does_not_wait_for_the_others(dethead, group):
    assert dethead("config", "no_such_config")[0] == 2
    assert torch.distributed.is_initialized()
