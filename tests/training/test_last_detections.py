"""What a run leaves for those who score it afterwards: the detections of its last weights, memory, speed."""

import json
import shutil
import subprocess
import sys
from unittest.mock import patch

import pytest
from tiny_runs import log_lines, train_tiny

from dethead.backbones import fold_batch_norm
from dethead.cli import main
from dethead.data import CocoSet, find_split
from dethead.evaluation import coco_metrics, read_evaluation
from dethead.training import evaluate_run
from dethead.training.validation import score

NAMES = ["car", "pedestrian", "truck"]


def annotations(data):
    return data / "annotations" / "instances_val.json"


def numbers_of_file(data, run):
    return coco_metrics(
        read_evaluation(run / "detections.json", CocoSet.read(annotations(data), NAMES))
    ).as_dict()


def test_the_detections_are_those_of_the_last_epoch_and_not_of_the_best(tiny_data, tmp_path):
    report = train_tiny(tiny_data, tmp_path / "run", "training.epochs=4", "training.optimizer.lr=0.05")
    assert report["best"]["epoch"] < 4  # so that the two can be told apart
    found = numbers_of_file(tiny_data, tmp_path / "run")
    assert found == {name: report["last"][name] for name in found}


def test_detections_are_kept_in_the_last_validation_only(tiny_data, tmp_path):
    with patch("dethead.training.loop.score", wraps=score) as scored:
        train_tiny(tiny_data, tmp_path / "run", "training.epochs=3")
    assert [call.kwargs["keep_detections"] for call in scored.call_args_list] == [False, False, True]


def test_the_oracles_of_the_last_epoch_are_those_of_an_evaluation(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", "training.epochs=1")
    found = evaluate_run(tmp_path / "run", find_split(tiny_data, "val"), device="cpu", oracles=True).oracles
    written = json.loads((tmp_path / "run" / "oracles.json").read_text())
    assert written == {name: metrics.as_dict() for name, metrics in found.items()}
    assert written["all"]["AP"] > written["class"]["AP"]


def test_a_finished_run_that_is_resumed_keeps_its_file(tiny_data, tiny_run, tmp_path):
    out = shutil.copytree(tiny_run, tmp_path / "run")
    before = (out / "detections.json").stat().st_mtime_ns
    train_tiny(tiny_data, out, resume=True)
    assert (out / "detections.json").stat().st_mtime_ns == before


def test_a_finished_run_without_the_file_writes_it_on_a_resume_and_nothing_else(
    tiny_data, tiny_run, tmp_path
):
    out = shutil.copytree(tiny_run, tmp_path / "run")
    wanted = (out / "detections.json").read_bytes()
    (out / "detections.json").unlink()
    train_tiny(tiny_data, out, resume=True)
    assert (out / "detections.json").read_bytes() == wanted
    assert log_lines(out) == log_lines(tiny_run)


def test_an_image_that_cannot_be_read_has_no_rows(tiny_data, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "images" / "19.png").write_bytes(b"no picture")
    report = train_tiny(data, tmp_path / "run", "training.epochs=1", "data.skip_unreadable=true")
    assert report["unreadable"]["val"] == 1
    rows = json.loads((tmp_path / "run" / "detections.json").read_text())
    assert {row["image_id"] for row in rows} == {18, 20, 21}
    done = evaluate_run(tmp_path / "run", find_split(data, "val"), device="cpu", keep_detections=True)
    assert sorted(done.detections) == [0, 2, 3]


def test_two_classes_of_one_category_leave_no_file_and_the_run_says_why(tiny_data, tmp_path, capsys):
    classes = "data.classes=[car, {vehicle: [car, truck]}]"
    several = "class_scheme={name: sigmoid_bce}"
    train_tiny(tiny_data, tmp_path / "run", classes, several, "training.epochs=1")
    assert "no detections.json: two classes share a category id [1, 1]" in capsys.readouterr().out
    assert not (tmp_path / "run" / "detections.json").exists()


@pytest.mark.parametrize("command", ["score", "analyse", "compare"])
def test_the_commands_for_results_files_take_it(command, tiny_data, tiny_run, tmp_path):
    file = str(tiny_run / "detections.json")
    rest = {
        "score": [file],
        "analyse": [file, "--out", str(tmp_path)],
        "compare": [file, file, "--resamples", "5"],
    }
    with pytest.raises(SystemExit) as end:
        main([command, str(annotations(tiny_data)), *rest[command]])
    assert not end.value.code


def test_images_per_second_are_those_of_all_steps(tiny_run):
    report = json.loads((tiny_run / "metrics.json").read_text())
    assert report["images_per_s"] == pytest.approx(2 * 2 * 4 / report["train_seconds"])


GROW_AND_SHRINK = """
from dethead.training import memory
before = memory._resident()
block = bytearray(200_000_000)
block[::4096] = bytes(len(block[::4096]))
held = memory._resident()
del block
print(held - before, memory._resident() - held)
"""


def test_peak_memory_counts_what_was_given_back_in_bytes():
    # In a process of its own: a forked one's peak may start anywhere.
    done = subprocess.run([sys.executable, "-c", GROW_AND_SHRINK], capture_output=True, text=True, check=True)
    grown, more = map(int, done.stdout.split())
    assert grown == pytest.approx(200e6, rel=0.2)
    assert more == pytest.approx(0, abs=20e6)  # the kernel counts in batches


def test_a_run_with_batch_normalisation_is_evaluated_as_it_was_validated(tiny_data, tmp_path):
    options = ("training.epochs=1", "backbone.options={norm: batch}")
    with patch("dethead.detector.fold_batch_norm", wraps=fold_batch_norm) as folded:
        report = train_tiny(tiny_data, tmp_path / "run", *options)
        done = evaluate_run(tmp_path / "run", find_split(tiny_data, "val"), device="cpu")
    assert folded.call_count == 2
    found = done.metrics.as_dict()
    assert found == {name: report["last"][name] for name in found}
