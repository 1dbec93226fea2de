"""Box arithmetic: areas, overlaps, and the code that a head regresses."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def box_areas(boxes: Tensor) -> Tensor:
    """(...,) areas in px^2 of (..., 4) boxes."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(first: Tensor, second: Tensor) -> Tensor:
    """(...,) intersection areas in px^2 of boxes whose shapes broadcast, (..., 4) each."""
    top_left = torch.maximum(first[..., :2], second[..., :2])
    bottom_right = torch.minimum(first[..., 2:], second[..., 2:])
    size = (bottom_right - top_left).clamp(min=0)
    return size[..., 0] * size[..., 1]


def iou(first: Tensor, second: Tensor) -> Tensor:
    """(...,) intersection over union in [0, 1] of boxes whose shapes broadcast, (..., 4) each.

    Two boxes without area have IoU 0, not nan. For all pairs: ``iou(a[:, None], b)``.

    Example:
        >>> iou(torch.tensor([0.0, 0, 40, 40]), torch.tensor([9.0, 0, 49, 40]))  # 31 / 49
        tensor(0.6327)
    """
    inner = intersections(first, second)
    union = box_areas(first) + box_areas(second) - inner
    return inner / union.where(union > 0, 1.0)


@dataclass(frozen=True, slots=True)
class BoxCodec:
    """Turns boxes into anchor-relative deltas and back, in float32 at least.

    ``dx, dy`` move the anchor's centre in units of its size; ``dw, dh`` are the log of the size ratio;
    ``weights`` multiply them (R-CNN heads: 10, 10, 5, 5). ``decode`` clamps dw and dh from above, so that
    exp() cannot overflow early in training: a 16 px anchor reaches 1000 px.

    Source: Girshick et al. 2014, https://arxiv.org/abs/1311.2524, appendix C.

    Example:
        >>> anchor = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> BoxCodec().encode(torch.tensor([[5.0, 0.0, 15.0, 20.0]]), anchor)
        tensor([[0.5000, 0.5000, 0.0000, 0.6931]])
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    max_log_scale: float = math.log(1000 / 16)

    def __post_init__(self) -> None:
        if len(self.weights) != 4 or not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"codec weights must be 4 finite numbers above 0, got {self.weights}")

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) deltas that move ``anchors`` onto ``boxes``, both (..., 4) and not empty."""
        box_center, box_size = _center_size(boxes)
        anchor_center, anchor_size = _center_size(anchors)
        shift = (box_center - anchor_center) / anchor_size
        scale = torch.log(box_size / anchor_size)
        return torch.cat([shift, scale], dim=-1) * shift.new_tensor(self.weights)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) boxes that (..., 4) ``deltas`` describe, not clipped to the image."""
        deltas = at_least_float32(deltas)
        deltas = deltas / deltas.new_tensor(self.weights)
        anchor_center, anchor_size = _center_size(anchors)
        center = anchor_center + deltas[..., :2] * anchor_size
        size = anchor_size * deltas[..., 2:].clamp(max=self.max_log_scale).exp()
        return torch.cat([center - size / 2, center + size / 2], dim=-1)


def at_least_float32(values: Tensor) -> Tensor:
    """Give float64 as it is, anything else as float32: half precision is too coarse for losses and boxes."""
    return values if values.dtype == torch.float64 else values.float()


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 2) centre (x, y) and (..., 2) size (width, height) of xyxy boxes."""
    boxes = at_least_float32(boxes)
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
