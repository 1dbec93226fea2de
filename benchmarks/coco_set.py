"""A drawn set of truth and detections, as arrays and as COCO files.

80 classes of very different frequency, 7.2 objects per image, 1 % crowd, 100 detections per image, half of
them near an object. The seed is fixed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dethead.evaluation.arrays import DetectionArrays, EvaluationInput, TruthArrays

CLASSES = 80
SIZE = 640.0  # px, width and height of every image
OBJECTS, DETECTIONS = 7.2, 100  # per image
_BLOCK = 100_000  # rows written at a time


def draw_set(detections: int) -> EvaluationInput:
    """Draw truth and detections; a third of the objects is small, a third medium, a third large."""
    draw = np.random.default_rng(0)
    images = max(1, detections // DETECTIONS)
    objects = round(images * OBJECTS)
    frequency = 1 / np.arange(1, CLASSES + 1)
    image = np.sort(draw.integers(0, images, objects))
    label = draw.choice(CLASSES, objects, p=frequency / frequency.sum())
    size = 2.0 ** draw.uniform(3, 8.5, (objects, 2))
    boxes = np.concatenate([draw.uniform(0, 1, (objects, 2)) * (SIZE - size), size], axis=1).round(2)
    areas = (boxes[:, 2] * boxes[:, 3] * draw.uniform(0.5, 1.0, objects)).round(4)
    truth = TruthArrays(image, label, boxes, areas, draw.random(objects) < 0.01)

    near = draw.random(detections) < 0.5
    of = draw.integers(0, objects, detections)
    size = 2.0 ** draw.uniform(3, 8.5, (detections, 2))
    found = np.concatenate([draw.uniform(0, 1, (detections, 2)) * (SIZE - size), size], axis=1)
    spread = draw.choice([0.03, 0.1, 0.3], (detections, 1)) * boxes[of][:, [2, 3, 2, 3]]
    found[near] = (boxes[of] + draw.normal(0, 1, (detections, 4)) * spread)[near]
    found[:, 2:] = np.maximum(found[:, 2:], 1.0)
    where = np.where(near, image[of], draw.integers(0, images, detections))
    what = np.where(
        near & (draw.random(detections) < 0.8),
        label[of],
        draw.choice(CLASSES, detections, p=frequency / frequency.sum()),
    )
    scores = np.clip(draw.beta(1, 4, detections) + 0.3 * near * draw.random(detections), 0, 1).round(4)
    order = np.argsort(where, kind="stable")
    results = DetectionArrays(where[order], what[order], found[order].round(2), scores[order])
    names = tuple(f"class {number}" for number in range(CLASSES))
    return EvaluationInput(np.arange(1, images + 1), names, truth, results)


def annotation_dict(given: EvaluationInput) -> dict[str, Any]:
    """Write the truth in COCO's format, category ids from 1."""
    columns = [column.tolist() for column in given.truth]
    annotations = [
        {
            "id": i,
            "image_id": image + 1,
            "category_id": label + 1,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for i, (image, label, box, area, crowd) in enumerate(zip(*columns, strict=True), start=1)
    ]
    images = [
        {"id": i, "file_name": f"{i}.jpg", "width": int(SIZE), "height": int(SIZE)}
        for i in given.image_ids.tolist()
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(given.class_names)]
    return {"images": images, "categories": categories, "annotations": annotations}


def matrix(given: EvaluationInput) -> np.ndarray[Any, Any]:
    """Write the detections as the (N, 7) array that COCO APIs take: image, x, y, w, h, score, category."""
    image, label, boxes, scores = given.detections[:4]
    return np.column_stack([image + 1, boxes, scores, label + 1])


def write_set(folder: Path, given: EvaluationInput) -> None:
    """Write ``annotations.json``, ``results.json``, and ``arrays.npz`` for ``load_set``."""
    (folder / "annotations.json").write_text(json.dumps(annotation_dict(given)))
    with (folder / "results.json").open("w") as file:
        file.write("[")
        for start in range(0, len(given.detections.label), _BLOCK):
            rows = _result_rows(given.detections, slice(start, start + _BLOCK))
            file.write(", " * (start > 0) + json.dumps(rows)[1:-1])
        file.write("]")
    columns = {f"truth_{name}": column for name, column in given.truth._asdict().items()}
    columns |= {name: getattr(given.detections, name) for name in DetectionArrays._fields[:4]}
    np.savez(folder / "arrays.npz", image_ids=given.image_ids, names=given.class_names, **columns)


def load_set(folder: Path) -> EvaluationInput:
    """Read the arrays that ``write_set`` wrote."""
    with np.load(folder / "arrays.npz") as columns:
        truth = TruthArrays(*(columns[f"truth_{name}"] for name in TruthArrays._fields))
        found = DetectionArrays(*(columns[name] for name in DetectionArrays._fields[:4]))
        return EvaluationInput(columns["image_ids"], tuple(columns["names"].tolist()), truth, found)


def _result_rows(found: DetectionArrays, rows: slice) -> list[dict[str, Any]]:
    columns = [column[rows].tolist() for column in (found.image, found.label, found.boxes, found.scores)]
    return [
        {"image_id": image + 1, "category_id": label + 1, "bbox": box, "score": score}
        for image, label, box, score in zip(*columns, strict=True)
    ]
