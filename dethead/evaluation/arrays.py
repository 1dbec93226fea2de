"""What is evaluated, as plain NumPy arrays: the one form that files, evaluators and engines share.

I images, C classes, M truth rows and N detections of all images together. Boxes are float64
``(x, y, width, height)`` in pixels of the original image, as in COCO files: pycocotools computes areas and
overlaps from these four numbers, and the way over corners and back would change their last digit.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dethead.data.coco import CocoTruth
from dethead.structures import Detections

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class TruthArrays(NamedTuple):
    """Every (object, label) pair of the set, in the order of the annotation file within an image."""

    image: Ints
    """(M,) row in ``image_ids``."""
    label: Ints
    """(M,) in [0, C)."""
    boxes: Floats
    """(M, 4) xywh."""
    areas: Floats
    """(M,) square pixels, the annotation's ``area``."""
    crowd: Bools
    """(M,) a region of many objects: absorbs detections, is never missed."""


class DetectionArrays(NamedTuple):
    """Every detection of the set; within an image and class, equal scores keep their order."""

    image: Ints
    """(N,) row in ``image_ids``."""
    label: Ints
    """(N,) in [0, C)."""
    boxes: Floats
    """(N, 4) xywh."""
    scores: Floats
    """(N,)"""
    class_probabilities: Floats | None = None
    """(N,) what the class branch says of the label, nan where unknown; None: known of no detection."""
    confidence: Floats | None = None
    """(N,) what the confidence branch says; nan and None as above."""


class EvaluationInput(NamedTuple):
    """A whole evaluation: images without truth or detections are listed in ``image_ids`` all the same."""

    image_ids: Ints
    """(I,) ascending, each once. Ties between scores of different images follow this order."""
    class_names: tuple[str, ...]
    """(C,)"""
    truth: TruthArrays
    detections: DetectionArrays


class ImageRecord(NamedTuple):
    """One image with its truth and detections: picklable, so processes can gather it."""

    image_id: int
    truth: TruthArrays
    detections: DetectionArrays


NO_TRUTH = TruthArrays(
    np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.bool_)
)
NO_DETECTIONS = DetectionArrays(
    np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0), np.zeros(0)
)


def image_record(detections: Detections, truth: CocoTruth, num_classes: int) -> ImageRecord:
    """Take one image out of torch, in float64, with row 0 as its image.

    Args:
        detections: boxes xyxy in original pixels, float32 or float64, on any device.
        truth: of the same image.
        num_classes: C.

    Raises:
        ValueError: an image id or a label that is no integer, a label outside [0, C), a number that is not
            finite, a detection of negative size; the message names the image id, the row and the value.
    """
    image_id = _image_id(truth)
    boxes = _xywh(_numpy(detections.boxes))
    scores, probabilities, confidence = (
        _numpy(values).astype(np.float64)
        for values in (detections.scores, detections.class_probabilities, detections.confidence)
    )
    where = f"image {image_id}, detection"
    labels = _labels(detections.labels, where)
    found = DetectionArrays(_zeros(len(boxes)), labels, boxes, scores, probabilities, confidence)
    _check(found.label, boxes, scores, num_classes, where)
    if not len(scores) == len(probabilities) == len(confidence):
        counts = f"{len(probabilities)} class probabilities and {len(confidence)} confidences"
        raise ValueError(f"{where}s: {len(scores)} scores, but {counts}")
    if (boxes[:, 2:] < 0).any():
        row = int((boxes[:, 2:] < 0).any(axis=1).argmax())
        raise ValueError(
            f"{where} {row}: width and height must not be negative, got {boxes[row, 2:].tolist()}"
        )
    return ImageRecord(image_id, truth_arrays(truth, num_classes), found)


def truth_arrays(truth: CocoTruth, num_classes: int) -> TruthArrays:
    """Take the truth of one image out of torch, with row 0 as its image.

    Raises:
        ValueError: as in ``image_record``. A negative size is let through: such an object counts as missed.
    """
    where = f"image {truth.image_id}, object"
    arrays = TruthArrays(
        _zeros(len(truth.labels)),
        _labels(truth.labels, where),
        _numpy(truth.boxes).astype(np.float64).reshape(-1, 4),
        _numpy(truth.areas).astype(np.float64),
        _numpy(truth.crowd).astype(np.bool_),
    )
    _check(arrays.label, arrays.boxes, arrays.areas, num_classes, where)
    if arrays.crowd.shape != arrays.label.shape:
        raise ValueError(f"{where}s: {len(arrays.label)} labels, but crowd is {arrays.crowd.shape}")
    return arrays


def join_records(records: Iterable[ImageRecord], class_names: Sequence[str]) -> EvaluationInput:
    """Put images together, in the order of their ids, whatever order they come in."""
    ordered = sorted(records, key=lambda record: record.image_id)
    truth = _join([record.truth for record in ordered], NO_TRUTH)
    detections = _join([record.detections for record in ordered], NO_DETECTIONS)
    image_ids = np.array([record.image_id for record in ordered], dtype=np.int64)
    return EvaluationInput(image_ids, tuple(class_names), TruthArrays(*truth), DetectionArrays(*detections))


def _join(
    parts: Sequence[TruthArrays] | Sequence[DetectionArrays], nothing: TruthArrays | DetectionArrays
) -> list[Any]:
    """Concatenate field by field; the image becomes the part's place in the list."""
    image = np.repeat(np.arange(len(parts)), [len(part.label) for part in parts])
    columns: Iterable[Sequence[Any]] = zip(*parts, strict=True) if parts else ([one] for one in nothing)
    # A column that one part does not have is known of none.
    joined = [
        None if any(part is None for part in column) else np.concatenate(column)
        for column in list(columns)[1:]
    ]
    return [image, *joined]


def _numpy(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().cpu().numpy()
    return array


def _image_id(truth: CocoTruth) -> int:
    """A plain number, also of a tensor: two tensors of one number would be two images."""
    try:
        return operator.index(truth.image_id)
    except TypeError:
        raise ValueError(f"image_id must be an integer, got {truth.image_id!r}") from None


def _labels(values: Tensor, where: str) -> Ints:
    given = _numpy(values)
    with np.errstate(invalid="ignore"):  # nan has no whole number, and is refused below
        labels: Ints = given.astype(np.int64)
    if (wrong := given != labels).any():
        row = int(wrong.argmax())
        raise ValueError(f"{where} {row}: label {given[row]} is not an integer")
    return labels


def _xywh(boxes: NDArray[Any]) -> Floats:
    # The subtraction is done in float64: float32 sizes would be rounded once more.
    corners = boxes.astype(np.float64).reshape(-1, 4)
    corners[:, 2:] -= corners[:, :2]
    return corners


def _zeros(count: int) -> Ints:
    return np.zeros(count, dtype=np.int64)


def _check(labels: Ints, boxes: Floats, numbers: Floats, num_classes: int, what: str) -> None:
    if not len(labels) == len(boxes) == len(numbers):
        raise ValueError(f"{what}s: {len(boxes)} boxes, {len(labels)} labels, {len(numbers)} scores or areas")
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{what} {row}: label {labels[row]} is not in [0, {num_classes})")
    wrong = ~np.isfinite(numbers) | ~np.isfinite(boxes).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{what} {row}: box {boxes[row].tolist()} (x, y, width, height) and {numbers[row]} must be finite"
        )
