"""A COCO annotation file as compact arrays: the truth for training, and the truth for evaluation."""

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dethead.data.box_columns import (
    InvalidBoxes,
    OtherCategories,
    clip_boxes,
    label_boxes,
    make_columns,
    merge_equal,
)
from dethead.data.classes import ClassChoice, Classes, Hierarchy, choose_classes
from dethead.data.errors import DataError
from dethead.data.garbage import without_garbage_collection
from dethead.data.records import read_records
from dethead.structures import UNKNOWN_CLASS, GroundTruth

__all__ = ["Classes", "CocoSet", "CocoTruth", "DataError", "choose_classes"]

_log = logging.getLogger(__name__)


class CocoTruth(NamedTuple):
    """What is in one image, as COCO's protocol wants it: a row for each pair of box and label."""

    image_id: int
    boxes: Tensor
    """(M, 4) float64 x, y, width, height in original pixels, bit for bit as in the file."""
    labels: Tensor
    """(M,) int64 in [0, C)"""
    crowd: Tensor
    """(M,) bool; a crowd row is never missed, and absorbs any number of detections of its label."""
    areas: Tensor
    """(M,) float64 px^2: the annotation's ``area``, else width * height."""


@dataclass(frozen=True, eq=False)
class CocoSet:
    """I images with N boxes. No Python object per image or box, so that worker processes share it.

    Images run by ascending id, boxes by image and then as in the file. ``CocoSet.read`` makes it.
    """

    path: Path
    """The annotation file."""
    classes: Classes
    image_ids: Tensor
    """(I,) int64, ascending."""
    sizes: Tensor
    """(I, 2) int64 (height, width)."""
    names: Tensor
    """uint8: all file names, joined, in UTF-8."""
    name_starts: Tensor
    """(I + 1,) int64: where the name of each image begins."""
    starts: Tensor
    """(I + 1,) int64: row of the first box of each image."""
    boxes: Tensor
    """(N, 4) float64 x, y, width, height in original pixels, bit for bit as in the file."""
    areas: Tensor
    """(N,) float64 px^2"""
    crowd: Tensor
    """(N,) bool: an ignore region."""
    class_known: Tensor
    """(N,) bool; False: an object, or an ignore region, of unknown class."""
    trainable: Tensor
    """(N,) bool: the part inside the image has an area."""
    labels: Tensor
    """(number of pairs of box and label,) int64 in [0, C), by box."""
    label_starts: Tensor
    """(N + 1,) int64: where the labels of each box begin. A box of unknown class has none."""
    weights: Tensor | None = None
    """(N,) float32 >= 0: sample weights for training; None: 1 each. Evaluation counts every box as one."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Boxes not trained on, by reason; all 0 unless ``invalid_boxes`` is "drop"."""
    clipped: int = 0
    """Boxes that reach out of their image by more than a pixel, cut off at its border for training."""

    @classmethod
    @without_garbage_collection()
    def read(
        cls,
        annotations: Path,
        classes: ClassChoice = None,
        *,
        hierarchy: Hierarchy | None = None,
        other_categories: OtherCategories = "background",
        ignore_index: int = UNKNOWN_CLASS,
        invalid_boxes: InvalidBoxes = "error",
        merge_equal_boxes: bool = False,
    ) -> "CocoSet":
        """Read and check a COCO annotation file.

        Beyond the format, ``category_ids: [1, 3]`` gives a box several labels, ``category_id: null`` (or
        ``ignore_index``) is an object of unknown class, and ``weight: 0.5`` is a sample weight.

        Args:
            annotations: the JSON file.
            classes: which categories, in which order, under which names; see ``choose_classes``.
            hierarchy: parent classes, whose label the boxes of the classes below carry, too.
            other_categories: what a box of a category that was not chosen is: nothing, or an ignore region.
            ignore_index: the ``category_id`` that means "class unknown".
            invalid_boxes: "error", or "drop" to leave boxes without an area inside their image out of the
                training and to count them in ``dropped``. Evaluation keeps them, as pycocotools does, unless
                a coordinate is not finite.
            merge_equal_boxes: make one box with several labels of equal boxes with different categories.

        Raises:
            DataError: anything wrong with the file, named by file, record and value.
        """
        records = read_records(annotations, ignore_index)
        categories = [category._asdict() for category in records.categories]
        chosen = choose_classes(categories, classes, hierarchy)
        labelled = label_boxes(records.boxes, chosen, other_categories)
        if merge_equal_boxes:
            labelled = merge_equal(annotations, labelled)
        columns = make_columns(annotations, labelled, records.images, invalid_boxes)
        if columns.clipped:
            _log.warning(
                "%s: %d boxes reach out of their image; training cuts them off at its border",
                annotations,
                columns.clipped,
            )
        names = [image.file_name.encode() for image in records.images]
        return cls(
            path=annotations,
            classes=chosen,
            image_ids=torch.tensor([image.id for image in records.images], dtype=torch.int64),
            sizes=torch.tensor([(image.height, image.width) for image in records.images]),
            # torch.frombuffer takes no empty buffer.
            names=torch.frombuffer(bytearray(b"".join([*names, b"\0"])), dtype=torch.uint8),
            name_starts=torch.tensor([0, *map(len, names)]).cumsum(0),
            **columns._asdict(),
        )

    def __len__(self) -> int:
        """Give I, the number of images, those without a box included."""
        return len(self.image_ids)

    def file_name(self, index: int) -> str:
        """Give the path of an image, relative to the image folder."""
        start, end = self.name_starts[index : index + 2].tolist()
        return self.names[start:end].numpy().tobytes().decode()

    def truth(self, index: int) -> GroundTruth:
        """Give the truth for training: boxes (x1, y1, x2, y2) in original pixels, cut off at the border."""
        rows = self._rows(index)
        boxes = clip_boxes(self.boxes[rows], self.sizes[index : index + 1])
        crowd, usable = self.crowd[rows], self.trainable[rows]
        objects = usable & ~crowd
        box_of_label, labels = self._labels(rows)
        targets = torch.zeros(len(boxes), len(self.classes.names))
        targets[box_of_label, labels] = 1.0
        known = self.class_known[rows]
        weights = None if self.weights is None else self.weights[rows][objects]
        return GroundTruth(boxes[objects], targets[objects], boxes[usable & crowd], known[objects], weights)

    def evaluation_truth(self, index: int) -> CocoTruth:
        """Give the truth for evaluation, coordinates as in the file.

        A box with several labels is a row for each. What has no label (an object of unknown class, an ignore
        region of a category that was not chosen) is a crowd row of every class.
        """
        rows = self._rows(index)
        unlabelled = (~self.class_known[rows]).nonzero()[:, 0]
        num_classes = len(self.classes.names)
        box_of_label, labels = self._labels(rows)
        box_of_row = torch.cat([box_of_label, unlabelled.repeat_interleave(num_classes)])
        row_labels = torch.cat([labels, torch.arange(num_classes).repeat(len(unlabelled))])
        # Back to the order of the file; stable, so that labels stay ascending within a box.
        box_of_row, order = box_of_row.sort(stable=True)
        crowd = self.crowd[rows] | ~self.class_known[rows]
        return CocoTruth(
            image_id=int(self.image_ids[index]),
            boxes=self.boxes[rows][box_of_row],
            labels=row_labels[order],
            crowd=crowd[box_of_row],
            areas=self.areas[rows][box_of_row],
        )

    def class_counts(self) -> Tensor:
        """Give the (C,) int64 number of boxes to train on of each label; crowds are none."""
        counted = (self.trainable & ~self.crowd)[self._labels(slice(0, len(self.boxes)))[0]]
        return torch.bincount(self.labels[counted], minlength=len(self.classes.names))

    def label_images(self) -> Tensor:
        """Give the (pairs, 2) int64 (label, index of the image) in which an object to train on carries it.

        Each pair is there once, in ascending order; an image without labelled objects is in none.
        """
        box_of_label, labels = self._labels(slice(0, len(self.boxes)))
        image_of_box = torch.arange(len(self)).repeat_interleave(self.starts.diff())
        counted = (self.trainable & ~self.crowd)[box_of_label]
        pairs = torch.stack([labels, image_of_box[box_of_label]], dim=1)[counted]
        unique: Tensor = torch.unique(pairs, dim=0)
        return unique

    def fingerprint(self) -> str:
        """Give the sha256 of all that training or evaluation can see, wherever the file lies."""
        digest = hashlib.sha256(json.dumps([self.classes.names, self.classes.category_ids]).encode())
        for name in sorted(self.__dataclass_fields__):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                digest.update(f"{name} {tuple(value.shape)}".encode())
                digest.update(value.numpy().tobytes())
        return digest.hexdigest()

    def _rows(self, index: int) -> slice:
        start, end = self.starts[index : index + 2].tolist()
        return slice(start, end)

    def _labels(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Give the place in ``rows`` and the label of every pair of box and label."""
        starts = self.label_starts[rows.start : rows.stop + 1]
        box_of_label = torch.arange(len(starts) - 1).repeat_interleave(starts.diff())
        return box_of_label, self.labels[int(starts[0]) : int(starts[-1])]
