"""Feature maps for tests of heads, and what watches the memory that a head takes."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

LEVELS = [(4, 6), (2, 3)]
"""(rows, columns); not square, so that swapping the two shows."""


def maps(channels=16, batch=2):
    return [torch.randn(batch, channels, *cells) for cells in LEVELS]


class NewStorages(TorchDispatchMode):
    """Keeps every storage of at least so many numbers that an operation returned."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers, self.kept = numbers, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor) and value.numel() >= self.numbers:
                self.kept[value.untyped_storage().data_ptr()] = value
        return result
