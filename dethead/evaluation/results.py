"""COCO results files: a JSON list with image_id, category_id, bbox (xywh) and score per detection.

Ours carry two keys more, ``class_probability`` and ``confidence``, so that the branches can be judged apart.
Other readers ignore them; where a file has none, the values are nan.
"""

import contextlib
import gc
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dethead.data.coco import CocoSet
from dethead.evaluation.arrays import DetectionArrays, EvaluationInput, Floats, Ints, TruthArrays
from dethead.evaluation.order import ranges
from dethead.structures import Detections

_EXTRA_KEYS = ("class_probability", "confidence")


class ResultsError(ValueError):
    """A results file holds what cannot be: the message names the file, the row and the value."""


def write_results(
    path: Path, image_ids: Sequence[int], detections: Sequence[Detections], category_ids: Sequence[int]
) -> None:
    """Write detections as a COCO results file; a file that was there is replaced in one step.

    Every number is written with all its digits: reading the file gives the same metrics as the detections.

    Args:
        path: the file, in a folder that exists.
        image_ids: as in the annotation file.
        detections: one for each image, xyxy in original pixels.
        category_ids: (C,) category id of each label.

    Raises:
        ValueError: lists of different lengths, a category id that stands for two labels, a label without
            category id, or a value that is not finite.
    """
    if len(image_ids) != len(detections):
        raise ValueError(f"{len(detections)} detections for {len(image_ids)} image ids: give one for each")
    if len(set(category_ids)) < len(category_ids):
        raise ValueError(
            f"two labels share a category id, results could not be told apart: {[*category_ids]}"
        )
    rows = [
        json.dumps(row, allow_nan=False)
        for image_id, found in zip(image_ids, detections, strict=True)
        for row in _rows(int(image_id), found, category_ids)
    ]
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("[" + ",\n".join(rows) + "]\n")
        os.chmod(temporary, 0o644)  # mkstemp's file is for its owner alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_results(path: Path, coco_set: CocoSet) -> dict[int, Detections]:
    """Read a results file as detections of every image of the set.

    Args:
        path: the file.
        coco_set: the annotations the results are of.

    Returns:
        Image id -> detections, best score first, boxes float64 xyxy in original pixels; every image of the
        set is there, in its order. A category that the set does not use is left out; one that belongs to
        several classes gives a detection of each.

    Raises:
        ResultsError: see ``read_evaluation``.
    """
    table = _read(path, coco_set)
    order = np.lexsort((-table.scores, table.image))
    starts = np.searchsorted(table.image[order], np.arange(len(coco_set.image_ids) + 1))
    return {
        int(image_id): _detections(table, order[starts[row] : starts[row + 1]])
        for row, image_id in enumerate(coco_set.image_ids.tolist())
    }


def read_evaluation(path: Path, coco_set: CocoSet) -> EvaluationInput:
    """Read a results file and join it with the truth, boxes bit for bit as in the two files.

    Raises:
        ResultsError: text that is not JSON or not a list of objects, a row without image_id, category_id,
            bbox or score, an image or category id the annotations do not have, a box that is not four
            finite numbers with width and height >= 0, or a score that is not finite.
    """
    table = _read(path, coco_set)
    found = DetectionArrays(table.image, table.label, table.boxes, table.scores)
    return EvaluationInput(coco_set.image_ids.numpy(), coco_set.classes.names, set_truth(coco_set), found)


def set_truth(coco_set: CocoSet) -> TruthArrays:
    """Give ``evaluation_truth`` of all images at once, a hundred times faster than one after the other."""
    known = coco_set.class_known.numpy()
    label_starts = coco_set.label_starts.numpy()
    # A box whose class is not known is a crowd of every class.
    counts = np.where(known, np.diff(label_starts), len(coco_set.classes.names))
    box = np.repeat(np.arange(len(known)), counts)
    label = ranges(np.zeros_like(counts), counts)
    labelled = known[box]
    label[labelled] = coco_set.labels.numpy()[(label_starts[box] + label)[labelled]]
    image = np.repeat(np.arange(len(coco_set)), np.diff(coco_set.starts.numpy()))
    crowd = coco_set.crowd.numpy() | ~known
    return TruthArrays(
        image[box], label, coco_set.boxes.numpy()[box], coco_set.areas.numpy()[box], crowd[box]
    )


class _Table(NamedTuple):
    """The rows of a file as columns; a row of two classes is there twice."""

    image: Ints
    """(N,) row in the set's image ids."""
    label: Ints
    """(N,) in [0, C)."""
    boxes: Floats
    """(N, 4) xywh."""
    scores: Floats
    """(N,)"""
    class_probabilities: Floats
    """(N,) nan where the file has none."""
    confidence: Floats
    """(N,) nan where the file has none."""


def _detections(table: _Table, rows: Ints) -> Detections:
    boxes = table.boxes[rows]
    boxes[:, 2:] += boxes[:, :2]
    return Detections(
        boxes=torch.from_numpy(boxes),
        scores=torch.from_numpy(table.scores[rows]),
        labels=torch.from_numpy(table.label[rows]),
        class_probabilities=torch.from_numpy(table.class_probabilities[rows]),
        confidence=torch.from_numpy(table.confidence[rows]),
    )


def _rows(image_id: int, found: Detections, category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Write the detections of one image as the rows of a results file."""
    boxes = found.boxes.detach().cpu().double()
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
    columns = (column.tolist() for column in found[1:])
    for box, score, label, *extras in zip(boxes.tolist(), *columns, strict=True):
        if not 0 <= label < len(category_ids):
            raise ValueError(
                f"image {image_id}: label {label} has no category id, there are {len(category_ids)}"
            )
        row = {"image_id": image_id, "category_id": int(category_ids[label]), "bbox": box, "score": score}
        known = zip(_EXTRA_KEYS, extras, strict=True)
        yield row | {key: value for key, value in known if not math.isnan(value)}


def _read(path: Path, coco_set: CocoSet) -> _Table:
    with _without_garbage_collection():
        rows = _load(path)
        table = _columns(rows, coco_set)
        if table is None:
            known = {"image_id": {*coco_set.image_ids.tolist()}, "category_id": {*coco_set.classes.labels_of}}
            faults = (_fault(row, known) for row in rows)
            raise ResultsError(next(f"{path}: row {i}: {fault}" for i, fault in enumerate(faults) if fault))
    return table


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    # Half a million new dictionaries make the collector look through all of them again and again, which
    # takes longer than to parse them. There are no cycles to find in JSON.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: is not UTF-8 text at byte {error.start}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ResultsError(f"{path}: {where}: not JSON: {error.msg}") from error
    if not isinstance(rows, list):
        raise ResultsError(f"{path}: must hold a list of detections, holds {type(rows).__name__}")
    return rows


def _columns(rows: list[Any], coco_set: CocoSet) -> _Table | None:
    """Turn rows into columns, all at once; None when any row is not as it must be (``_fault`` says which)."""
    try:
        image_ids, category_ids, scores = (
            np.array([row[key] for row in rows] or np.zeros(0, np.int64))
            for key in ("image_id", "category_id", "score")
        )
        boxes = np.array([row["bbox"] for row in rows] or np.zeros((0, 4)))
        extras = [np.array([row.get(key, math.nan) for row in rows]) for key in _EXTRA_KEYS]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    columns = [image_ids, category_ids, scores, boxes, *extras]
    if any(column.dtype.kind not in "iuf" for column in columns) or boxes.shape != (len(rows), 4):
        return None
    if (
        any(column.ndim != 1 or np.isinf(column).any() for column in [scores, *extras])
        or np.isnan(scores).any()
    ):
        return None
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < 0).any():
        return None
    image = _places(image_ids, coco_set.image_ids.numpy())
    category = _places(category_ids, np.array(sorted(coco_set.classes.labels_of), dtype=np.int64))
    if image is None or category is None:
        return None
    row, label = _labels(category, coco_set)
    found = [column.astype(np.float64)[row] for column in (boxes, scores, *extras)]
    return _Table(image[row], label, *found)


def _places(values: NDArray[Any], known: Ints) -> Ints | None:
    """Find values among ascending known ones; None if one is not there."""
    if values.ndim != 1 or (len(values) and not len(known)):
        return None
    places = np.minimum(np.searchsorted(known, values), max(len(known) - 1, 0))
    return places if (known[places] == values).all() else None


def _labels(category: Ints, coco_set: CocoSet) -> tuple[Ints, Ints]:
    """Give (row, label) of every pair, by row; ``category`` is a place among the sorted category ids."""
    labels_of = [labels for _, labels in sorted(coco_set.classes.labels_of.items())]
    flat = np.array([label for labels in labels_of for label in labels], dtype=np.int64)
    counts = np.array([len(labels) for labels in labels_of], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    row = np.repeat(np.arange(len(category)), counts[category])
    first = np.cumsum(counts[category]) - counts[category]  # the first pair of each row
    return row, flat[starts[category[row]] + np.arange(len(row)) - first[row]]


def _fault(row: Any, known: Mapping[str, set[int]]) -> str | None:
    """Say what is wrong with a row, or None."""
    if not isinstance(row, dict):
        return f"must be an object, is {row!r}"
    for key in ("image_id", "category_id", "bbox", "score"):
        if key not in row:
            return f"{key} is missing"
    for key, ids in known.items():
        if not _is_number(row[key]) or row[key] not in ids:
            return f"{key} {row[key]!r} is not in the annotations"
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)) or min(box[2:]) < 0:
        return f"bbox must be 4 finite numbers x, y, width >= 0, height >= 0, is {box!r}"
    for key in ("score", *_EXTRA_KEYS):
        if key in row and not _is_number(row[key]):
            return f"{key} must be a finite number, is {row[key]!r}"
    return None


def _is_number(value: Any) -> bool:
    # True is an int to Python; an int beyond 64 bits is none to NumPy.
    return isinstance(value, int | float) and type(value) is not bool and abs(value) < 2**63
