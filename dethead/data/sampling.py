"""Which images make up each batch, and the loader that fetches them."""

import sys
from collections import Counter
from collections.abc import Iterator

from torch.utils.data import DataLoader, Sampler

from dethead.data.dataset import DetectionDataset, collate
from dethead.data.input_sizes import InputSizes, SizedKey
from dethead.data.orders import InTurn, Order
from dethead.structures import Batch

Key = tuple[int, ...]
"""(epoch, index of the image), and from its second time in the epoch on how often it was there before."""


class EpochBatches(Sampler[list[Key | SizedKey]]):
    """Batches of one epoch, as one of several processes sees them.

    Batches are cut from the order first, and then shared out, image k of a batch to process k mod
    ``processes``: 1 and N processes see the same images in each step.

    Args:
        order: which images an epoch shows, a function of (seed, epoch) alone.
        batch_size: images of a batch, all processes together.
        seed: of the order.
        epoch: counted from 0; ``set_epoch`` moves on without a new loader, so that workers live on.
        drop_last: leave out the images that do not fill a batch.
        rank: which of the processes, in [0, processes).
        processes: how many.
        start: batches of this epoch that are already done, for an exact resume.
        sizes: how large the images of each batch are; None: as the data set has them.

    Raises:
        ValueError: numbers that cannot be, or an order that leaves a process without images.
    """

    def __init__(
        self,
        order: Order,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        drop_last: bool,
        rank: int = 0,
        processes: int = 1,
        start: int = 0,
        sizes: InputSizes | None = None,
    ) -> None:
        if batch_size < processes or not 0 <= rank < processes:
            raise ValueError(
                f"batch_size {batch_size} (all processes together) must be at least processes {processes}, "
                f"and rank {rank} be in [0, {processes})"
            )
        length = order.length
        if drop_last and length < batch_size:
            raise ValueError(f"{length} images do not fill one batch of {batch_size}")
        # With gradients to exchange, a process that runs out of images would make the others wait for ever.
        # In turn is how a set is evaluated: there are none.
        if not (drop_last or isinstance(order, InTurn)) and 0 < length % batch_size < processes:
            raise ValueError(
                f"a last batch of {length % batch_size} images is too small for {processes} processes"
            )
        self.order, self.batch_size = order, batch_size
        self.seed, self.drop_last = seed, drop_last
        self.rank, self.processes = rank, processes
        self.sizes = sizes
        self.set_epoch(epoch, start)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to another epoch, from its batch ``start`` on; takes effect when the loader is next iterated."""
        if epoch < 0 or not 0 <= start <= self.batches:
            raise ValueError(f"epoch {epoch} must be >= 0 and start {start} in [0, {self.batches}]")
        self.epoch, self.start = epoch, start

    @property
    def batches(self) -> int:
        """Batches of a whole epoch, whichever process sees a part of them."""
        whole, rest = divmod(self.order.length, self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def __iter__(self) -> Iterator[list[Key | SizedKey]]:
        keys = self._keys()
        for batch in range(self.start, self.batches):
            images = keys[batch * self.batch_size : (batch + 1) * self.batch_size]
            share = images[self.rank :: self.processes]
            # The last batch of an evaluation may be smaller than the number of processes.
            if share:
                yield self._sized(share, batch)

    def __len__(self) -> int:
        """Give how many batches this process will see."""
        last = self.order.length % self.batch_size
        empty = self.batches > self.start and not self.drop_last and 0 < last <= self.rank
        return self.batches - self.start - int(empty)

    def _sized(self, keys: list[Key], batch: int) -> list[Key | SizedKey]:
        if self.sizes is None:
            return [*keys]
        size = self.sizes(self.seed, self.epoch, batch)
        return [SizedKey(key, size) for key in keys]

    def _keys(self) -> list[Key]:
        """Keys of the whole epoch: repetitions count the same wherever it starts, and for every process."""
        seen: Counter[int] = Counter()
        keys: list[Key] = []
        for index in self.order(self.seed, self.epoch):
            again = seen[index]
            keys.append((self.epoch, index, again) if again else (self.epoch, index))
            seen[index] += 1
        return keys


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
