"""What a loss term is divided by, by name. Nine systems divide in nine ways; here it is said."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dethead.structures import IGNORE, Assignment


class Counts(NamedTuple):
    """What there is to divide by in one optimiser step: summed over its micro-batches, mean over processes.

    The mean, because data parallelism averages gradients over processes: then 1 and N processes, and 1 x 8
    and 2 x 4 images, give the same gradient.
    """

    positives: Tensor
    """Positive anchors, float scalar."""
    anchors: Tensor
    """Anchors that are not ignored, float scalar."""
    images: Tensor
    """Images, float scalar."""
    processes: Tensor
    """Processes whose gradients are averaged, float scalar."""
    running_positives: Tensor | None = None
    """Running mean of the positives of a step, where the loop keeps one (``dethead.running``)."""


def count(assignment: Assignment) -> Counts:
    """Count one batch of one process; nothing waits for the device."""
    matched = assignment.matched
    images = torch.full((), float(len(matched)), device=matched.device)
    positives, anchors = (matched >= 0).sum().float(), (matched != IGNORE).sum().float()
    return Counts(positives, anchors, images, torch.ones_like(images))


def add_counts(first: Counts, second: Counts) -> Counts:
    """Join the counts of two micro-batches of the same optimiser step."""
    return Counts(
        first.positives + second.positives,
        first.anchors + second.anchors,
        first.images + second.images,
        first.processes,
    )


Normaliser = Callable[[Counts, Assignment], Tensor]
"""Counts of the whole step and the assignment of this batch -> divisor, a scalar or one per image (B,)."""


def by_positives(counts: Counts, assignment: Assignment) -> Tensor:
    """Divide by the positive anchors (SSD, YOLOX)."""
    return _or_one(counts.positives)


def by_positives_plus_one(counts: Counts, assignment: Assignment) -> Tensor:
    """Divide by the positive anchors and one (EfficientDet); the one, too, is shared by the processes."""
    return counts.positives + 1.0 / counts.processes


def by_running_positives(counts: Counts, assignment: Assignment) -> Tensor:
    """Divide by the running mean of the positives, so that batches with few weigh little (Detectron2).

    Without a loop that keeps the mean (``dethead.running.RunningState``) it is ``by_positives``.
    """
    return _or_one(counts.positives if counts.running_positives is None else counts.running_positives)


def by_positives_per_image(counts: Counts, assignment: Assignment) -> Tensor:
    """Divide each image by its own positives, then average over images (torchvision's RetinaNet)."""
    per_image = (assignment.matched >= 0).sum(dim=1).float()
    return _or_one(per_image) * counts.images


def by_anchors(counts: Counts, assignment: Assignment) -> Tensor:
    """Divide by all anchors that are not ignored."""
    return _or_one(counts.anchors)


@dataclass(frozen=True, slots=True)
class Constant:
    """Divide by a number that no batch changes.

    Averaging over N processes would divide by N once more; that is taken out.
    """

    value: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise ValueError(f"a constant normaliser must be above 0, got {self.value}")

    def __call__(self, counts: Counts, assignment: Assignment) -> Tensor:
        """Give the number, for the part of the step that one process sees."""
        return self.value / counts.processes


def _or_one(number: Tensor) -> Tensor:
    # Not clamp(min=1): with 1 positive on 2 processes the mean is 0.5, and must stay 0.5.
    return number.where(number > 0, 1.0)
