"""Ctrl-C and SIGTERM: finish the step, save, go."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests(ask: Callable[[], bool]) -> Iterator[None]:
    """Call ``ask`` on Ctrl-C or SIGTERM; where it says no (asked twice), stop at once.

    Args:
        ask: notes the wish to stop; False if it was noted before.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if not ask():
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {number: signal.signal(number, handle) for number in numbers}
    except ValueError:  # not in the main thread: whoever runs us there stops us in its own way
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
