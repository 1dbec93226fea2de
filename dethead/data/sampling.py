"""Which images make up each batch, and the loader that fetches them."""

import sys
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Sampler

from dethead.data.dataset import DetectionDataset, collate
from dethead.data.seeds import seed_of
from dethead.structures import Batch

Key = tuple[int, int]
"""(epoch, index of the image)"""


class EpochBatches(Sampler[list[Key]]):
    """Batches of one epoch, as one of several processes sees them.

    The order is a function of (seed, epoch) alone. Batches are cut from it first, and then shared out, image
    k of a batch to process k mod ``processes``: 1 and N processes see the same images in each step.

    Args:
        num_images: images of the data set.
        batch_size: images of a batch, all processes together.
        seed: of the order.
        epoch: counted from 0; ``set_epoch`` moves on without a new loader, so that workers live on.
        shuffle: a new order each epoch, else the order of the data set.
        drop_last: leave out the images that do not fill a batch.
        rank: which of the processes, in [0, processes).
        processes: how many.
        start: batches of this epoch that are already done, for an exact resume.

    Raises:
        ValueError: numbers that cannot be, or an order that leaves a process without images.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        shuffle: bool,
        drop_last: bool,
        rank: int = 0,
        processes: int = 1,
        start: int = 0,
    ) -> None:
        if batch_size < processes or not 0 <= rank < processes:
            raise ValueError(
                f"batch_size {batch_size} (all processes together) must be at least processes {processes}, "
                f"and rank {rank} be in [0, {processes})"
            )
        if drop_last and num_images < batch_size:
            raise ValueError(f"{num_images} images do not fill one batch of {batch_size}")
        # With gradients to exchange, a process that runs out of images would make the others wait for ever.
        if shuffle and not drop_last and 0 < num_images % batch_size < processes:
            raise ValueError(
                f"a last batch of {num_images % batch_size} images is too small for {processes} processes"
            )
        self.num_images, self.batch_size = num_images, batch_size
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        self.rank, self.processes = rank, processes
        self.set_epoch(epoch, start)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to another epoch, from its batch ``start`` on; takes effect when the loader is next iterated."""
        if epoch < 0 or not 0 <= start <= self.batches:
            raise ValueError(f"epoch {epoch} must be >= 0 and start {start} in [0, {self.batches}]")
        self.epoch, self.start = epoch, start

    @property
    def batches(self) -> int:
        """Batches of a whole epoch, whichever process sees a part of them."""
        whole, rest = divmod(self.num_images, self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order()
        for batch in range(self.start, self.batches):
            images = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            share = images[self.rank :: self.processes]
            # The last batch of an evaluation may be smaller than the number of processes.
            if share:
                yield [(self.epoch, index) for index in share]

    def __len__(self) -> int:
        """Give how many batches this process will see."""
        last = self.num_images % self.batch_size
        empty = self.batches > self.start and not self.drop_last and 0 < last <= self.rank
        return self.batches - self.start - int(empty)

    def _order(self) -> list[int]:
        if not self.shuffle:
            return [*range(self.num_images)]
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order: list[int] = torch.randperm(self.num_images, generator=generator).tolist()
        return order


def make_loader(
    dataset: DetectionDataset, sampler: EpochBatches, workers: int, *, pin_memory: bool = False
) -> DataLoader[Batch]:
    """Make the loader of one process; ``sampler.set_epoch`` and another ``iter`` give the next epoch.

    Args:
        dataset: the images.
        sampler: the batches.
        workers: processes that decode and augment, each on one thread; 0 does it in this one.
        pin_memory: for a batch that goes to a CUDA device.
    """
    # Fork shares the arrays of the data set and starts at once. macOS has it, but unsafe; Windows has not.
    context = "fork" if sys.platform == "linux" else "spawn"
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # a Dataset[Item], collated to batches
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=context if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )
