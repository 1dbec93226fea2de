"""The boxes of a data set as the network sees them: what anchors are measured against."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dethead.boxes import box_areas
from dethead.data.coco import CocoSet
from dethead.data.dataset import DetectionDataset
from dethead.data.samples import Sample, resize_to_fit
from dethead.structures import GroundTruth


class SeenBoxes(NamedTuple):
    """The truth of one image, and how large its objects are."""

    truth: GroundTruth
    """Boxes in pixels of the network input."""
    areas: Tensor
    """(M,) float64 px^2 before the resize: what COCO calls small, medium and large."""


def boxes_as_they_are(coco: CocoSet, size: tuple[int, int]) -> Iterator[SeenBoxes]:
    """Give the boxes to train on of every image, resized, not augmented. No image file is opened.

    Args:
        coco: I images; areas are those of the annotations.
        size: (height, width) of the network input.
    """
    for index in range(len(coco)):
        height, width = coco.sizes[index].tolist()
        # An image of this size without pixels: boxes go the way that they go in training.
        image = torch.empty(3, height, width, dtype=torch.uint8, device="meta")
        sample, _ = resize_to_fit(Sample(image, coco.truth(index)), size)
        rows = slice(*coco.starts[index : index + 2].tolist())
        objects = coco.trainable[rows] & ~coco.crowd[rows]
        yield SeenBoxes(sample.truth, coco.areas[rows][objects])


def boxes_as_trained(
    dataset: DetectionDataset, epochs: int, progress: Callable[[int], None] | None = None
) -> Iterator[SeenBoxes]:
    """Give the boxes of every image, augmented as in the first epochs of a training; it reads all images.

    Args:
        dataset: with its augmentation. Areas are those of the boxes in the augmented image.
        epochs: how often each image is shown.
        progress: called with 1 after each image.
    """
    for epoch in range(epochs):
        for index in range(len(dataset)):
            item = dataset[epoch, index]
            yield SeenBoxes(item.truth, box_areas(item.resize.to_original(item.truth.boxes.double())))
            if progress is not None:
                progress(1)
