"""The command line, called as a person calls it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import CONFIG

from dethead.cli import main

Told = tuple[int, str, str]
"""Exit status, standard output, standard error."""


@pytest.fixture
def dethead(capsys, monkeypatch) -> Callable[..., Told]:
    monkeypatch.delenv("DETHEAD_TRACEBACK", raising=False)
    monkeypatch.setattr("dethead.training.loop.leave_pictures", lambda *_: None)

    def run(*arguments: object) -> Told:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def data(tiny_data, tmp_path) -> Path:
    """A data set that a test may break."""
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


@pytest.fixture
def train(dethead, tmp_path) -> Callable[..., Told]:
    def run(data: Path, *more: object) -> Told:
        return dethead(
            "train", CONFIG, "--data", data, "--out", tmp_path / "run", "--device", "cpu", "--workers", 0,
            "training.epochs=1", *more,
        )  # fmt: skip

    return run
