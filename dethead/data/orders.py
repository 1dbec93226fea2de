"""Which images an epoch shows, in which order: what the ``sampler`` of a config names.

An order keeps no state. It is a function of (seed, epoch), so that a run can be resumed anywhere and every
process finds the same images. An epoch has the same number of images every time, because the learning rate
and the steps of a run are planned by it.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dethead.data.coco import CocoSet
from dethead.data.seeds import seed_of

_UNIT = 2**20
"""Parts of 1 in which repeat factors are counted."""

# Below 0, where no image and no epoch is: random numbers that nothing else draws.
_ROUNDING, _CLASSES, _IMAGES = -1, -2, -3


class Order(Protocol):
    """Gives the images of an epoch."""

    @property
    def length(self) -> int:
        """Images of an epoch, of every one the same number; an image may be there several times."""
        ...

    def __call__(self, seed: int, epoch: int) -> list[int]:
        """Give their ``length`` indices, each in [0, I)."""
        ...


@dataclass(frozen=True, slots=True)
class InTurn:
    """Every image once, as in the data set; for evaluation."""

    length: int

    def __call__(self, seed: int, epoch: int) -> list[int]:
        """Give the indices of the data set."""
        return [*range(self.length)]


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every image once, in a new random order each epoch."""

    length: int

    def __call__(self, seed: int, epoch: int) -> list[int]:
        """Give a permutation of them."""
        order: list[int] = _permutation(self.length, seed, epoch).tolist()
        return order


@dataclass(frozen=True, slots=True, eq=False)
class RepeatFactor:
    """Images with a rare class several times (LVIS, Gupta et al. 2019, arXiv 1908.03195).

    A class c in a share f_c of the images has the factor max(1, sqrt(threshold / f_c)), and an image the
    largest factor of its classes; one without objects has 1. The factor is how often an epoch shows the image
    on average: 2.3 is twice in seven epochs of ten, three times in the others.

    The fractions are rounded together, by systematic sampling (Madow 1949), so that an epoch always has
    ``floor(sum of the factors)`` images. Where no class is rare, the order is ``Uniform``'s.
    """

    factors: Tensor
    """(I,) float64 >= 1"""

    @classmethod
    def of(cls, coco: CocoSet, threshold: float) -> "RepeatFactor":
        """Count the classes of a data set.

        Args:
            coco: the training set.
            threshold: share of the images, in (0, 1], below which a class is rare: 0.001 for LVIS' 1203
                classes, more for few.
        """
        label, image = coco.label_images().unbind(1)
        share = torch.bincount(label, minlength=len(coco.classes.names)).double() / len(coco)
        of_class = (threshold / share).sqrt()
        at_least = torch.ones(len(coco), dtype=torch.float64)
        return cls(at_least.scatter_reduce(0, image, of_class[label], "amax"))

    @property
    def length(self) -> int:
        """Images of an epoch."""
        return int(self._units().sum()) // _UNIT

    def __call__(self, seed: int, epoch: int) -> list[int]:
        """Give the images of an epoch, each about as often as its factor says."""
        times = self._times(seed, epoch)
        images = torch.arange(len(times)).repeat_interleave(times)
        # Cut off because the rounding may give one image more than an epoch has.
        order: list[int] = images[_permutation(len(images), seed, epoch)][: self.length].tolist()
        return order

    def _times(self, seed: int, epoch: int) -> Tensor:
        """(I,) how often each image is there."""
        generator = _generator(seed, epoch, _ROUNDING)
        in_turn = torch.randperm(len(self.factors), generator=generator)
        offset = torch.randint(_UNIT, (1,), generator=generator)
        # Fractions laid end to end from a random start: whoever reaches a whole number gets one more.
        units = self._units()
        ends = torch.cat([offset, offset + (units % _UNIT)[in_turn].cumsum(0)]) // _UNIT
        times = units // _UNIT
        times[in_turn] += ends.diff()
        return times

    def _units(self) -> Tensor:
        # Whole numbers: sums of fractions would depend on their order, and so the length of an epoch.
        return (self.factors * _UNIT).round().long()


@dataclass(frozen=True, slots=True, eq=False)
class ClassAware:
    """All classes alike: draw a class, then an image that shows it (Shen et al. 2016, arXiv 1512.05830).

    Classes come in rounds, each class once in a random order; so do the images of a class, none again before
    all had their turn, across epochs, too. Images that show no class are in every epoch once, at random
    places: they keep their share of the data. An epoch has as many images as the data set.
    """

    num_images: int
    images_of: tuple[Tensor, ...]
    """(images with the class,) int64 of every class that has any."""
    rest: Tensor
    """int64: images that show no class."""

    @classmethod
    def of(cls, coco: CocoSet) -> "ClassAware":
        """List the images of each class of a data set."""
        label, image = coco.label_images().unbind(1)
        counts = torch.bincount(label).tolist()
        images_of = tuple(images for images in torch.split(image, counts) if len(images))
        without = torch.ones(len(coco), dtype=torch.bool).index_fill(0, image, False)
        return cls(len(coco), images_of, without.nonzero()[:, 0])

    @property
    def length(self) -> int:
        """Images of an epoch."""
        return self.num_images

    def __call__(self, seed: int, epoch: int) -> list[int]:
        """Give the images of an epoch, classes in rounds."""
        order = torch.empty(self.num_images, dtype=torch.int64)
        places = _permutation(self.num_images, seed, epoch)
        drawn = self.num_images - len(self.rest)
        order[places[drawn:]] = self.rest
        order[places[:drawn].sort().values] = self._draws(seed, epoch * drawn, (epoch + 1) * drawn)
        images: list[int] = order.tolist()
        return images

    def _draws(self, seed: int, start: int, end: int) -> Tensor:
        """Give the images of draws ``start`` to ``end``, counted over all epochs of a run."""
        classes = len(self.images_of)
        if not classes:
            return torch.empty(0, dtype=torch.int64)
        first, last = start // classes, -(-end // classes)  # rounds
        # Round r takes image r of every class: each class has its own endless list of images.
        lists = [_shuffled_again(images, first, last, seed, c) for c, images in enumerate(self.images_of)]
        order = torch.stack([_permutation(classes, seed, round_, _CLASSES) for round_ in range(first, last)])
        rounds = torch.stack(lists, dim=1).gather(1, order)
        return rounds.flatten()[start - first * classes : end - first * classes]


def _shuffled_again(images: Tensor, start: int, end: int, seed: int, label: int) -> Tensor:
    """Give places ``start`` to ``end`` of all ``images`` in random order, then in another one, and so on."""
    size = len(images)
    passes = range(start // size, -(-end // size))
    shuffled = torch.cat([images[_permutation(size, seed, label, number, _IMAGES)] for number in passes])
    return shuffled[start - passes.start * size : end - passes.start * size]


def _permutation(size: int, *numbers: int) -> Tensor:
    return torch.randperm(size, generator=_generator(*numbers))


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*numbers))
