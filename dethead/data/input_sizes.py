"""Multi-scale training: how large the images of each batch are."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from dethead.data.seeds import seed_of

# Below 0, where no image is: random numbers that nothing else draws (-1 to -4 are taken).
_SIZES = -5


class SizedKey(NamedTuple):
    """What is asked of a data set, at a size that is not the one it usually gives."""

    key: tuple[int, ...]
    size: tuple[int, int]
    """(height, width) in px"""


@dataclass(frozen=True, slots=True)
class InputSizes:
    """One size out of a list for each step, all alike often; a function of (seed, epoch, batch) alone.

    Redmon and Farhadi 2016 (YOLO9000, arXiv 1612.08242, section 2) draw one for ten batches.
    """

    choices: tuple[tuple[int, int], ...]
    """(height, width) in px"""
    micro_batches: int = 1
    """Batches of one optimiser step: they share a size, so that 2 x 4 images are still the step of 1 x 8."""

    def __call__(self, seed: int, epoch: int, batch: int) -> tuple[int, int]:
        """Give the size of a batch, counted from 0 in its epoch."""
        number = seed_of(seed, epoch, batch // self.micro_batches, _SIZES)
        place = torch.randint(len(self.choices), (), generator=torch.Generator().manual_seed(number))
        return self.choices[int(place)]
