"""The random choices of SSD's augmentation (arXiv 1512.02325), drawn from torch's global random numbers.

Ranges and probabilities are those of torchvision's ``v2.RandomPhotometricDistort`` and ``v2.RandomIoUCrop``.
Those pass over the pixels once for each change of colour, and try one crop after the other: several
milliseconds an image. Here all changes of colour are one matrix, and all tries of a crop one batch.
"""

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from dethead.boxes import iou

_GREY: Final = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
"""Share of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""

_TO_YIQ: Final = torch.tensor(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]],
    dtype=torch.float64,
)
"""RGB to brightness and a plane of colours (NTSC)."""

_MIN_OVERLAPS: Final = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, None)
"""Smallest IoU of a crop with some object; None leaves the image whole. All are equally likely."""

_TRIES: Final = 40


class Window(NamedTuple):
    """A part of an image, in whole pixels."""

    top: int
    left: int
    height: int
    width: int


def change_colours(image: Tensor, probability: float) -> Tensor:
    """Change brightness, contrast, saturation, hue and the order of the channels, each with ``probability``.

    Values are cut off at 0 and 255 once, after all changes. The hue is turned at equal brightness, not at
    equal maximum as in HSV; up to 18 degrees the two look alike.

    Args:
        image: (3, H, W) uint8 RGB.
        probability: in [0, 1].

    Returns:
        (3, H, W) uint8; the image itself, not a copy, if nothing was drawn.
    """
    changed = (torch.rand(5) < probability).tolist()
    amounts = (2 * torch.rand(4, dtype=torch.float64) - 1).tolist()
    contrast_first = bool(torch.rand(()) < 0.5)
    order = torch.randperm(3)
    if not any(changed):
        return image
    contrast = 1 + 0.5 * amounts[1] if changed[1] else 1.0
    mean = image.flatten(1).float().mean(dim=1).double()
    matrix, offset = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    if changed[0]:
        matrix = matrix * (1 + 0.125 * amounts[0])
    if contrast_first:
        matrix, offset = _more_contrast(matrix, offset, mean, contrast)
    if changed[2]:
        saturation = 1 + 0.5 * amounts[2]
        step = saturation * torch.eye(3, dtype=torch.float64) + (1 - saturation) * _GREY
        matrix, offset = step @ matrix, step @ offset
    if changed[3]:
        step = _turn_hue(0.05 * amounts[3])
        matrix, offset = step @ matrix, step @ offset
    if not contrast_first:
        matrix, offset = _more_contrast(matrix, offset, mean, contrast)
    if changed[4]:
        matrix, offset = matrix[order], offset[order]
    return _apply(image, matrix, offset)


def choose_window(boxes: Tensor, height: int, width: int) -> Window | None:
    """Draw a crop that holds some part of some object, or None for the whole image.

    A smallest overlap is drawn, then up to 40 windows with sides of 0.3 to 1 of the image's and a shape
    between 1 : 2 and 2 : 1; the first is taken whose IoU with one of the boxes that have their centre in it
    is as large. If none is, again from the start.

    Args:
        boxes: (M, 4) objects in pixels of the image. Without any, the image stays whole.
        height: of the image, in pixels.
        width: of the image, in pixels.
    """
    while len(boxes):
        min_overlap = _MIN_OVERLAPS[int(torch.randint(len(_MIN_OVERLAPS), ()))]
        if min_overlap is None:
            break
        windows = _draw_windows(height, width)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        centred = (windows[:, None, :2] < centres).all(-1) & (centres < windows[:, None, 2:]).all(-1)
        overlaps = iou(windows[:, None], boxes).where(centred, -1.0).amax(dim=1)
        fits = (overlaps >= min_overlap).nonzero()
        if len(fits):
            left, top, right, bottom = map(int, windows[fits[0, 0]].tolist())
            return Window(top, left, bottom - top, right - left)
    return None


def _draw_windows(height: int, width: int) -> Tensor:
    """Give up to 40 (x1, y1, x2, y2) windows of allowed shape, in whole pixels."""
    whole = torch.tensor([width, height])
    draws = torch.rand(_TRIES, 4)
    size = ((0.3 + 0.7 * draws[:, :2]) * whole).floor()
    corner = ((whole - size) * draws[:, 2:]).floor()
    # Written without a division: a side of an image under 4 px may become 0.
    w, h = size.unbind(1)
    allowed = (w <= 2 * h) & (h <= 2 * w) & (w > 0)
    return torch.cat([corner, corner + size], dim=1)[allowed]


def _more_contrast(matrix: Tensor, offset: Tensor, mean: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Stretch about the mean brightness of the image, as it is after ``matrix`` and ``offset``."""
    mean_grey = _GREY @ (matrix @ mean + offset)
    return factor * matrix, factor * offset + (1 - factor) * mean_grey


def _turn_hue(turns: float) -> Tensor:
    """Give the (3, 3) matrix that turns the plane of colours, red towards yellow first."""
    angle = 2 * math.pi * turns
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]], dtype=torch.float64)
    matrix: Tensor = torch.linalg.solve(_TO_YIQ, turn @ _TO_YIQ)
    return matrix


def _apply(image: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    # A plane for each channel: on interleaved pixels the product of small matrices is 20 times slower.
    pixels = image.contiguous().flatten(1).float()
    # Half a level is added because the conversion to whole numbers cuts off.
    changed = torch.addmm((offset + 0.5).float()[:, None], matrix.float(), pixels)
    levels: Tensor = changed.clamp_(0, 255).to(torch.uint8)
    return levels.view(image.shape)
