"""Reading many records without the garbage collector."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Switch the collector off, for code that makes many objects and no cycles among them.

    New objects by the thousand make it look through all that there are, PyTorch's included, again and again:
    that takes longer than to parse a file. Also a decorator.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
