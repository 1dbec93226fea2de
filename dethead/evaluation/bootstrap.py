"""How far the numbers would move with other test images: bootstrap and jackknife over images.

Images are drawn, not objects or detections: what stands in one image goes together.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 11.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from dethead.evaluation.arrays import Floats, Ints
from dethead.evaluation.curves import NUMBERS
from dethead.evaluation.intervals import Interval, IntervalKind, bca_interval, percentile_interval
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.weighted import WeightedNumbers, Weighting

Progress = Callable[[int], object]
"""Is told how many more weightings are done."""

FEWEST_IMAGES = 10
"""With objects of a class in fewer images, resamples are the same few images over and over: what they say of
that class is too sure of itself, so nothing is said."""

MOST_GROUPS = 400
"""Jackknife groups. The acceleration that is computed from G of them is off by about 0.4 / G."""


def draw_counts(images: int, resamples: int, seed: int) -> Iterator[Ints]:
    """Draw resamples of as many images as there are, with replacement; (I,) how often each was drawn.

    The same seed draws the same images, whoever asks: that makes comparisons paired.
    """
    draw = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(draw.integers(0, images, images), minlength=images)


def bootstrap(
    table: MatchTable | Weighting, resamples: int, seed: int = 0, *, progress: Progress | None = None
) -> WeightedNumbers:
    """Compute the 12 numbers and the AP of each class on resampled images.

    A resample without an object of a class has no AP of that class: the 12 numbers are then means over the
    other classes, as in COCO.

    Args:
        table: of I >= 2 images, or the same prepared.
        resamples: S > 0.
        seed: >= 0; tables of the same images get the same resamples from the same seed.
        progress: is told of every block of resamples.

    Returns:
        S rows; exactly the numbers of sets made by repeating images (see ``weighted`` for ties).

    Raises:
        ValueError: fewer than 2 images, or no resample.
    """
    weighting = _prepared(table)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    return _compute(weighting, resamples, draw_counts(weighting.images, resamples, seed), progress)


def jackknife(table: MatchTable | Weighting, *, progress: Progress | None = None) -> WeightedNumbers:
    """Compute the numbers without each image in turn: G = I rows.

    Of more than 400 images, 400 groups drawn once and for all are left out in turn. Groups of m images sum up
    m influences, whose skewness is smaller by sqrt(m), and are fewer by m: the acceleration is the same.

    Raises:
        ValueError: fewer than 2 images.
    """
    weighting = _prepared(table)
    groups = min(weighting.images, MOST_GROUPS)
    group = np.random.default_rng(0).permutation(weighting.images) % groups
    weights = ((group != left_out).astype(np.int64) for left_out in range(groups))
    return _compute(weighting, groups, weights, progress)


class Samples(NamedTuple):
    """One number: of all images, of resamples, and without some images."""

    full: Floats
    """(1,)"""
    resampled: Floats
    """(S,)"""
    left_out: Floats
    """(G,)"""
    images: int
    """With an object that the number measures."""

    @property
    def enough(self) -> bool:
        """Whether there are enough images to show how the number varies."""
        return self.images >= FEWEST_IMAGES

    def minus(self, other: "Samples") -> "Samples":
        """Take differences, resample by resample; both must come from the same images and seed."""
        return Samples(
            self.full - other.full,
            self.resampled - other.resampled,
            self.left_out - other.left_out,
            self.images,
        )

    def interval(self, kind: IntervalKind, level: float) -> Interval:
        """Give an interval, unknown for less than 10 images; ``level`` in (0, 1)."""
        if not self.enough:
            return Interval(math.nan, math.nan)
        if kind == "bca":
            return bca_interval(self.resampled, float(self.full[0]), self.left_out, level)
        return percentile_interval(self.resampled, level)


class Spread(NamedTuple):
    """The numbers of one set of detections, and how they move with the images."""

    full: WeightedNumbers
    """One row: of all images, each once."""
    resampled: WeightedNumbers
    """S rows"""
    left_out: WeightedNumbers
    """G rows"""
    number_images: Ints
    """(12,) images with an object that the number measures."""
    class_images: Ints
    """(C,) images with an object of the class."""

    def number(self, place: int) -> Samples:
        """Take out one of the 12 numbers."""
        full, resampled, left_out = (part.numbers[:, place] for part in self[:3])
        return Samples(full, resampled, left_out, int(self.number_images[place]))

    def class_ap(self, label: int) -> Samples:
        """Take out the AP of one class."""
        full, resampled, left_out = (part.class_ap[:, label] for part in self[:3])
        return Samples(full, resampled, left_out, int(self.class_images[label]))


def spread(
    table: MatchTable,
    resamples: int,
    seed: int = 0,
    kind: IntervalKind = "bca",
    progress: Progress | None = None,
) -> Spread:
    """Compute the numbers, their bootstrap, and what else intervals need.

    Args:
        table: of I >= 2 images.
        resamples: S > 0.
        seed: of the resamples.
        kind: of the intervals; "percentile" needs no jackknife, and gets G = 0 rows of it.
        progress: is told of ``spread_size`` weightings in all.

    Raises:
        ValueError: fewer than 2 images, or no resample.
    """
    weighting = _prepared(table)
    full = weighting.numbers(np.ones((weighting.images, 1), dtype=np.int64))
    resampled = bootstrap(weighting, resamples, seed, progress=progress)
    left_out = WeightedNumbers(full.numbers[:0], full.class_ap[:0])
    if kind == "bca":
        left_out = jackknife(weighting, progress=progress)
    number_images, class_images = _images_with_objects(table)
    return Spread(full, resampled, left_out, number_images, class_images)


def _images_with_objects(table: MatchTable) -> tuple[Ints, Ints]:
    """Count the images with an object that is measured: (12,) by number, (C,) by class."""
    places = [number.place(table.rules) for number in NUMBERS]
    measured = [np.zeros_like(table.counted[0]) if p is None else table.counted[p.area] for p in places]
    in_all = table.object_image[measured[0]], table.object_label[measured[0]]
    pairs = np.unique(np.stack(in_all), axis=1)
    of_numbers = [len(np.unique(table.object_image[one])) for one in measured]
    return np.array(of_numbers), np.bincount(pairs[1], minlength=len(table.class_names))


def spread_size(images: int, resamples: int, kind: IntervalKind = "bca") -> int:
    """Count the weightings that ``spread`` computes, for a progress bar."""
    return resamples + (min(images, MOST_GROUPS) if kind == "bca" else 0)


def _prepared(table: MatchTable | Weighting) -> Weighting:
    weighting = Weighting(table) if isinstance(table, MatchTable) else table
    if weighting.images < 2:
        raise ValueError(f"resampling images needs at least 2 of them, got {weighting.images}")
    return weighting


def _compute(
    weighting: Weighting, count: int, weights: Iterator[Ints], progress: Progress | None
) -> WeightedNumbers:
    """Take the weights block by block, so that memory is bounded."""
    parts = []
    for block in weighting.blocks(count):
        size = block.stop - block.start
        parts.append(weighting.numbers(np.stack([next(weights) for _ in range(size)], axis=1)))
        if progress is not None:
            progress(size)
    numbers: list[Floats] = [np.concatenate(rows) for rows in zip(*parts, strict=True)]
    return WeightedNumbers(*numbers)
