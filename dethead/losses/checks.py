"""Checks of values, and the sentences that refuse them; skipped under ``torch.compile`` and in ``trusted()``.

A check waits for the device. That is microseconds on a CPU; a GPU that has to answer in the middle of a step
loses a little of its queue, once for each check.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator

import torch
from torch import Tensor

_trusted = contextvars.ContextVar("trusted", default=False)


@contextlib.contextmanager
def trusted() -> Iterator[None]:
    """Leave out the checks of values within: for callers that have made them, or make them once a step."""
    before = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(before)


def values_are_checked() -> bool:
    """Whether values, not only shapes and settings, are looked at."""
    return not (torch.compiler.is_compiling() or _trusted.get())


def first_outside(values: Tensor, low: float, high: float) -> tuple[int, ...] | None:
    """Index of the first value that is nan or not in [low, high]; None if all are, or under compilation."""
    if not values_are_checked() or values.numel() == 0:
        return None
    smallest, largest = values.detach().aminmax()
    # nan passes through aminmax, and compares false with everything.
    if low <= smallest.item() and largest.item() <= high:
        return None
    return tuple(int(i) for i in (~((values >= low) & (values <= high))).nonzero()[0])


def check_finite(name: str, logits: Tensor) -> None:
    """Refuse (N, C) ``logits`` that hold a nan or an infinity.

    Raises:
        ValueError: naming the first such row.
    """
    limit = torch.finfo(logits.dtype).max
    wrong = first_outside(logits, -limit, limit)
    if wrong is not None:
        raise ValueError(
            f"{name} of row {wrong[0]} are not finite: {logits[wrong].item()} at class {wrong[1]}"
        )


def per_class(name: str, values: Tensor, like: Tensor) -> Tensor:
    """Give (C,) ``values``, weights or counts, in the type and on the device of (N, C) ``like``.

    Raises:
        ValueError: another shape; a value that is negative, infinite or nan.
    """
    if values.shape != like.shape[1:]:
        raise ValueError(f"{name} {tuple(values.shape)} for {like.shape[1]} classes")
    return _not_negative(name, "class", values.to(like))


def per_row(name: str, values: Tensor, like: Tensor) -> Tensor:
    """Give (N,) ``values`` in the type and on the device of (N, C) ``like``.

    Raises:
        ValueError: another shape; a value that is negative, infinite or nan.
    """
    if values.shape != like.shape[:1]:
        raise ValueError(f"{name} {tuple(values.shape)} for {like.shape[0]} rows")
    return _not_negative(name, "row", values.to(like))


def check_number(name: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse a setting that is not a finite number in [low, high].

    Raises:
        ValueError: naming it.
    """
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must be finite and in [{low}, {high}], got {value}")


def check_above_zero(name: str, value: float) -> None:
    """Refuse a setting that is not a finite number above 0.

    Raises:
        ValueError: naming it.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be finite and above 0, got {value}")


def check_exponent(name: str, value: float) -> None:
    """Refuse the exponent of a factor that fades to 0, unless it is 0 or at least 1.

    Raises:
        ValueError: naming it.
    """
    if not (value == 0 or 1 <= value < math.inf):
        raise ValueError(
            f"{name} must be 0 or at least 1, got {value}: between 0 and 1 the slope of x^{name} has no "
            "bound at x = 0, where a saturated logit ends"
        )


def _not_negative(name: str, what: str, values: Tensor) -> Tensor:
    wrong = first_outside(values, 0.0, torch.finfo(values.dtype).max)
    if wrong is not None:
        raise ValueError(
            f"{name} of {what} {wrong[0]} is {values[wrong].item()}, must be finite and not negative"
        )
    return values
