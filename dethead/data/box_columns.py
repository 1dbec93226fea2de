"""Annotation records -> columns of numbers: labelled, merged, checked against their images."""

import functools
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dethead.data.classes import Classes
from dethead.data.errors import DataError
from dethead.data.record_types import BoxRecord, ImageRecord

InvalidBoxes = Literal["error", "drop"]
OtherCategories = Literal["background", "ignore"]

# Annotation tools round to whole pixels, so a box may touch the pixel beyond the border.
_BORDER_TOLERANCE = 1.0


class BoxColumns(NamedTuple):
    """N boxes by image, then in the order of the file; the fields are those of ``CocoSet``."""

    starts: Tensor
    boxes: Tensor
    areas: Tensor
    crowd: Tensor
    class_known: Tensor
    trainable: Tensor
    labels: Tensor
    label_starts: Tensor
    weights: Tensor | None
    dropped: dict[str, int]
    clipped: int


def label_boxes(
    records: Sequence[BoxRecord], classes: Classes, other_categories: OtherCategories
) -> list[tuple[BoxRecord, tuple[int, ...]]]:
    """Pair every box with its labels; a box of no chosen category goes, or becomes an ignore region.

    An ignore region without labels is one of every class.
    """
    labelled = []
    labels_of = functools.cache(classes.labels)  # a set has few different lists of categories
    for record in records:
        labels = () if record.categories is None else labels_of(record.categories)
        if labels or record.categories is None:
            labelled.append((record, labels))
        elif other_categories == "ignore":
            labelled.append((record._replace(crowd=True, categories=None), ()))
    return labelled


def merge_equal(
    path: Path, labelled: Sequence[tuple[BoxRecord, tuple[int, ...]]]
) -> list[tuple[BoxRecord, tuple[int, ...]]]:
    """Make one box with several labels of equal boxes of one image. Unknown classes and crowds stay alone.

    Raises:
        DataError: equal boxes of different weights, naming the annotations; ``path`` is theirs.
    """
    merged: dict[object, tuple[BoxRecord, tuple[int, ...]]] = {}
    for record, labels in labelled:
        alone = record.crowd or record.categories is None
        key = record.id if alone else (record.image_id, record.box)
        first, before = merged.get(key, (record, ()))
        if first.weight != record.weight:
            raise DataError(
                f"{path}: annotations {first.id} and {record.id} of image {record.image_id} are one box, but "
                f"have the weights {first.weight:g} and {record.weight:g}; give them the same"
            )
        merged[key] = (first, tuple(sorted({*before, *labels})))
    return [*merged.values()]


def make_columns(
    path: Path,
    labelled: Sequence[tuple[BoxRecord, tuple[int, ...]]],
    images: Sequence[ImageRecord],
    invalid_boxes: InvalidBoxes,
) -> BoxColumns:
    """Sort boxes by image and check them.

    Args:
        path: the annotation file, for error messages.
        labelled: boxes with their labels.
        images: by ascending id.
        invalid_boxes: "error", or "drop" to mark boxes without an area inside their image as not trainable.

    Raises:
        DataError: the first invalid box, if it is to be an error.
    """
    index_of = {image.id: index for index, image in enumerate(images)}
    # Python's sort is stable: boxes of an image keep the order of the file.
    labelled = sorted(labelled, key=lambda pair: index_of[pair[0].image_id])
    image_of = torch.tensor([index_of[record.image_id] for record, _ in labelled], dtype=torch.int64)
    # Flat, because a list of tuples takes a tensor ten times as long to read.
    corners = [*chain.from_iterable([record.box for record, _ in labelled])]
    boxes = torch.tensor(corners, dtype=torch.float64).reshape(-1, 4)
    sizes = torch.tensor([(image.height, image.width) for image in images], dtype=torch.int64).reshape(-1, 2)
    reasons = _invalid(boxes, sizes[image_of])
    invalid = torch.stack([*reasons.values()]).any(dim=0)
    if invalid_boxes == "error" and invalid.any():
        raise _first_invalid(path, labelled, images, image_of, reasons)
    finite = ~reasons["not finite"]
    kept = [pair for pair, keep in zip(labelled, finite.tolist(), strict=True) if keep]
    return BoxColumns(
        starts=_running_sum(torch.bincount(image_of[finite], minlength=len(images))),
        boxes=boxes[finite],
        areas=torch.tensor([record.area for record, _ in kept], dtype=torch.float64),
        crowd=torch.tensor([record.crowd for record, _ in kept], dtype=torch.bool),
        class_known=torch.tensor([record.categories is not None for record, _ in kept], dtype=torch.bool),
        trainable=~invalid[finite],
        labels=torch.tensor([label for _, labels in kept for label in labels], dtype=torch.int64),
        label_starts=_running_sum(torch.tensor([len(labels) for _, labels in kept], dtype=torch.int64)),
        weights=_weights([record.weight for record, _ in kept]),
        dropped={reason: int(rows.sum()) for reason, rows in reasons.items()},
        clipped=int((_reaches_out(boxes, sizes[image_of]) & ~invalid).sum()),
    )


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Cut boxes off at the border of their image.

    Args:
        boxes: (N, 4) x, y, width, height.
        sizes: (N, 2) or (1, 2) int64 (height, width).

    Returns:
        (N, 4) float32 (x1, y1, x2, y2).
    """
    corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
    return corners.clamp(min=0).minimum(sizes.flip(1).repeat(1, 2)).float()


def _weights(values: Sequence[float]) -> Tensor | None:
    weights = torch.tensor(values, dtype=torch.float32)
    return None if (weights == 1).all() else weights  # hardly a file has any: then they cost nothing


def _invalid(boxes: Tensor, sizes: Tensor) -> dict[str, Tensor]:
    """Give the (N,) bool rows of each reason not to train on a box; a box has at most one."""
    finite = boxes.isfinite().all(dim=1)
    has_size = (boxes[:, 2:] > 0).all(dim=1)
    clipped = clip_boxes(boxes.nan_to_num(), sizes)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(dim=1)
    return {
        "not finite": ~finite,
        "no size": finite & ~has_size,
        "outside the image": finite & has_size & ~inside,
    }


def _reaches_out(boxes: Tensor, sizes: Tensor) -> Tensor:
    far = boxes[:, :2] + boxes[:, 2:] > sizes.flip(1) + _BORDER_TOLERANCE
    return (far | (boxes[:, :2] < -_BORDER_TOLERANCE)).any(dim=1)


def _first_invalid(
    path: Path,
    labelled: Sequence[tuple[BoxRecord, tuple[int, ...]]],
    images: Sequence[ImageRecord],
    image_of: Tensor,
    reasons: dict[str, Tensor],
) -> DataError:
    invalid = torch.stack([*reasons.values()])
    row = int(invalid.any(dim=0).nonzero()[0])
    reason = [*reasons][int(invalid[:, row].nonzero()[0])]
    record, image = labelled[row][0], images[int(image_of[row])]
    return DataError(
        f"{path}: annotation {record.id} of image {image.id} ({image.file_name}, {image.width} px wide, "
        f"{image.height} px high): box {[*record.box]} (x, y, width, height) is invalid: {reason}; "
        f"{int(invalid.sum())} invalid boxes in all. Correct them, or go without them with "
        "data.invalid_boxes=drop"
    )


def _running_sum(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
