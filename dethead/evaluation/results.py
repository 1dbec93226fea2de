"""COCO results files: a JSON list with image_id, category_id, bbox (xywh) and score per detection.

Ours carry two keys more, ``class_probability`` and ``confidence``, so that the branches can be judged apart.
Other readers ignore them; where a file has none, the values are nan.
"""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dethead.data.coco import CocoSet
from dethead.evaluation.arrays import DetectionArrays, EvaluationInput, Ints, TruthArrays
from dethead.evaluation.order import ranges
from dethead.evaluation.result_checks import EXTRA_KEYS, ResultsError
from dethead.evaluation.result_rows import ResultColumns, read_columns
from dethead.structures import Detections

__all__ = ["ResultsError", "read_evaluation", "read_results", "set_truth", "write_results"]


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
    table = read_columns(path, coco_set)
    order = np.lexsort((-table.scores, table.image))
    starts = np.searchsorted(table.image[order], np.arange(len(coco_set.image_ids) + 1))
    return {
        int(image_id): _detections(table, order[starts[row] : starts[row + 1]])
        for row, image_id in enumerate(coco_set.image_ids.tolist())
    }


def read_evaluation(path: Path, coco_set: CocoSet) -> EvaluationInput:
    """Read a results file and join it with the truth, boxes bit for bit as in the two files.

    Class probability and confidence are None where no row has them.

    Raises:
        ResultsError: text that is not JSON or not a list of objects, a row without image_id, category_id,
            bbox or score, an image or category id the annotations do not have, a box that is not four
            finite numbers with width and height >= 0, or a score that is not finite.
    """
    image, label, boxes, scores, *extras = read_columns(path, coco_set)
    known = [None if np.isnan(values).all() else values for values in extras]
    found = DetectionArrays(image, label, boxes, scores, *known)
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


def _detections(table: ResultColumns, rows: Ints) -> Detections:
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
        known = zip(EXTRA_KEYS, extras, strict=True)
        yield row | {key: value for key, value in known if not math.isnan(value)}
