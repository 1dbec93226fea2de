"""Checkpoints are whole or not there, and say what is wrong with them."""

import errno

import pytest
import torch

from dethead.training import checkpoint
from dethead.training.checkpoint import CheckpointError


def fail_half_way(values, file):
    file.write(b"half a checkpoint")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_was_saved_is_loaded(tmp_path):
    checkpoint.save({"model": {"w": torch.ones(2)}, "step": 3}, tmp_path / "a.pt")
    values = checkpoint.load(tmp_path / "a.pt")
    assert (values["step"], values["model"]["w"].tolist()) == (3, [1.0, 1.0])


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so_in_a_line(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save({"step": 1}, path)
    monkeypatch.setattr(torch, "save", fail_half_way)
    with pytest.raises(OSError, match=r"No space left on device") as error:
        checkpoint.save({"step": 2}, path)
    assert str(path) in str(error.value)
    assert "the previous checkpoint is kept" in str(error.value)
    assert "\n" not in str(error.value)
    assert checkpoint.load(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_at_the_first_checkpoint_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", fail_half_way)
    with pytest.raises(OSError, match=r"last\.pt: cannot be written \(.*No space left on device\)$"):
        checkpoint.save({"step": 2}, tmp_path / "last.pt")
    assert not [*tmp_path.iterdir()]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"last\.pt: no such checkpoint"):
        checkpoint.load(tmp_path / "last.pt")


@pytest.mark.parametrize("size", [0, 10, 500], ids=["empty", "head", "half"])
def test_a_truncated_checkpoint_is_named(tmp_path, size):
    path = tmp_path / "last.pt"
    checkpoint.save({"model": {"w": torch.ones(200)}}, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"last\.pt: not a readable checkpoint"):
        checkpoint.load(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"format": 1, "code": print}, path)
    with pytest.raises(CheckpointError, match=r"not a readable checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize("content", [{"format": 99}, {}, torch.ones(1)], ids=["newer", "none", "tensor"])
def test_another_format_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"this version of dethead reads 1"):
        checkpoint.load(tmp_path / "last.pt")


def test_random_numbers_go_on_where_they_were():
    state = checkpoint.random_state()
    first = torch.rand(3)
    checkpoint.set_random_state(state)
    assert torch.equal(torch.rand(3), first)
