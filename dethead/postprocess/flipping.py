"""Test-time augmentation by the mirror: an image and its mirror image are answered together."""

import torch
from torch import Tensor

from dethead.anchors import SLACK
from dethead.structures import Anchors, Predictions


def averaged_with_mirror(
    said: Predictions, mirrored: Predictions, anchors: Anchors, image_width: int
) -> Predictions:
    """Give the mean of what was said of B images and, mirrored back, of their mirror images.

    The anchor at the mirrored place answers for the same object: class probabilities, confidence and the
    decoded boxes of the two are averaged. ``Postprocessor.predictions`` gives both, ``select`` goes on with
    the mean. It costs two forward passes.

    Args:
        said: of the images, (B, A, ...).
        mirrored: of ``images.flip(-1)``, padding and all.
        anchors: of both.
        image_width: of the network input, in pixels.

    Raises:
        ValueError: a level whose cells do not fill the width: its anchors have no mirror images.
    """
    back = mirrored_back(mirrored, anchors, image_width)
    return Predictions(*((one + other) / 2 for one, other in zip(said, back, strict=True)))


def mirrored_back(mirrored: Predictions, anchors: Anchors, image_width: int) -> Predictions:
    """Give what was said of mirror images as if it had been said of the images; see above."""
    places = _mirrored_places(anchors, image_width)
    boxes, probabilities, confidence = (part[:, places] for part in mirrored)
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    boxes = torch.stack([image_width - x2, y1, image_width - x1, y2], dim=-1)
    return Predictions(boxes, probabilities, confidence)


def _mirrored_places(anchors: Anchors, image_width: int) -> Tensor:
    """(A,) the anchor of the same shape at each anchor's mirrored place."""
    number = torch.arange(len(anchors.boxes), device=anchors.boxes.device)
    parts = []
    for level, (rows, columns), stride in zip(anchors.levels, anchors.cells, anchors.strides, strict=True):
        if abs(columns - image_width / stride) > SLACK:
            raise ValueError(
                f"{columns} cells of stride {stride:g} do not fill the width {image_width}: anchors have no "
                f"mirror images; take a width that is a multiple of {max(anchors.strides):g}"
            )
        parts.append(number[level].view(rows, columns, -1).flip(1).flatten())
    return torch.cat(parts)
