"""Image files and their truth as items of one size, and batches of them."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dethead.data.coco import CocoSet
from dethead.data.errors import DataError
from dethead.data.images import check_end, check_size, image_size, read_image
from dethead.data.input_sizes import SizedKey
from dethead.data.samples import Sample, canvas, resize_to_fit, stack_images
from dethead.data.seeds import seed_of
from dethead.data.transforms import TrainTransform
from dethead.structures import Batch, GroundTruth, Resize

_log = logging.getLogger(__name__)

# Reading headers waits for the disk, hardly for the processor.
_CHECK_THREADS = 8

# Below 0, where no image is: random numbers that nothing else draws. -1 to -3 are those of the orders.
_REBUILDING = -4


class Item(NamedTuple):
    """One image as the network wants it."""

    image: Tensor
    """(3, H, W) uint8 RGB"""
    truth: GroundTruth
    """Boxes in pixels of the network input."""
    image_id: int
    """As in the annotation file."""
    resize: Resize
    """The way back to original pixels; after an augmentation, to pixels of the augmented image."""
    image_index: int
    """Place in the ``CocoSet``."""


class DetectionDataset(Dataset[Item]):
    """Images of a ``CocoSet``, decoded, augmented and resized when asked for.

    Args:
        coco: what is in the images.
        images: the folder that file names are relative to.
        size: (height, width) of the network input, in pixels.
        transform: the augmentation, None for evaluation.
        seed: of the augmentation, which is a function of seed and key alone: the same whatever the number of
            workers, processes and images in a batch, and the same in all runs of an ablation. So are the
            partners of a mosaic: any images of the set, each as likely, whatever the sampler shows.
        skip_unreadable: put a grey image, ignored as a whole, in place of a damaged file, and note it in
            ``unreadable``. Off, a damaged file is an error.
        epochs: of the run; the last ones are augmented plainly if ``transform`` says so.

    Raises:
        ValueError: last epochs of a number that is not known.
    """

    def __init__(
        self,
        coco: CocoSet,
        images: Path,
        size: tuple[int, int],
        transform: TrainTransform | None,
        seed: int,
        skip_unreadable: bool = False,
        epochs: int | None = None,
    ) -> None:
        plain = 0 if transform is None else transform.last_epochs_plain
        if plain and epochs is None:
            raise ValueError(f"last_epochs_plain {plain} needs the number of epochs")
        self.coco = coco
        self.images = images
        self.size = size
        self.transform = transform
        self.seed = seed
        self.skip_unreadable = skip_unreadable
        self._plain_from = math.inf if epochs is None else epochs - plain
        # Shared memory: worker processes write, the main process reads.
        self.unreadable = torch.zeros(len(coco), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
        """(I,) bool: images that were left out so far."""

    def __len__(self) -> int:
        return len(self.coco)

    def __getitem__(self, key: tuple[int, ...] | SizedKey) -> Item:
        """Give an image of an epoch.

        Args:
            key: (epoch, index of the image in the ``CocoSet``), and a third number, 1, 2, ..., when the epoch
                shows the image again: every time is augmented otherwise. A ``SizedKey`` asks for a size
                of its own.

        Raises:
            DataError: a file that is missing, damaged, or of another size than the annotation file says.
        """
        key, size = key if isinstance(key, SizedKey) else (key, self.size)
        index = key[1]
        sample = self._read(index)
        if self.transform is not None:
            sample = self._augment(self.transform, sample, key, size)
        sample, resize = resize_to_fit(sample, size)
        return Item(sample.image, sample.truth, int(self.coco.image_ids[index]), resize, index)

    def _augment(
        self, transform: TrainTransform, sample: Sample, key: tuple[int, ...], size: tuple[int, int]
    ) -> Sample:
        picture = None
        # Not torch.manual_seed: it would also reset the generator of the GPU, in the middle of training.
        with torch.random.fork_rng(devices=[]):
            if transform.rebuilds and key[0] < self._plain_from:
                # A seed of its own: an image that is left alone looks as in a run that leaves all alone.
                torch.default_generator.manual_seed(seed_of(self.seed, *key, _REBUILDING))
                picture = transform.rebuild(sample, size, self._draw_image)
            torch.default_generator.manual_seed(seed_of(self.seed, *key))
            return transform(sample) if picture is None else transform.finish(picture)

    def _draw_image(self) -> Sample:
        return self._read(int(torch.randint(len(self), ())))

    def _read(self, index: int) -> Sample:
        path = self.images / self.coco.file_name(index)
        height, width = self.coco.sizes[index].tolist()
        truth = self.coco.truth(index)
        try:
            image = read_image(path)
            check_size(path, (image.shape[1], image.shape[2]), (height, width))
        except DataError as error:
            if not self.skip_unreadable:
                raise DataError(
                    f"{error}; data.skip_unreadable=true leaves out what cannot be read, also on a resume"
                ) from error
            if not self.unreadable[index]:
                _log.warning("left out: %s", error)
            self.unreadable[index] = True
            return _blank(height, width, truth.targets.shape[1])
        return Sample(image, truth)


def collate(items: Sequence[Item]) -> Batch:
    """Stack items of one size."""
    return Batch(
        images=stack_images([item.image for item in items]),
        truth=[item.truth for item in items],
        image_ids=[item.image_id for item in items],
        resizes=[item.resize for item in items],
    )


class Problem(NamedTuple):
    """An image file that training would stop at."""

    image_index: int
    """Place in the ``CocoSet``."""
    image_id: int
    message: str
    """Names the file."""


def check_images(coco: CocoSet, images: Path) -> list[Problem]:
    """Look for missing, truncated and wrongly sized image files, reading little more than their headers.

    Args:
        coco: what should be there.
        images: the folder that file names are relative to.

    Returns:
        The problems, by index.
    """
    with ThreadPoolExecutor(_CHECK_THREADS) as threads:
        found = threads.map(lambda index: _check_image(coco, images, index), range(len(coco)))
        return [problem for problem in found if problem is not None]


def _check_image(coco: CocoSet, images: Path, index: int) -> Problem | None:
    path = images / coco.file_name(index)
    height, width = coco.sizes[index].tolist()
    try:
        check_size(path, image_size(path), (height, width))
        check_end(path)
    except DataError as error:
        return Problem(index, int(coco.image_ids[index]), str(error))
    return None


def _blank(height: int, width: int, num_classes: int) -> Sample:
    image = canvas(torch.empty(0, dtype=torch.uint8), (height, width))
    nothing = GroundTruth.from_labels(
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
        num_classes,
        ignore_boxes=torch.tensor([[0.0, 0.0, width, height]]),
    )
    return Sample(image, nothing)
