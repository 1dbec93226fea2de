"""Weights: what a box's class loss is multiplied by."""

from torch import Tensor

from dethead.losses.checks import per_class


def weights_of_labels(targets: Tensor, class_weights: Tensor) -> Tensor:
    """Give every row the weight of its class; with several labels their mean.

    This is what ``class_weights`` means everywhere in dethead: a factor on the *whole* class loss of a box,
    whatever the loss is, so that softmax CE and per-class BCE are weighted alike.

    Args:
        targets: (N, C) in [0, 1], one-hot, soft or multi-hot.
        class_weights: (C,), finite and not negative.

    Returns:
        (N,): sum of targets * weights over the sum of targets; 1 for a row without any label.

    Raises:
        ValueError: weights for another number of classes, negative, infinite or nan.

    Example:
        >>> import torch
        >>> weights_of_labels(torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), torch.tensor([1.0, 3.0]))
        tensor([3., 2., 1.])
    """
    class_weights = per_class("class_weights", class_weights, targets)
    labels = targets.sum(dim=1)
    labelled = labels > 0
    weighted = (targets * class_weights).sum(dim=1)
    return (weighted / labels.where(labelled, 1.0)).where(labelled, 1.0)
