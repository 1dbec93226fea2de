"""Pictures made of several, and pictures at another scale: mosaic, mixup, large-scale jitter.

Each gives a picture of the network's input size at once: an image is decoded, cut and scaled a single time.
Random numbers are torch's global ones.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor

from dethead.boxes import box_areas, intersections
from dethead.data.samples import Sample, Window, canvas, crop, cut, fit_factor, join, pad, shift, stretch
from dethead.structures import GroundTruth

MOSAIC_CENTER: Final = (0.5, 1.5)
"""Where the four images of a mosaic meet on a canvas of twice the input size, in input sizes (YOLOX,
arXiv 2107.08430, its code)."""
MOSAIC_SCALE: Final = (0.5, 1.5)
"""Lowest and highest factor from that canvas to the input: 0.5 shows all of it, 1.5 a part. YOLOX's for its
small models; it takes 0.1 to 2 for the large ones."""
MIN_VISIBLE: Final = 0.2
"""Share of an object's area that must be left in a mosaic (``area_thr`` in the code of YOLOX 0.1)."""
MIXUP_SCALE: Final = (0.5, 1.5)
"""Scale of the image that is mixed in, in that at which it fits (``mixup_scale`` of YOLOX)."""

Read = Callable[[], Sample]
"""Draws another image of the data set and reads it."""


def mosaic(
    own: Sample,
    partner: Read,
    size: tuple[int, int],
    low: float = MOSAIC_SCALE[0],
    high: float = MOSAIC_SCALE[1],
) -> Sample:
    """Join four images whose corners meet in one point.

    The four are fitted into the input size each, laid around a point of a canvas of twice that size, and
    scaled together; what the input then shows of the canvas is cut out. Where the point would be out of
    sight it is moved to the border, and the image takes the largest quarter: it is always there. Images that
    would be out of sight are not read.

    An object of which less than MIN_VISIBLE is left is dropped. Images are not turned or sheared, as YOLOX's
    are: their boxes would no longer fit tightly.

    Source: Bochkovskiy et al. 2020, arXiv 2004.10934, section 3.3; the geometry is that of YOLOX, Ge et al.
    2021, arXiv 2107.08430.

    Args:
        own: the image, any size.
        partner: gives the others.
        size: (height, width) of the picture, in px.
        low: lowest factor on the scale at which an image fits, above 0; below 0.5 padding is around them.
        high: highest factor; the larger the factor, the fewer of the four are in sight.
    """
    scale = _draw(low, high)
    middle = _draw_meeting_point(scale, size)
    image, truths = canvas(own.image, size), []
    for number, quarter in enumerate(_quarters_in_sight(middle, size)):
        sample = partner() if number else own
        tile, top, left = _tile(sample, quarter, scale * fit_factor(sample, size))
        height, width = tile.image.shape[1:]
        image[:, top : top + height, left : left + width] = tile.image
        truths.append(shift(tile.truth, left, top))
    return Sample(image, join(truths))


def jitter(sample: Sample, size: tuple[int, int], low: float, high: float) -> Sample:
    """Scale at random, then crop at a random place or pad right and below.

    A crop keeps the objects whose centre is inside.

    Source: Ghiasi et al. 2021, arXiv 2012.07177, section 3 (large-scale jittering: 0.1 to 2).

    Args:
        sample: any size.
        size: (height, width) of the picture, in px.
        low: lowest factor on the scale at which the image fits, above 0.
        high: highest factor.
    """
    factor = _draw(low, high) * fit_factor(sample, size)
    height, width = sample.image.shape[1:]
    rows, columns = _part(height, size[0], factor), _part(width, size[1], factor)
    top, left = (int(torch.randint(n - part.old + 1, ())) for n, part in ((height, rows), (width, columns)))
    part = crop(sample, Window(top, left, rows.old, columns.old))
    return pad(stretch(part, (rows.new, columns.new))[0], size)


def mixup(one: Sample, other: Sample) -> Sample:
    """Give the mean of two images of one size, with the objects of both (YOLOX, arXiv 2107.08430).

    Halves are rounded down.
    """
    a, b = one.image, other.image
    # Twice what two bytes share and what only one has is their sum, which need not fit a byte.
    return Sample((a & b) + ((a ^ b) >> 1), join([one.truth, other.truth]))


class _Part(NamedTuple):
    """How much of an axis is shown."""

    old: int
    """px of the image"""
    new: int
    """px of the picture"""


class _Quarter(NamedTuple):
    """One of the four parts of the picture that meet in a point."""

    place: Window
    below: bool
    """Whether it lies below the point."""
    right: bool


def _part(length: int, room: int, factor: float) -> _Part:
    """Give how much of ``length`` px fits into ``room`` px when scaled by ``factor``."""
    scaled = max(1, round(length * factor))
    if scaled <= room:
        return _Part(length, scaled)
    return _Part(max(1, min(length, round(room / factor))), room)


def _draw_meeting_point(scale: float, size: tuple[int, int]) -> tuple[int, int]:
    """Draw where the four meet, (y, x) in px of the picture, which shows the middle of the canvas."""
    shares = (0.5 + scale * (_draw(*MOSAIC_CENTER) - 1) for _ in size)
    y, x = (min(max(round(side * share), 0), side) for side, share in zip(size, shares, strict=True))
    return y, x


def _quarters_in_sight(middle: tuple[int, int], size: tuple[int, int]) -> Iterator[_Quarter]:
    """Give the quarters that have pixels, the largest first."""
    y, x = middle
    columns = ((False, 0, x), (True, x, size[1] - x))
    rows = ((False, 0, y), (True, y, size[0] - y))
    quarters = [
        _Quarter(Window(top, left, height, width), below, right)
        for below, top, height in rows
        for right, left, width in columns
        if height and width
    ]
    yield from sorted(quarters, key=lambda one: one.place.height * one.place.width, reverse=True)


def _tile(sample: Sample, quarter: _Quarter, factor: float) -> tuple[Sample, int, int]:
    """Scale what a quarter shows of an image; gives it with its top and left in the picture.

    The corner of the image that is nearest to the meeting point lies on it.
    """
    height, width = sample.image.shape[1:]
    place = quarter.place
    rows, columns = _part(height, place.height, factor), _part(width, place.width, factor)
    window = Window(
        0 if quarter.below else height - rows.old,
        0 if quarter.right else width - columns.old,
        rows.old,
        columns.old,
    )
    shown = cut(sample, window, _mostly_visible(sample.truth, window))
    tile, _ = stretch(shown, (rows.new, columns.new))
    top = place.top if quarter.below else place.top + place.height - rows.new
    left = place.left if quarter.right else place.left + place.width - columns.new
    return tile, top, left


def _mostly_visible(truth: GroundTruth, window: Window) -> Tensor:
    """(M,) bool: enough of the object lies inside the window."""
    top, left, height, width = window
    place = truth.boxes.new_tensor([left, top, left + width, top + height])
    seen = intersections(truth.boxes, place)
    return (seen > 0) & (seen >= MIN_VISIBLE * box_areas(truth.boxes))


def _draw(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
