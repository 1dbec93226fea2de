"""A run that was stopped, in whatever way, ends as the run that was not."""

import os
import shutil
import signal
import time
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from tiny_runs import CONFIG, load_run, log_lines, start, tensors, train_tiny, write_data

from dethead.config import load
from dethead.data import DataError
from dethead.training.checkpoint import CheckpointError
from dethead.training.loop import Trainer
from dethead.training.run_folder import RunFolder, RunFolderError

# 12 steps of 30 ms, 4 in an epoch. Dropout, because it draws from the generator that must be put back; Muon,
# because it has AdamW's state beside its own.
OPTIONS = (
    "backbone.options={norm: batch, dropout: 0.2, delay: 0.03}",
    "training.epochs=3",
    "training.batch_size=2",
    "training.checkpoint_every=1",
    "training.optimizer={name: muon, lr: 1.0e-2}",
)
PATIENCE = 120  # seconds; a busy machine is no reason to fail


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(CONFIG), *OPTIONS, "--data", str(data), "--out", str(out), "--device", "cpu",
            "--workers", "0", *more]  # fmt: skip


def finish(data: Path, out: Path, *more: str) -> str:
    log = out.with_suffix(".txt")
    process = start(command(data, out, *more), log)
    process.join(PATIENCE)
    assert process.exitcode == 0, log.read_text()
    return log.read_text()


def stop_at(step: int, data: Path, out: Path, number: int, *more: str) -> tuple[int | None, str]:
    """Train until the log has this step, then send the signal; gives exit status and output."""
    log = out.with_suffix(".txt")
    process = start(command(data, out, *more), log)
    end = time.monotonic() + PATIENCE
    while not any(line["step"] >= step for line in log_lines(out)):
        assert time.monotonic() < end, "the run never came to that step"
        assert process.is_alive(), f"the run ended before it was stopped: {log.read_text()}"
        time.sleep(0.005)
    assert process.pid
    os.kill(process.pid, number)
    process.join(PATIENCE)
    return process.exitcode, log.read_text()


@pytest.fixture(scope="module")
def whole(tiny_data, tmp_path_factory):
    """The run that was never stopped."""
    out = tmp_path_factory.mktemp("resume") / "whole"
    finish(tiny_data, out)
    return out


def assert_same_run(found: Path, wanted: Path) -> None:
    """Weights, average, optimizer, generators, log and pictures of the numbers: equal to the bit."""
    for name in ("last", "best"):
        one, two = (tensors(out / "checkpoints" / f"{name}.pt") for out in (found, wanted))
        assert one.keys() == two.keys()
        for key in one.keys() - {"/seconds"}:
            same = (
                torch.equal(one[key], two[key])
                if isinstance(one[key], torch.Tensor)
                else one[key] == two[key]
            )
            assert same, f"{name}.pt: {key}"
    lines = [
        [{k: v for k, v in x.items() if k != "images_per_s"} for x in log_lines(o)] for o in (found, wanted)
    ]
    assert lines[0] == lines[1]


def test_a_run_killed_three_times_ends_with_the_same_bits(tiny_data, whole, tmp_path):
    out = tmp_path / "killed"
    for step in (3, 6, 10):
        status, _ = stop_at(step, tiny_data, out, signal.SIGKILL, "--resume")
        assert status == -signal.SIGKILL
    assert "resumed at step" in finish(tiny_data, out, "--resume")
    assert_same_run(out, whole)


def test_ctrl_c_saves_says_how_to_go_on_and_loses_nothing(tiny_data, whole, tmp_path):
    out = tmp_path / "stopped"
    status, said = stop_at(2, tiny_data, out, signal.SIGINT)
    assert status == 130
    assert "dethead: stopped at step" in said
    assert "--resume goes on" in said
    assert "Traceback" not in said
    finish(tiny_data, out, "--resume")
    assert_same_run(out, whole)


def test_a_run_that_was_stopped_between_two_lines_of_the_log_has_all_its_steps_there(tiny_data, tmp_path):
    """A window of 100 steps: the checkpoint does not hold it."""
    few = ("training.log_every=100", "training.checkpoint_every=3", "training.batch_size=1")
    note = Trainer._note

    def stop_in_the_fifth(trainer, *args):
        if trainer.step == 5:
            raise KeyboardInterrupt
        note(trainer, *args)

    with patch.object(Trainer, "_note", stop_in_the_fifth), pytest.raises(KeyboardInterrupt):
        train_tiny(tiny_data, tmp_path / "run", *few)
    train_tiny(tiny_data, tmp_path / "run", *few, resume=True)
    train_tiny(tiny_data, tmp_path / "whole", *few)
    steps = [line["step"] for line in log_lines(tmp_path / "whole") if "val" not in line]
    assert steps == [3, 6, 8, 9, 12, 15, 16]
    found, wanted = (
        [{k: v for k, v in x.items() if k != "images_per_s"} for x in log_lines(tmp_path / name)]
        for name in ("run", "whole")
    )
    assert found == wanted


def test_a_run_killed_before_its_first_checkpoint_starts_again(tiny_data, tiny_run, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(load_run())
    folder.append_log({"step": 1})
    train_tiny(tiny_data, folder.path, resume=True)
    assert [line["step"] for line in log_lines(folder.path)] == [line["step"] for line in log_lines(tiny_run)]


def test_a_finished_run_is_not_trained_further(tiny_data, tiny_run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(tiny_run, out)
    report = train_tiny(tiny_data, out, resume=True)
    assert report["last"]["step"] == 4
    assert log_lines(out) == log_lines(tiny_run)


def test_resuming_with_another_config_names_the_key(tiny_data, tiny_run):
    with pytest.raises(RunFolderError, match=r"cannot resume with another config \(seed: 0 -> 1\)"):
        train_tiny(tiny_data, tiny_run, "seed=1", resume=True)


def test_resuming_on_other_data_is_refused(tiny_run, tmp_path):
    other = write_data(tmp_path / "data", train_images=9)
    with pytest.raises(RunFolderError, match=r"was trained on other data .*instances_train\.json"):
        train_tiny(other, tiny_run, resume=True)


def test_resuming_on_another_validation_set_is_refused(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", "training.epochs=1")
    other = write_data(tmp_path / "data", val_images=5)  # the same training images
    with pytest.raises(RunFolderError, match=r"was validated on other data .*instances_val\.json"):
        train_tiny(other, tmp_path / "run", "training.epochs=1", resume=True)


def test_a_checkpoint_that_does_not_know_its_validation_set_is_resumed(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", "training.epochs=1")
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    values = torch.load(last, weights_only=False)
    del values["val_data"]
    torch.save(values, last)
    assert train_tiny(tiny_data, tmp_path / "run", "training.epochs=1", resume=True)["last"]["step"] == 2


def test_a_run_that_met_a_broken_image_goes_on_without_it(tmp_path):
    data, out = write_data(tmp_path / "data"), tmp_path / "run"
    options = ("training.checkpoint_every=1", "training.batch_size=1", "training.epochs=1")
    path = data / "images" / "13.png"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(8)  # start and end are whole, so that it is met in training
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"13\.png: cannot be decoded .*data\.skip_unreadable=true"):
        train_tiny(data, out, *options)
    report = train_tiny(data, out, *options, "data.skip_unreadable=true", resume=True)
    assert report["last"]["step"] == 8
    assert report["unreadable"]["train"] == 1
    assert load(out / "config.yaml").data.skip_unreadable


def test_resuming_from_a_truncated_checkpoint_names_the_file(tiny_data, tiny_run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(tiny_run, out)
    last = out / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"last\.pt: not a readable checkpoint"):
        train_tiny(tiny_data, out, resume=True)


def test_resume_starts_a_run_where_none_is(tiny_data, tmp_path):
    assert train_tiny(tiny_data, tmp_path / "run", "training.epochs=1", resume=True)["last"]["step"] == 2
