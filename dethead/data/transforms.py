"""Augmentation: random changes of image and truth together.

SSD's random numbers are drawn as torchvision's v2 transforms draw them, and pixels are the same to the last
one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from dethead.boxes import box_areas, iou
from dethead.data.colours import distort
from dethead.data.joining import MIXUP_SCALE, MOSAIC_SCALE, jitter, mixup, mosaic
from dethead.data.samples import Sample, Window, canvas, crop, flip, keep, resize_to_fit, shift

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


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """SSD's augmentation (arXiv 1512.02325, section 2.2), and what came later; probability 0 is off.

    A call changes one image by the fields up to ``flip``, in their order. ``rebuild`` makes a picture of the
    network's input size by mosaic, mixup and jitter, if they are wanted; what is left to be done to it is
    ``finish``. One picture is scaled by one of them: a mosaic, else the jitter, else zoom-out and crop.

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
    mosaic: float = 0.0
    """Probability to be joined with three other images."""
    mosaic_scale: Sequence[float] = MOSAIC_SCALE
    """Lowest and highest factor of the images of a mosaic, on the scale at which each fits."""
    mixup: float = 0.0
    """Probability to be averaged with another image."""
    jitter: Sequence[float] | None = None
    """Lowest and highest factor of the large-scale jitter, on the scale at which the image fits."""
    last_epochs_plain: int = 0
    """Epochs at the end without mosaic, mixup and jitter."""

    def __post_init__(self) -> None:
        for name in ("photometric", "zoom_out", "iou_crop", "flip", "mosaic", "mixup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability in [0, 1], got {getattr(self, name)}")
        if self.zoom_out_max < 1:
            raise ValueError(f"zoom_out_max must be at least 1, got {self.zoom_out_max}")
        if self.min_box_size < 0:
            raise ValueError(f"min_box_size must be at least 0 px, got {self.min_box_size}")
        for name in ("mosaic_scale", "jitter"):
            factors = getattr(self, name)
            if factors is not None and not 0 < factors[0] <= factors[1]:
                raise ValueError(f"{name} must be 0 < low <= high, got {factors}")
        if self.last_epochs_plain < 0:
            raise ValueError(f"last_epochs_plain must be at least 0, got {self.last_epochs_plain}")

    def __call__(self, sample: Sample) -> Sample:
        """Augment with torch's global random numbers."""
        return self._end(self._scale(self._colour(sample)))

    @property
    def rebuilds(self) -> bool:
        """Whether ``rebuild`` ever gives a picture."""
        return bool(self.mosaic or self.mixup or self.jitter)

    def rebuild(self, own: Sample, size: tuple[int, int], partner: Callable[[], Sample]) -> Sample | None:
        """Make a picture by mosaic, mixup and jitter, with torch's global random numbers.

        Args:
            own: the image.
            size: (height, width) of the picture, in px.
            partner: draws another image of the data set and reads it.

        Returns:
            The picture, for ``finish``; None where the image is to be changed by itself, by a call.
        """
        picture = None
        if _happens(self.mosaic):
            picture = mosaic(own, partner, size, *self.mosaic_scale)
        elif self.jitter is not None:
            picture = jitter(own, size, *self.jitter)
        if not _happens(self.mixup):
            return picture
        if picture is None:
            picture, _ = resize_to_fit(self._scale(own), size)
        other = jitter(partner(), size, *MIXUP_SCALE)
        return mixup(picture, flip(other) if _happens(self.flip) else other)

    def finish(self, picture: Sample) -> Sample:
        """Change colours, mirror, and drop small objects, by pixels of the network's input."""
        return self._end(self._colour(picture))

    def _colour(self, sample: Sample) -> Sample:
        return sample._replace(image=distort(sample.image, self.photometric)) if self.photometric else sample

    def _scale(self, sample: Sample) -> Sample:
        if _happens(self.zoom_out):
            sample = self._zoom_out(sample)
        if _happens(self.iou_crop):
            window = choose_window(sample)
            sample = sample if window is None else crop(sample, window)
        return sample

    def _end(self, sample: Sample) -> Sample:
        if _happens(self.flip):
            sample = flip(sample)
        boxes = sample.truth.boxes
        large = (boxes[:, 2:] - boxes[:, :2] >= self.min_box_size).all(dim=1)
        return sample if large.all() else sample._replace(truth=keep(sample.truth, large))

    def _zoom_out(self, sample: Sample) -> Sample:
        draw = v2.RandomZoomOut(side_range=(1.0, self.zoom_out_max), p=1.0)
        left, top, right, bottom = draw.make_params([sample.image])["padding"]
        height, width = sample.image.shape[1:]
        image = canvas(sample.image, (top + height + bottom, left + width + right))
        image[:, top : top + height, left : left + width] = sample.image
        return Sample(image, shift(sample.truth, left, top))


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


def _happens(probability: float) -> bool:
    return bool(torch.rand(()) < probability)
