"""Fixtures shared by all tests."""

from pathlib import Path

import pytest
import torch

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
