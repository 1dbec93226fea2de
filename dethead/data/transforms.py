"""Image and truth together: augmentation, and the way to the network's input size.

Random numbers are drawn as torchvision's v2 transforms draw them, and pixels are the same to the last one.
Boxes are moved here, because v2 knows nothing of targets and drops an ignore region whose centre is cropped
away.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from dethead.boxes import box_areas, iou
from dethead.data.colours import distort
from dethead.structures import GroundTruth, Resize

PAD_VALUE: Final = 114
"""Grey of what lies beside an image; close to the mean of natural images, so that the border is no edge."""

_CROP_OVERLAPS: Final = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, None)
"""IoU that some object must have with the crop, one drawn for each image; None leaves the image whole."""
_CROP_TRIALS: Final = 40
"""Windows drawn for one overlap; if none of them will do, another is drawn."""
_CROP_SIDE: Final = 0.3
"""Smallest side of a crop, in sides of the image."""
_SLACK: Final = 1e-4
"""Relative: more than rounding could add to an area in float32."""
_CROP_ASPECT: Final = 0.5
"""Smallest width over height of a crop, and height over width."""


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
    scale = min(size[0] / height, size[1] / width)
    # The tighter side is the wanted size exactly, but for the last digit of a float.
    new = max(1, min(size[0], round(height * scale))), max(1, min(size[1], round(width * scale)))
    image = sample.image
    if new != (height, width):
        image = F.interpolate(image[None], size=new, mode="bilinear", antialias=True)[0]
    if new != tuple(size):
        canvas = image.new_full((3, *size), pad_value)
        canvas[:, : new[0], : new[1]] = image
        image = canvas
    resize = Resize((height, width), (new[0] / height, new[1] / width))
    truth = sample.truth._replace(
        boxes=resize.to_input(sample.truth.boxes), ignore_boxes=resize.to_input(sample.truth.ignore_boxes)
    )
    return Sample(image, truth), resize


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """SSD's augmentation (arXiv 1512.02325, section 2.2), in the order of the fields; probability 0 is off.

    Ignore regions and the targets of each box come through every step.
    """

    photometric: float
    """Probability of each of brightness, contrast, saturation, hue and channel order to be changed."""
    zoom_out: float
    """Probability to be put on a larger grey canvas: small objects."""
    zoom_out_max: float
    """Largest side of that canvas, in sides of the image; at least 1."""
    iou_crop: float
    """Probability of a crop that holds some part of some object; images without objects are not cropped."""
    flip: float
    """Probability to be mirrored left to right."""
    min_box_size: float
    """Objects narrower or lower than so many pixels, after all, are dropped."""

    def __post_init__(self) -> None:
        for name in ("photometric", "zoom_out", "iou_crop", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability in [0, 1], got {getattr(self, name)}")
        if self.zoom_out_max < 1:
            raise ValueError(f"zoom_out_max must be at least 1, got {self.zoom_out_max}")
        if self.min_box_size < 0:
            raise ValueError(f"min_box_size must be at least 0 px, got {self.min_box_size}")

    def __call__(self, sample: Sample) -> Sample:
        """Augment with torch's global random numbers."""
        if self.photometric:
            sample = sample._replace(image=distort(sample.image, self.photometric))
        if _happens(self.zoom_out):
            sample = self._zoom_out(sample)
        if _happens(self.iou_crop):
            window = choose_window(sample)
            sample = sample if window is None else crop(sample, window)
        if _happens(self.flip):
            sample = flip(sample)
        boxes = sample.truth.boxes
        large = (boxes[:, 2:] - boxes[:, :2] >= self.min_box_size).all(dim=1)
        return sample._replace(truth=_keep(sample.truth, large))

    def _zoom_out(self, sample: Sample) -> Sample:
        draw = v2.RandomZoomOut(side_range=(1.0, self.zoom_out_max), p=1.0)
        left, top, right, bottom = draw.make_params([sample.image])["padding"]
        image = F.pad(sample.image, (left, right, top, bottom), value=PAD_VALUE)
        return Sample(image, _shift(sample.truth, left, top))


def choose_window(sample: Sample) -> Window | None:
    """Draw a crop that holds some part of some object, or None for the whole image.

    An image without objects stays whole: there is nothing that a crop could hold. SSD's rule (arXiv
    1512.02325, section 2.2) with the numbers and the draws of ``v2.RandomIoUCrop``, which takes many times
    longer for the same window.
    """
    boxes = sample.truth.boxes
    if not len(boxes):
        return None
    size = np.array([sample.image.shape[2], sample.image.shape[1]], dtype=np.float32)
    centers = (0.5 * (boxes[:, :2] + boxes[:, 2:])).numpy()
    largest = float(box_areas(boxes).max()) * (1 + _SLACK)
    while True:
        overlap = _CROP_OVERLAPS[int(torch.randint(len(_CROP_OVERLAPS), ()))]
        if overlap is None:
            return None
        for _ in range(_CROP_TRIALS):
            window = _draw_window(size)
            # No IoU exceeds the ratio of the areas: most windows are too large for the objects there are.
            if window is None or largest < overlap * window.height * window.width:
                continue
            if _holds_object(window, boxes, centers, overlap):
                return window


def _draw_window(size: NDArray[np.float32]) -> Window | None:
    """Draw a window in an image of (2,) width and height; None if it has no size or is too long."""
    # In float32, as torchvision calculates: a pixel more or less would be another window.
    share = np.float32(_CROP_SIDE) + np.float32(1 - _CROP_SIDE) * torch.rand(2).numpy()
    sides = (size * share).astype(np.int64)
    width, height = sides.tolist()
    # Before anything else is drawn, as torchvision has it.
    if not (height and _CROP_ASPECT <= width / height <= 1 / _CROP_ASPECT):
        return None
    left, top = ((size - sides).astype(np.float32) * torch.rand(2).numpy()).astype(np.int64).tolist()
    return Window(top, left, height, width)


def _holds_object(window: Window, boxes: Tensor, centers: NDArray[np.float32], overlap: float) -> bool:
    """Ask whether some object with its centre in the window has at least this IoU with it."""
    top, left, height, width = window
    corner = (left, top)
    inside = ((corner < centers) & (centers < (left + width, top + height))).all(axis=1)
    if overlap == 0 or not inside.any():
        return bool(inside.any())
    place = boxes.new_tensor([left, top, left + width, top + height])
    return bool(iou(boxes[torch.from_numpy(inside)], place).max() >= overlap)


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
    truth = _shift(_keep(sample.truth, centred), -left, -top)
    limit = boxes.new_tensor([width, height, width, height])
    ignored = truth.ignore_boxes.clamp(min=0).minimum(limit)
    visible = (ignored[:, 2:] > ignored[:, :2]).all(dim=1)
    truth = truth._replace(boxes=truth.boxes.clamp(min=0).minimum(limit), ignore_boxes=ignored[visible])
    return Sample(sample.image[:, top : top + height, left : left + width], truth)


def _happens(probability: float) -> bool:
    return bool(torch.rand(()) < probability)


def _mirror(boxes: Tensor, width: int) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def _shift(truth: GroundTruth, x: int, y: int) -> GroundTruth:
    offset = truth.boxes.new_tensor([x, y, x, y])
    return truth._replace(boxes=truth.boxes + offset, ignore_boxes=truth.ignore_boxes + offset)


def _keep(truth: GroundTruth, rows: Tensor) -> GroundTruth:
    return truth._replace(
        boxes=truth.boxes[rows],
        targets=truth.targets[rows],
        class_known=truth.class_known[rows],
        weights=None if truth.weights is None else truth.weights[rows],
    )
