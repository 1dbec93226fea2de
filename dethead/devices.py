"""What must be different where a device works behind the host: to ask it for a value is to wait for it."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

BEHIND: Final = ("cuda",)
"""The types of such devices."""


def is_behind(tensor: Tensor) -> bool:
    """Whether the values of a tensor are not to be asked for, nor be copied from the host, during a step.

    Each of these lets the device run out of work for a moment, and a CUDA graph can hold none of them.
    """
    return tensor.device.type in BEHIND


def numbers(values: Sequence[float], like: Tensor) -> Tensor:
    """(N,) numbers that Python knows, of the type and on the device of ``like``, which is not waited for.

    Example:
        >>> numbers([0.5, 2], torch.zeros(3))
        tensor([0.5000, 2.0000])
    """
    if not is_behind(like) or torch.compiler.is_compiling():  # a compiler keeps them beside its code
        return torch.tensor(values, dtype=like.dtype, device=like.device)
    # A copy would wait. What a kernel is called with is there when it starts; this one takes many numbers.
    result = like.new_zeros(len(values))
    if len(values):
        torch._foreach_add_(result.unbind(), [*values])
    return result
