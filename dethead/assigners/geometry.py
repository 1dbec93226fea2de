"""Where anchors stand, seen from the boxes: what the centre-based assigners share."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.structures import Anchors


def centers(boxes: Tensor) -> Tensor:
    """(..., 2) centres (x, y) in px of (..., 4) boxes, in float32 at least."""
    boxes = at_least_float32(boxes)
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def per_anchor(anchors: Anchors, values: Sequence[float]) -> Tensor:
    """(A,) the value of each anchor's level, for instance its stride."""
    result = anchors.boxes.new_empty(len(anchors.boxes))
    for level, value in zip(anchors.levels, values, strict=True):
        result[level] = value
    return result


def side_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """(..., 4) px from (..., 2) points to the left, top, right and bottom side of (..., 4) boxes.

    Positive is inward, so a point is inside where all four are above 0.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """(N, A) bool: which of (A, 2) points are inside which of (N, 4) boxes; on a side is outside."""
    above = (points > boxes[:, None, :2]).all(dim=-1)
    return above & (points < boxes[:, None, 2:]).all(dim=-1)


def near_center(points: Tensor, reach: Tensor, boxes: Tensor) -> Tensor:
    """(N, A) bool: which (A, 2) points are nearer than ``reach`` (A,), in x and in y, to a box's centre."""
    offsets = (points - centers(boxes)[:, None]).abs().amax(dim=-1)
    return offsets < reach
