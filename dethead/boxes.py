"""Box arithmetic: areas, overlaps, and the codes that a head regresses."""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from dethead.devices import numbers

TINY: Final = 1e-7
"""Floor of a divisor, in px or px^2: a box of no size gives a finite ratio with a finite gradient."""

SHORTEST_SIDE: Final = 1e-3
"""Floor in px of the sides that make the shape of a box: for thinner ones its slope would have no bound."""

SMALLEST_RATIO: Final = 1e-6
"""Floor of the size ratio whose logarithm is encoded: a box without width has a finite code, too."""


def box_areas(boxes: Tensor) -> Tensor:
    """(...,) areas in px^2 of (..., 4) boxes."""
    left, top, right, bottom = boxes.unbind(dim=-1)
    return (right - left) * (bottom - top)


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
    inner, union = _inner_and_union(first, second)
    return _ratio(inner, union)


def giou(first: Tensor, second: Tensor) -> Tensor:
    """(...,) generalised IoU in (-1, 1]: minus the share of the enclosing box that neither box covers.

    Unlike the IoU it falls further as boxes move apart. Shapes broadcast, (..., 4) each; 0 for two boxes
    without area in one place.

    Source: Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630, algorithm 1.

    Example:
        >>> giou(torch.tensor([0.0, 0, 1, 1]), torch.tensor([3.0, 0, 4, 1]))  # 0 - (4 - 2) / 4
        tensor(-0.5000)
    """
    inner, union = _inner_and_union(first, second)
    width, height = _enclosing_size(first, second).unbind(dim=-1)
    enclosing = width * height
    return _ratio(inner, union) - _ratio(enclosing - union, enclosing)


def diou(first: Tensor, second: Tensor) -> Tensor:
    """(...,) distance IoU in (-1, 1]: minus (distance of the centres / diagonal of the enclosing box)^2.

    Shapes broadcast, (..., 4) each; 0 for two boxes without area in one place.

    Source: Zheng et al. 2020, https://arxiv.org/abs/1911.08287, equation 7.

    Example:
        >>> diou(torch.tensor([0.0, 0, 1, 1]), torch.tensor([3.0, 0, 4, 1]))  # 0 - 3^2 / (4^2 + 1^2)
        tensor(-0.5294)
    """
    return iou(first, second) - _center_penalty(first, second)


def ciou(first: Tensor, second: Tensor) -> Tensor:
    """(...,) complete IoU: the distance IoU minus ``alpha * v``, for shapes that differ.

    ``v = 4 / pi^2 * (difference of atan(width / height))^2`` and ``alpha = v / (1 - IoU + v)``, a constant
    for the gradient. Shapes broadcast, (..., 4) each.

    Source: Zheng et al. 2020, https://arxiv.org/abs/1911.08287, equations 8 to 11.

    Example:
        >>> ciou(torch.tensor([0.0, 0, 4, 2]), torch.tensor([1.0, -1, 3, 3]))  # one centre; IoU 1/3, v 0.168
        tensor(0.2996)
    """
    overlap = iou(first, second)
    v = 4 / math.pi**2 * (_aspect_angle(first) - _aspect_angle(second)).square()
    alpha = _ratio(v, 1 - overlap + v).detach()
    return overlap - _center_penalty(first, second) - alpha * v


class Codec(Protocol):
    """Turns boxes into four numbers relative to an anchor, which a head can learn, and back."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) code of (..., 4) ``boxes``, float32 at least and finite."""
        ...

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) boxes of (..., 4) raw ``deltas``, float32 at least, not clipped to the image."""
        ...


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
        if math.isnan(self.max_log_scale):
            raise ValueError("max_log_scale must be a number, got nan")

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) deltas that move ``anchors`` onto ``boxes``, both (..., 4); no empty anchors."""
        deltas = _shift_and_log_scale(boxes, anchors)
        return deltas * numbers(self.weights, deltas)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) boxes that (..., 4) ``deltas`` describe, not clipped to the image."""
        deltas = at_least_float32(deltas)
        return _moved(anchors, deltas / numbers(self.weights, deltas), self.max_log_scale)


@dataclass(frozen=True, slots=True)
class LTRBCodec:
    """Distances from the anchor's centre to the left, top, right and bottom side, over the anchor's size.

    ``decode`` takes a negative distance as 0, as torchvision's FCOS does in its head, so that no box is
    turned inside out: a box that does not hold the anchor's centre has a code, but does not come back whole.
    Such a side has no gradient: a loss on decoded boxes cannot pull it, one on the code can.

    Source: Tian et al. 2019, https://arxiv.org/abs/1904.01355, equation 1.

    Example:
        >>> anchor = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> LTRBCodec().encode(torch.tensor([[0.0, 3.0, 20.0, 15.0]]), anchor)
        tensor([[0.5000, 0.2000, 1.5000, 1.0000]])
    """

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) distances of ``boxes`` seen from ``anchors``, both (..., 4); no empty anchors."""
        boxes = at_least_float32(boxes)
        center, size = _center_size(anchors)
        return torch.cat([(center - boxes[..., :2]) / size, (boxes[..., 2:] - center) / size], dim=-1)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) boxes that (..., 4) distances reach, not clipped to the image."""
        distances = at_least_float32(deltas).relu()
        center, size = _center_size(anchors)
        return torch.cat([center - distances[..., :2] * size, center + distances[..., 2:] * size], dim=-1)


@dataclass(frozen=True, slots=True)
class PointExpCodec:
    """YOLOX's code: the box's centre counted from the cell's top left corner, and log width and height.

    All in units of the anchor, which is the grid cell: ``centre = (dx + column) * stride``,
    ``width = exp(dw) * stride`` for square anchors of one stride in the middle of their cells. The same as
    ``BoxCodec`` with dx and dy larger by half an anchor. ``decode`` clamps dw and dh from above (YOLOX does
    not): an 8 px cell reaches 8000 px.

    Source: Ge et al. 2021, https://arxiv.org/abs/2107.08430; the offset is that of their code.

    Example:
        >>> cell = torch.tensor([[8.0, 0.0, 16.0, 8.0]])  # column 1, row 0 of stride 8
        >>> PointExpCodec().decode(torch.tensor([[0.25, 0.5, 0.0, 0.0]]), cell)  # centre x = (0.25 + 1) * 8
        tensor([[ 6.,  0., 14.,  8.]])
    """

    max_log_scale: float = math.log(1000)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) code of ``boxes`` seen from ``anchors``, both (..., 4); no empty anchors."""
        deltas = _shift_and_log_scale(boxes, anchors)
        return deltas + numbers(_FROM_THE_CORNER, deltas)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) boxes that (..., 4) ``deltas`` describe, not clipped to the image."""
        deltas = at_least_float32(deltas)
        return _moved(anchors, deltas - numbers(_FROM_THE_CORNER, deltas), self.max_log_scale)


_FROM_THE_CORNER: Final = (0.5, 0.5, 0.0, 0.0)
"""From the anchor's centre to its top left corner, in anchors."""


def anchor_code(codec: Codec) -> tuple[float, float, float, float]:
    """Give the code of an anchor seen from itself, which is the same for every anchor.

    Example:
        >>> anchor_code(BoxCodec()), anchor_code(LTRBCodec())
        ((0.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.5, 0.5))
    """
    anchor = torch.tensor([0.0, 0.0, 1.0, 1.0])
    left, top, right, bottom = codec.encode(anchor, anchor).tolist()
    return left, top, right, bottom


def at_least_float32(values: Tensor) -> Tensor:
    """Give float64 as it is, anything else as float32: half precision is too coarse for losses and boxes."""
    return values if values.dtype == torch.float64 else values.float()


def by_coordinate(boxes: Tensor) -> Tensor:
    """The same (..., 4) boxes, all x1 first in memory, then all y1, ...: IoUs are three times as fast."""
    return boxes.movedim(-1, 0).contiguous().movedim(0, -1)


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 2) centre (x, y) and (..., 2) size (width, height) of xyxy boxes."""
    boxes = at_least_float32(boxes)
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def _inner_and_union(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(...,) areas of intersection and union in px^2."""
    inner = intersections(first, second)
    return inner, box_areas(first) + box_areas(second) - inner


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole.clamp(min=TINY)


def _enclosing_size(first: Tensor, second: Tensor) -> Tensor:
    """(..., 2) width and height of the smallest box that holds both."""
    return torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])


def _center_penalty(first: Tensor, second: Tensor) -> Tensor:
    """(...,) squared distance of the centres over the squared diagonal of the enclosing box, in [0, 1)."""
    distance = (_center_size(first)[0] - _center_size(second)[0]).square().sum(dim=-1)
    return _ratio(distance, _enclosing_size(first, second).square().sum(dim=-1))


def _aspect_angle(boxes: Tensor) -> Tensor:
    """(...,) atan(width / height) in radians; that of a square for a point."""
    width, height = _center_size(boxes)[1].clamp(min=SHORTEST_SIDE).unbind(dim=-1)
    return torch.atan2(width, height)


def _shift_and_log_scale(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(..., 4) shift of the centre in anchors, and log of the size ratio."""
    box_center, box_size = _center_size(boxes)
    anchor_center, anchor_size = _center_size(anchors)
    scale = (box_size / anchor_size).clamp(min=SMALLEST_RATIO).log()
    return torch.cat([(box_center - anchor_center) / anchor_size, scale], dim=-1)


def _moved(anchors: Tensor, deltas: Tensor, max_log_scale: float) -> Tensor:
    """(..., 4) boxes: anchors shifted by ``deltas[..., :2]`` anchors and scaled by exp of the others."""
    center, size = _center_size(anchors)
    center = center + deltas[..., :2] * size
    size = size * deltas[..., 2:].clamp(max=max_log_scale).exp()
    return torch.cat([center - size / 2, center + size / 2], dim=-1)
