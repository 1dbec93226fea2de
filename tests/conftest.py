"""Fixtures shared by all tests."""

from pathlib import Path

import hypothesis
import pytest
import torch
from tiny_runs import load_run, write_data

from dethead.training import Inputs, train

# The tensors of tests are small: further threads wait for each other, many times longer on a busy machine.
torch.set_num_threads(1)

# No test is a measurement of time, and a random draw must not turn a build red that was green before.
hypothesis.settings.register_profile("dethead", deadline=None, derandomize=True)
hypothesis.settings.load_profile("dethead")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder of real data beside the repository; tests that ask for it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED}, which lies beside the repository and is not part of it")
    return SHARED


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 training and 4 validation images of coloured rectangles; not to be changed."""
    return write_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of tiny.yaml on ``tiny_data``; not to be changed."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    train(load_run(), Inputs.find(tiny_data, device="cpu"), out)
    return out
