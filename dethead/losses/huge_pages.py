"""Large new tensors in huge pages, where Linux has them: what costs most in a loss is memory that is new."""

import ctypes
import mmap
from collections.abc import Callable
from functools import cache
from typing import Final

from torch import Tensor

LEAST: Final = 2**25
"""Bytes from which tensors are asked for. Smaller ones may lie in memory that the process keeps when they are
freed: that is not new the next time, and would stay in huge pages whatever it is used for then."""


def in_huge_pages(new: Tensor) -> Tensor:
    """Ask for huge pages behind a tensor that nothing has been written to, and give it back.

    The system hands out memory when it is first written to, cleared, page by page. 80 MiB in pages of 4 KiB
    take longer than binary cross-entropy of as many logits; in pages of 2 MiB they take a quarter. It is a
    request: where it cannot be granted, and on other systems and devices, nothing changes.

    Args:
        new: contiguous.
    """
    ask = _madvise()
    if ask is None or new.device.type != "cpu" or new.nbytes < LEAST:
        return new
    start = -(-new.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages alone
    ask(start, (new.data_ptr() + new.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE, mmap.MADV_HUGEPAGE)
    return new


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """Linux's call; None where there are no huge pages to ask for."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    call = ctypes.CDLL(None).madvise
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return call
