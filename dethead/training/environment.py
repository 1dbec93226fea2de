"""On what a run was trained: versions, commit, machine, and what its paths pointed at."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

import dethead
from dethead.files import sha256_of
from dethead.training.inputs import Inputs
from dethead.training.run_folder import best_of

PACKAGES = ("torchvision", "numpy", "pycocotools", "accelerate")


def environment(inputs: Inputs, accelerator: Accelerator) -> dict[str, Any]:
    """Give all of it as plain values for ``environment.json``; files by name and sha256."""
    device = accelerator.device
    cuda = device.type == "cuda"
    return {
        "dethead": dethead.__version__,
        "commit": _commit(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        **{name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if cuda else platform.processor(),
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "threads": torch.get_num_threads(),
        "command": sys.argv,
        "files": {n: {"name": p.name, "sha256": sha256_of(p)} for n, p in input_files(inputs).items()},
    }


def input_files(inputs: Inputs) -> dict[str, Path]:
    """Give the files that decide what a run comes to, by what they are; without those that are not used."""
    files = {
        "weights": inputs.weights,
        "train": inputs.train.annotations,
        "val": inputs.val.annotations,
        "teacher": None if inputs.teacher is None else best_of(inputs.teacher),
        "init_from": None if inputs.init_from is None else best_of(inputs.init_from),
    }
    return {name: path for name, path in files.items() if path is not None}


def _commit() -> str | None:
    """Commit of the source that runs, "+" when it was changed; None for an installed package."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    git = ["git", "-C", str(source)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
