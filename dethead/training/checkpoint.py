"""Checkpoints: written whole or not at all, loaded without running anybody's code."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

FORMAT = 1
"""Raised when older checkpoints can no longer be read."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit."""


def save(values: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; a crash or a full disk on the way leaves the old one as it was.

    Raises:
        OSError: naming the file, when it cannot be written.
    """
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save({"format": FORMAT, **values}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        part.unlink(missing_ok=True)
        kept = "; the previous checkpoint is kept" if path.exists() else ""
        raise OSError(f"{path}: cannot be written ({_cause(error)}){kept}") from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU.

    Raises:
        CheckpointError: not there, damaged, or of another format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({_cause(error)})") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path}: checkpoint format {found}, this version of dethead reads {FORMAT}")
    return values


def random_state() -> dict[str, Any]:
    """Give the state of PyTorch's generators in this process.

    Order and augmentation of the images do not depend on it (they are functions of seed, epoch and image);
    dropout and stochastic depth do.
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    """Put the generators back; the opposite of ``random_state``."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _cause(error: BaseException) -> str:
    """First line of the innermost cause: torch wraps "No space left on device"."""
    while error.__context__ is not None:
        error = error.__context__
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
