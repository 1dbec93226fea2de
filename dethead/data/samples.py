"""Image and truth moved together: scaled, cut, padded, mirrored, laid side by side. Nothing random is here.

Boxes are moved here and not by torchvision's v2, which knows nothing of targets and drops an ignore region
whose centre is cropped away.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dethead.structures import GroundTruth, Resize

PAD_VALUE: Final = 114
"""Grey of what lies beside an image; close to the mean of natural images, so that the border is no edge."""


class Sample(NamedTuple):
    """One image and what is in it."""

    image: Tensor
    """(3, H, W) uint8 RGB"""
    truth: GroundTruth
    """Boxes in pixels of this image."""


class Window(NamedTuple):
    """A part of an image, in whole pixels."""

    top: int
    left: int
    height: int
    width: int


def fit_factor(sample: Sample, size: tuple[int, int]) -> float:
    """Give the largest factor at which an image fits into (height, width), without distortion."""
    height, width = sample.image.shape[1:]
    return min(size[0] / height, size[1] / width)


def resize_to_fit(sample: Sample, size: tuple[int, int], pad_value: int = PAD_VALUE) -> tuple[Sample, Resize]:
    """Scale to the largest size that fits, up or down, without distortion; pad right and below.

    Args:
        sample: any size.
        size: (height, width) wanted, in pixels.
        pad_value: grey of the padding, in [0, 255].

    Returns:
        The sample, boxes scaled with it, and the way back. The scale is new size / old size in whole pixels,
        for each axis: where boxes really go, not what was asked for.

    Example:
        >>> box, label = torch.tensor([[0.0, 0.0, 4.0, 2.0]]), torch.tensor([0])
        >>> truth = GroundTruth.from_labels(box, label, num_classes=1)
        >>> wide = Sample(torch.zeros(3, 4, 8, dtype=torch.uint8), truth)
        >>> resized, resize = resize_to_fit(wide, (16, 16))
        >>> resized.truth.boxes, resize.scale
        (tensor([[0., 0., 8., 4.]]), (2.0, 2.0))
        >>> resized.image[0, :, 0]  # 8 rows of image, 8 rows of padding
        tensor([  0,   0,   0,   0,   0,   0,   0,   0, 114, 114, 114, 114, 114, 114,
                114, 114], dtype=torch.uint8)
    """
    height, width = sample.image.shape[1:]
    scale = fit_factor(sample, size)
    # The tighter side is the wanted size exactly, but for the last digit of a float.
    new = max(1, min(size[0], round(height * scale))), max(1, min(size[1], round(width * scale)))
    stretched, resize = stretch(sample, new)
    return pad(stretched, size, pad_value), resize


def stretch(sample: Sample, size: tuple[int, int]) -> tuple[Sample, Resize]:
    """Scale each axis by itself to (height, width), the boxes by the same two factors."""
    height, width = sample.image.shape[1:]
    image = sample.image
    if size != (height, width):
        # A batch dimension in front of rows, not of colours: so PyTorch sees that the decoder gave whole
        # pixels one after the other, and takes its faster way. The numbers are the same.
        batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
        image = F.interpolate(batch, size=size, mode="bilinear", antialias=True)[0]
    resize = Resize((height, width), (size[0] / height, size[1] / width))
    truth = sample.truth._replace(
        boxes=resize.to_input(sample.truth.boxes), ignore_boxes=resize.to_input(sample.truth.ignore_boxes)
    )
    return Sample(image, truth), resize


def pad(sample: Sample, size: tuple[int, int], value: int = PAD_VALUE) -> Sample:
    """Fill up to (height, width), right and below; boxes stay where they are."""
    height, width = sample.image.shape[1:]
    if (height, width) == tuple(size):
        return sample
    image = canvas(sample.image, size, value)
    image[:, :height, :width] = sample.image
    return sample._replace(image=image)


def canvas(like: Tensor, size: tuple[int, int], value: int = PAD_VALUE) -> Tensor:
    """(3, *size) of one value, laid out as decoders lay out images: whole pixels one after the other.

    All steps keep this layout, so that images are copied in long runs up to the network, which wants it, too.
    """
    return like.new_full((*size, 3), value).permute(2, 0, 1)


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """(B, 3, H, W) of (3, H, W) images of one size, channels last in memory, as ``canvas`` has them."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def flip(sample: Sample) -> Sample:
    """Mirror left to right."""
    width = sample.image.shape[2]
    truth = sample.truth._replace(
        boxes=_mirror(sample.truth.boxes, width), ignore_boxes=_mirror(sample.truth.ignore_boxes, width)
    )
    return Sample(sample.image.flip(2), truth)


def crop(sample: Sample, window: Window) -> Sample:
    """Cut out a window that lies inside the image.

    An object stays if its centre is inside; it and the ignore regions are cut off at the border.
    """
    top, left, height, width = window
    boxes = sample.truth.boxes
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).unbind(1)
    # Open on both sides, as torchvision has it.
    centred = (left < x) & (x < left + width) & (top < y) & (y < top + height)
    return cut(sample, window, centred)


def cut(sample: Sample, window: Window, rows: Tensor) -> Sample:
    """Cut out a window that lies inside the image, with the (M,) bool ``rows`` of its objects.

    They and the ignore regions are cut off at the border; of the regions stays what touches the window.
    """
    top, left, height, width = window
    limit = sample.truth.boxes.new_tensor([width, height, width, height])
    truth = shift(keep(sample.truth, rows), -left, -top)
    ignored = truth.ignore_boxes.clamp(min=0).minimum(limit)
    visible = (ignored[:, 2:] > ignored[:, :2]).all(dim=1)
    truth = truth._replace(boxes=truth.boxes.clamp(min=0).minimum(limit), ignore_boxes=ignored[visible])
    return Sample(sample.image[:, top : top + height, left : left + width], truth)


def shift(truth: GroundTruth, x: int, y: int) -> GroundTruth:
    """Move boxes and ignore regions by (x, y) px."""
    offset = truth.boxes.new_tensor([x, y, x, y])
    return truth._replace(boxes=truth.boxes + offset, ignore_boxes=truth.ignore_boxes + offset)


def keep(truth: GroundTruth, rows: Tensor) -> GroundTruth:
    """Keep the (M,) bool ``rows`` of the objects, and all ignore regions."""
    return truth._replace(
        boxes=truth.boxes[rows],
        targets=truth.targets[rows],
        class_known=truth.class_known[rows],
        weights=None if truth.weights is None else truth.weights[rows],
    )


def join(truths: Sequence[GroundTruth]) -> GroundTruth:
    """Give what is in several images as the truth of one; C is the same in all.

    Where only some have sample weights (an image that could not be read has none), the others count 1 each.
    """
    weights = None
    if any(one.weights is not None for one in truths):
        weights = torch.cat([_weights(one) for one in truths])
    return GroundTruth(
        boxes=torch.cat([one.boxes for one in truths]),
        targets=torch.cat([one.targets for one in truths]),
        ignore_boxes=torch.cat([one.ignore_boxes for one in truths]),
        class_known=torch.cat([one.class_known for one in truths]),
        weights=weights,
    )


def _weights(truth: GroundTruth) -> Tensor:
    return truth.boxes.new_ones(len(truth.boxes)) if truth.weights is None else truth.weights


def _mirror(boxes: Tensor, width: int) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)
