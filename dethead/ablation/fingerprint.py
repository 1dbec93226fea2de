"""What the runs of an ablation are made of beside their configs: data, weights, and where they lie."""

import hashlib
import json
from pathlib import Path
from typing import Any

from dethead.data import Split
from dethead.files import sha256_of
from dethead.training import Inputs
from dethead.training.environment import input_files

SPLITS = ("train", "val")
PATHS = ("weights", "init_from", "teacher")
"""Of inputs beside the splits; None where there is none."""


def fingerprint(inputs: Inputs) -> dict[str, Any]:
    """Give what goes into ``data.json``.

    ``train`` and ``val`` with the paths of their annotations and images and the sha256 of the annotations;
    ``weights``, ``teacher`` and ``init_from``, where they are used, with path and sha256; and over all of
    them one ``sha256``, the same wherever the files lie.
    """
    entries: dict[str, Any] = {
        name: {"path": str(path.absolute()), "sha256": sha256_of(path)}
        for name, path in sorted(input_files(inputs).items())
    }
    for name in SPLITS:
        split: Split = getattr(inputs, name)
        entries[name] = {
            "annotations": str(split.annotations.absolute()),
            "images": str(split.images.absolute()),
            "sha256": entries[name]["sha256"],
        }
    content = json.dumps({name: entry["sha256"] for name, entry in entries.items()}, sort_keys=True)
    return {**entries, "sha256": hashlib.sha256(content.encode()).hexdigest()}


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Say in what two fingerprints differ, "train: sha256 0a1b2c3d4e5f -> 5f4e3d2c1b0a"; None if in nothing.

    Args:
        before: name -> entry with a ``sha256``; the one over all, and paths, are not looked at.
        now: likewise.
    """
    names = [name for name in {**before, **now} if name != "sha256"]
    digests = [(name, _digest(before, name), _digest(now, name)) for name in names]
    changes = [f"{name}: sha256 {old} -> {new}" for name, old, new in digests if old != new]
    return ", ".join(changes) or None


def _digest(entries: dict[str, Any], name: str) -> str:
    return str(entries[name]["sha256"])[:12] if name in entries else "none"


def inputs_as_json(inputs: Inputs) -> dict[str, Any]:
    """Give inputs as plain values, paths from the root, for a process that works in another folder."""
    values: dict[str, Any] = {
        name: {"annotations": str(split.annotations.absolute()), "images": str(split.images.absolute())}
        for name, split in zip(SPLITS, (inputs.train, inputs.val), strict=True)
    }
    for name in PATHS:
        path: Path | None = getattr(inputs, name)
        values[name] = None if path is None else str(path.absolute())
    return values | {
        "device": inputs.device,
        "workers": inputs.workers,
        "trackers": list(inputs.trackers),
    }


def inputs_from_json(values: dict[str, Any]) -> Inputs:
    """Read what ``inputs_as_json`` gave."""
    train, val = (Split(*(Path(values[name][key]) for key in Split._fields)) for name in SPLITS)
    weights, init_from, teacher = (values[key] and Path(values[key]) for key in PATHS)
    return Inputs(
        train=train,
        val=val,
        weights=weights,
        init_from=init_from,
        teacher=teacher,
        device=values["device"],
        workers=values["workers"],
        trackers=tuple(values["trackers"]),
    )
