"""How a library user turns unreduced losses into one number."""

from typing import Literal

from torch import Tensor


def reduce(loss: Tensor, how: Literal["none", "mean", "sum"], weights: Tensor | None = None) -> Tensor:
    """Reduce an unreduced loss as PyTorch's losses do; without rows the answer is 0 and not nan.

    Args:
        loss: any shape.
        how: "none" gives ``loss * weights``; "sum" its sum; "mean" the sum over the sum of the weights, which
            is what ``torch.nn.CrossEntropyLoss(weight=...)`` does with integer labels.
        weights: of the shape of ``loss``, not negative; 1 by default. A weight of 0 takes a row out of
            the mean, which is how ignored rows are left out of it.

    Raises:
        ValueError: another ``how``, or weights of another shape.

    Example:
        >>> import torch
        >>> reduce(torch.tensor([1.0, 2.0]), "mean", torch.tensor([3.0, 1.0]))  # (3 + 2) / 4
        tensor(1.2500)
    """
    if weights is not None and weights.shape != loss.shape:
        raise ValueError(f"weights {tuple(weights.shape)} do not fit the loss {tuple(loss.shape)}")
    weighted = loss if weights is None else loss * weights
    if how == "none":
        return weighted
    if how == "sum":
        return weighted.sum()
    if how == "mean":
        total = loss.new_tensor(float(loss.numel())) if weights is None else weights.sum()
        return weighted.sum() / total.where(total > 0, 1.0)
    raise ValueError(f"how must be 'none', 'mean' or 'sum', got {how!r}")
