"""Weights by class from how often each class occurs, by recipes that have a name."""

from typing import Literal, NamedTuple

from torch import Tensor

RecipeName = Literal["inverse", "sqrt_inverse", "effective_number", "median_frequency"]


class ClassCounts(NamedTuple):
    """How often C classes occur in a data set."""

    boxes: Tensor
    """(C,) boxes of the class."""
    company: Tensor
    """(C,) boxes, of whatever class, in images that hold the class."""
    total: int
    """Boxes in all; a box of several labels is one."""


def weights_by_recipe(counts: ClassCounts, recipe: RecipeName, beta: float | None = None) -> Tensor:
    """Give (C,) class weights whose mean over the boxes is 1: the loss keeps its size, only shares move.

    With n the boxes of a class, before that normalisation:

    - ``inverse``: 1 / n.
    - ``sqrt_inverse``: 1 / sqrt(n).
    - ``effective_number``: (1 - beta) / (1 - beta^n). Cui et al. 2019, https://arxiv.org/abs/1901.05555,
      equation 2.
    - ``median_frequency``: median(f) / f, where f is n over the boxes of all images that hold the class.
      Eigen and Fergus 2015, https://arxiv.org/abs/1411.4734, section 6.3.2, boxes in place of pixels.

    A class without boxes gets the weight of a class with one; it enters nothing.

    Args:
        counts: of the training set.
        recipe: one of the above.
        beta: of ``effective_number``, in [0, 1).

    Raises:
        ValueError: an unknown recipe, or a beta that is missing, out of range, or of another recipe.

    Example:
        >>> import torch
        >>> seen = torch.tensor([90, 10])
        >>> weights_by_recipe(ClassCounts(seen, seen, 100), "inverse")
        tensor([0.5556, 5.0000])
    """
    if (recipe == "effective_number") != (beta is not None):
        raise ValueError(f"beta goes with effective_number alone, which needs it; got {recipe} and {beta}")
    if beta is not None and not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1), got {beta}")
    boxes = counts.boxes.double().clamp(min=1)
    if recipe == "inverse":
        weights = 1 / boxes
    elif recipe == "sqrt_inverse":
        weights = boxes.rsqrt()
    elif recipe == "effective_number":
        assert beta is not None
        weights = (1 - beta) / (1 - beta**boxes)
    elif recipe == "median_frequency":
        frequency = boxes / counts.company.double().clamp(min=1)
        weights = frequency.quantile(0.5) / frequency
    else:
        raise ValueError(f"unknown recipe {recipe!r}")
    seen = counts.boxes.double()
    mean = (seen * weights).sum() / seen.sum().clamp(min=1)
    return (weights / mean.where(mean > 0, 1.0)).float()


def class_shares(counts: ClassCounts) -> Tensor:
    """Give (C,) the share of each class among all labels, in (0, 1) with sum 1: each count is raised by one.

    Example:
        >>> import torch
        >>> class_shares(ClassCounts(torch.tensor([7, 1]), torch.tensor([8, 8]), 8))
        tensor([0.8000, 0.2000])
    """
    labels = counts.boxes.double() + 1
    return (labels / labels.sum()).float()
