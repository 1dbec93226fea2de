"""Every mistake of a person, of a file and of a machine is one clear message without a traceback."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_runs import CONFIG, start

from dethead.training.loop import Trainer


def annotations(data: Path, split: str = "train") -> Path:
    return data / "annotations" / f"instances_{split}.json"


def change(data: Path, make: Callable[[dict], object], split: str = "train") -> None:
    """Let ``make`` change the annotation file in place."""
    content = json.loads(annotations(data, split).read_text())
    make(content)
    annotations(data, split).write_text(json.dumps(content))


def refused(told: tuple[int, str, str], *parts: object) -> None:
    """One message, on standard error, that names the culprits; no traceback."""
    status, _, err = told
    assert status not in (0, None)
    assert "Traceback" not in err
    assert err.count("dethead: ") == 1
    for part in parts:
        assert str(part) in err


# --- bad images and annotations


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("break_it", [Path.unlink, truncate, lambda path: path.write_bytes(b"")])
def test_a_missing_truncated_or_empty_image_is_named_before_training(train, data, tmp_path, break_it):
    path = data / "images" / "12.png"
    break_it(path)
    refused(train(data), "1 of 8 images cannot be used", path, "data.skip_unreadable=true")
    assert not (tmp_path / "run").exists()


def test_an_image_of_another_size_than_the_file_says_is_named(train, data):
    change(data, lambda c: c["images"][2].update(width=97))
    refused(train(data), data / "images" / "12.png", "image is 96 x 72 px", "says 97 x 72")


BAD_ANNOTATIONS = {
    "box outside": ({"bbox": [500, 0, 5, 5]}, "outside the image"),
    "box without size": ({"bbox": [5, 5, 0, 5]}, "no size"),
    "nan": ({"bbox": [5, float("nan"), 5, 5]}, "not finite"),
    "three numbers": ({"bbox": [5, 5, 5]}, "bbox must be 4 numbers"),
    "unknown category": ({"category_id": 99}, "category_id must be one of the ids"),
    "unknown image": ({"image_id": 99}, "is of image 99, which is not in 'images'"),
}


@pytest.mark.parametrize("name", BAD_ANNOTATIONS)
def test_a_bad_annotation_is_named_by_file_and_id(train, data, name):
    values, message = BAD_ANNOTATIONS[name]
    change(data, lambda c: c["annotations"][1].update(values))
    refused(train(data), annotations(data), "annotation 1100", message)


def test_the_advice_for_a_bad_box_can_be_followed(train, data):
    change(data, lambda c: c["annotations"][1].update(bbox=[5, 5, 0, 5]))
    told = train(data)
    status, said, err = train(data, re.search(r"go without them with (\S+)", told[2])[1])
    assert status == 0, err
    assert "no size: 1 left out" in said


@pytest.mark.parametrize("kind", ["images", "annotations", "categories"])
def test_a_duplicate_id_is_named(train, data, kind):
    change(data, lambda c: c[kind].append(dict(c[kind][0])))
    refused(train(data), annotations(data), "is used twice")


def test_malformed_json_is_named_by_file_and_line(train, data):
    annotations(data).write_text('{"images": [\n  {"id": 3,}\n]}')
    refused(train(data), annotations(data), "line 2", "not JSON")


def test_a_class_that_does_not_exist_gets_the_nearest_name(train, data):
    refused(train(data, "data.classes=[car, pedestrain]"), "no category 'pedestrain'", "'pedestrian'")


def test_a_class_that_only_the_training_file_has_is_named_with_the_other_file(train, data):
    change(data, lambda c: c["categories"][0].update(name="lorry"), split="val")
    refused(train(data), annotations(data, "val"), "'car'")
    # Nobody asked for a car by name: all categories of the training file are the classes.
    asked_by = f"must have all categories of {annotations(data)}"
    refused(train(data, "data.classes=null"), annotations(data, "val"), "'car'", asked_by)


def test_several_labels_need_a_scheme_that_can_express_them(train, data):
    change(data, lambda c: c["annotations"][0].update(category_ids=[1, 3]))
    refused(train(data), "softmax_ce", "several labels", "sigmoid_bce")


def test_a_missing_data_folder_is_named(train, tmp_path):
    refused(train(tmp_path / "nowhere"), tmp_path / "nowhere", "no such folder")


def test_a_folder_without_annotations_says_what_was_looked_for(train, data):
    annotations(data, "val").unlink()
    refused(train(data), "no annotation file of split 'val'", "instances_val.json")


def test_too_few_images_for_a_batch_are_refused(train, data):
    refused(train(data, "training.batch_size=32"), "8 images do not fill one step", "32")


# --- bad configs, weights, folders, machines


def test_malformed_yaml_is_named(dethead, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("data: {image_size: [64, 64]\nbackbone: 3\n")
    refused(dethead("config", path), path, "not readable as YAML", "line 2")


def test_every_mistake_of_a_config_is_told_at_once(train, data):
    told = train(data, "training.batch_size=0", "class_scheme.name=softmax")
    refused(told, "training.batch_size: ", "got 0", "did you mean 'softmax_ce'?")


def test_a_part_that_cannot_be_imported_is_named(train, data):
    refused(train(data, "backbone.name=nowhere:make"), "'nowhere:make' cannot be imported")


@pytest.mark.parametrize("content", ["other", "text", "values"])
def test_a_weights_file_of_something_else_is_named(train, data, tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "other":
        torch.save({"conv1.weight": torch.zeros(3)}, path)
    elif content == "values":
        torch.save({"epoch": 3}, path)
    else:
        path.write_text("no weights at all")
    network = "backbone={name: mobilenet_v3_small, strides: [8]}"
    refused(train(data, network, "--weights", path), path)


def test_a_missing_weights_file_is_named(train, data, tmp_path):
    refused(train(data, "--weights", tmp_path / "w.pth"), tmp_path / "w.pth", "no such file")


def test_an_output_folder_that_holds_a_run_is_refused(train, data, tmp_path):
    assert train(data)[0] == 0
    refused(train(data), tmp_path / "run", "holds a run already; go on with --resume")


def test_an_output_folder_that_is_a_file_is_refused(train, data, tmp_path):
    (tmp_path / "run").touch()
    refused(train(data), tmp_path / "run", "is a file")


def test_a_run_to_start_from_that_is_none_is_named(train, data, tmp_path):
    refused(train(data, "--init-from", tmp_path), tmp_path, "holds no run")


def test_a_disk_that_is_full_at_a_checkpoint_is_named_in_a_line(tiny_data, tmp_path):
    out, log = tmp_path / "run", tmp_path / "log.txt"
    arguments = ["train", str(CONFIG), "--data", str(tiny_data), "--out", str(out), "--device", "cpu"]
    process = start([*arguments, "--workers", "0"], log, file_limit=60_000)
    process.join(120)
    said = log.read_text()
    assert process.exitcode == 2, said
    assert f"dethead: {out}/checkpoints/last.pt: cannot be written (" in said
    assert "File too large" in said
    assert "Traceback" not in said
    assert not [*(out / "checkpoints").iterdir()]


def test_cuda_out_of_memory_says_what_to_do(train, data, monkeypatch):
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")

    monkeypatch.setattr(Trainer, "_forward", fail)
    refused(train(data), "CUDA out of memory. Tried to allocate 20.00 GiB.", "raise training.accumulate")


def test_a_gradient_that_is_not_finite_is_no_traceback(train, data):
    scheme = "class_scheme={name: 'tiny_scheme:Exploding'}"
    told = train(data, scheme, "training.epochs=2", "training.validate_every=2")
    refused(told, "gradient is not finite", "at step 3", "image ids [")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_a_device_that_is_not_there_is_named(dethead, tiny_run, tiny_data, tmp_path, command):
    given = {
        "train": [CONFIG, "--data", tiny_data, "--out", tmp_path / "run"],
        "evaluate": [tiny_run, "--data", tiny_data],
        "predict": [tiny_run, tiny_data / "images", "--out", tmp_path / "found"],
    }
    refused(dethead(command, *given[command], "--device", "cuda"), "device 'cuda' is not there")


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_an_unknown_device_gets_the_list(dethead, tiny_run, tiny_data, tmp_path, command):
    given = {
        "evaluate": [tiny_run, "--data", tiny_data],
        "predict": [tiny_run, tiny_data / "images", "--out", tmp_path / "found"],
    }
    refused(
        dethead(command, *given[command], "--device", "gpu"), "device 'gpu' is unknown; allowed: auto, cpu"
    )


def test_a_tracker_that_is_unknown_is_named(train, data):
    refused(train(data, "--tracker", "tensorbord"), "tensorbord")


def test_an_error_in_a_worker_that_reads_images_is_one_line_too(train, data, monkeypatch):
    monkeypatch.setattr("dethead.training.inputs.check_images", lambda *_: [])
    path = data / "images" / "12.png"
    path.unlink()
    status, _, err = train(data, "--workers", 1)
    assert status == 2
    assert err.startswith(f"dethead: {path}: no such image file; data.skip_unreadable=true")
    assert err.count("\n") == 1


# --- bad input to evaluate and predict


def test_a_folder_that_holds_no_run_cannot_be_evaluated(dethead, tiny_data, tmp_path):
    refused(dethead("evaluate", tmp_path, "--data", tiny_data), tmp_path, "holds no run")


def test_a_run_without_its_best_checkpoint_cannot_be_evaluated(dethead, tiny_run, tiny_data, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (run / "checkpoints" / "best.pt").unlink()
    refused(
        dethead("evaluate", run, "--data", tiny_data), run / "checkpoints" / "best.pt", "no such checkpoint"
    )


def test_the_training_state_is_no_run_to_evaluate(dethead, tiny_run, tiny_data):
    last = tiny_run / "checkpoints" / "last.pt"
    refused(dethead("evaluate", last, "--data", tiny_data), last, "is no best.pt")


def test_a_split_that_is_not_there_is_named(dethead, tiny_run, tiny_data):
    refused(dethead("evaluate", tiny_run, "--data", tiny_data, "--split", "test"), "split 'test'")


def test_data_without_the_classes_of_the_run_are_refused(dethead, tiny_run, data):
    change(data, lambda c: c["categories"][0].update(name="automobile"), split="val")
    refused(dethead("evaluate", tiny_run, "--data", data), annotations(data, "val"), "no category 'car'")


def test_a_folder_without_images_is_named(dethead, tiny_run, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(
        dethead("predict", tiny_run, tmp_path / "empty", "--out", tmp_path / "o"),
        tmp_path / "empty",
        "no images",
    )


def test_an_image_that_is_not_there_is_named(dethead, tiny_run, tmp_path):
    told = dethead("predict", tiny_run, tmp_path / "a.jpg", "--out", tmp_path / "o")
    refused(told, tmp_path / "a.jpg", "no such image")


def test_a_corrupt_image_to_predict_is_named(dethead, tiny_run, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    told = dethead("predict", tiny_run, tmp_path / "a.jpg", "--out", tmp_path / "o")
    refused(told, tmp_path / "a.jpg", "cannot be decoded as an image")


def test_an_unknown_class_to_predict_gets_the_list(dethead, tiny_run, tiny_data, tmp_path):
    told = dethead(
        "predict", tiny_run, tiny_data / "images", "--out", tmp_path / "o", "--classes", "car, bus"
    )
    refused(told, "class 'bus' is unknown; the run has car, pedestrian, truck")


def test_an_option_that_does_not_exist_is_a_usage_error(dethead):
    status, _, err = dethead("train", "--dta", "x")
    assert status == 2
    assert "No such option" in err
    assert "Traceback" not in err
