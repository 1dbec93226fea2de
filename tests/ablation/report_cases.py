"""Folders of ablations as trainings would leave them, with drawn detections in the place of trained ones."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from plans import plan_of

from dethead.ablation.fingerprint import fingerprint
from dethead.ablation.folders import AblationFolder, run_folder
from dethead.ablation.plan import PlannedRun
from dethead.ablation.status import Status, now, write_status
from dethead.config import dump
from dethead.data import CocoSet
from dethead.evaluation import coco_metrics, read_evaluation
from dethead.files import write_json
from dethead.training import Inputs

PAIR = "{a: {}, b: {class_scheme: {name: sigmoid_bce}}}"
ERROR = "FloatingPointError: the gradient is not finite <at step 7> & so on"


def make_ablation(
    folder: Path,
    data: Path,
    variants: str = PAIR,
    *,
    seeds: str = "2",
    states: Mapping[str, str] | None = None,
    shifts: Mapping[str, float] | None = None,
) -> Path:
    """Leave an ablation in ``folder / "out"``.

    Args:
        folder: for the plan, too.
        data: the data set.
        variants: YAML, ``a`` is the baseline.
        seeds: YAML.
        states: by the name of a run, "finished" for those not named.
        shifts: by variant, how far its boxes lie beside the truth, in their sizes; 0.1 if not named.
    """
    plan, out, inputs = (
        plan_of(folder, variants, seeds=seeds),
        folder / "out",
        Inputs.find(data, device="cpu"),
    )
    made_of = fingerprint(inputs)
    AblationFolder(out).write(plan, made_of)
    coco = CocoSet.read(inputs.val.annotations, plan.variant("a").run.data.classes)
    for planned in plan.runs():
        state = (states or {}).get(planned.name, "finished")
        path = run_folder(out, planned, made_of["sha256"])
        if state != "waiting":
            path.mkdir()
            leave_run(path, planned, coco, state, (shifts or {}).get(planned.variant.name, 0.1))
    return out


def leave_run(path: Path, planned: PlannedRun, coco: CocoSet, state: str, shift: float) -> None:
    """Write what a run leaves behind when it ends in this state."""
    (path / "config.yaml").write_text(dump(planned.run))
    versions = {"dethead": "0.1.0", "commit": "abc", "python": "3.11.7", "torch": "2.8.0", "files": {}}
    write_json(path / "environment.json", versions)
    seed = [planned.run.seed, zlib.crc32((planned.variant.same_as or planned.variant.name).encode())]
    write_log(path, 1.0 + planned.seed, epochs=2 if state == "finished" else 1)
    if state == "finished":
        (path / "detections.json").write_text(json.dumps(detections(coco, seed, shift)))
        metrics = coco_metrics(read_evaluation(path / "detections.json", coco)).as_dict()
        write_metrics(path, {"epoch": 2, "step": 4, **metrics, "losses": {"total": 3.0, "box": 1.0}})
    write_status(path, Status(state, ERROR if state == "failed" else None, 1, "host", now(), now(), 60.0))


def write_metrics(path: Path, last: dict[str, Any]) -> None:
    totals = {"train_seconds": 60.0, "images_per_s": 8.0, "peak_memory_bytes": 2**30, "parameters": 5_000_000}
    skipped = {"unreadable": {"train": 0, "val": 0}}
    write_json(path / "metrics.json", {"best": last, "last": last, **totals, **skipped})


def write_log(path: Path, level: float, epochs: int) -> None:
    """Two lines of training and one of validation for each epoch; every number is a multiple of ``level``."""
    lines: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        for part in (0.5, 0.0):
            terms = {"total": 3 * level / epoch, "box": level / epoch}
            lines.append({"step": 2 * epoch, "epoch": epoch - part, **terms, "images_per_s": 8.0, "lr": 0.01})
        val = {"AP": 0.1 * level * epoch, "AP50": 0.2, "AP75": None, "total": 4 * level, "box": 2 * level}
        lines.append({"step": 2 * epoch, "epoch": epoch, "val": val})
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def detections(coco: CocoSet, seed: list[int], shift: float) -> list[dict[str, Any]]:
    """Most objects with a box beside theirs, some of another class, and one box of nothing in each image."""
    draw, rows = np.random.default_rng(seed), []
    ids = coco.classes.category_ids
    for place, image_id in enumerate(coco.image_ids.tolist()):
        truth = coco.evaluation_truth(place)
        for box, label in zip(truth.boxes.numpy(), truth.labels.tolist(), strict=True):
            if draw.random() < 0.9:
                moved = box + np.append(draw.normal(0, shift, 2) * box[2:], [0, 0])
                named = label if draw.random() < 0.9 else (label + 1) % len(ids)
                rows.append(_row(image_id, ids[named], moved, draw.uniform(0.5, 1), draw.uniform(0.6, 1)))
        nothing = np.array([1.0, 60.0, 6.0, 6.0])
        rows.append(_row(image_id, ids[0], nothing, draw.uniform(0.3, 0.6), draw.uniform(0, 0.6)))
    return rows


def _row(image_id: int, category: int, box: np.ndarray, sure: float, confidence: float) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": box.tolist(),
        "score": sure * confidence,
        "class_probability": sure,
        "confidence": confidence,
    }


def folder_of(out: Path, name: str) -> Path:
    """The folder of a run by its name, such as ``a-seed0``."""
    return next((out / "runs").glob(f"{name}-*"))


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
