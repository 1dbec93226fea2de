"""A penalty on weights, as a term of the loss that one can see and log."""

from torch import Tensor

from dethead.boxes import at_least_float32


def l2_penalty(weights: Tensor) -> Tensor:
    """Sum of the squared weights, without the 1/2 that an optimiser's weight decay has.

    Its gradient is ``2 * weights``: ``lambda * l2_penalty(w)`` acts on SGD like a weight decay of 2 lambda.

    Args:
        weights: any shape; for a head's class logits ``DetectionHead.class_rows``.

    Returns:
        Scalar, float32 at least.

    Example:
        >>> import torch
        >>> l2_penalty(torch.tensor([[3.0, 4.0]]))
        tensor(25.)
    """
    return at_least_float32(weights).square().sum()
