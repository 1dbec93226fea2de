"""What accumulates while a run trains: kept in buffers, saved in checkpoints, the same on all processes."""

import torch
from torch import Tensor, nn

from dethead.normalisers import Counts
from dethead.structures import ClassesSeen

MOMENTUM = 0.9
START = 100.0
"""Of the running mean of positives, as in Detectron2."""


class RunningState(nn.Module):
    """What class losses and normalisers may know of the steps before this one.

    The loop hands ``classes()`` and ``with_mean(counts)`` to the criterion, and ``add``s what the step saw,
    its micro-batches and processes together.

    Args:
        num_classes: C.
    """

    positives: Tensor
    yes_gradient: Tensor
    no_gradient: Tensor
    mean_positives: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        for name in ClassesSeen._fields:
            self.register_buffer(name, torch.zeros(num_classes))
        self.register_buffer("mean_positives", torch.tensor(START))

    def classes(self) -> ClassesSeen:
        """Give what each class got so far; the loss must not change it."""
        return ClassesSeen(self.positives, self.yes_gradient, self.no_gradient)

    @torch.no_grad()
    def with_mean(self, counts: Counts) -> Counts:
        """Move the running mean on by the counts of a step, and add it to them.

        The mean is kept of the positives of all processes, so that one and N of them go the same way; the
        counts get, as of everything, a process's share.
        """
        self.mean_positives.lerp_((counts.positives * counts.processes).clamp(min=1), 1 - MOMENTUM)
        return counts._replace(running_positives=self.mean_positives / counts.processes)

    @torch.no_grad()
    def add(self, seen: ClassesSeen) -> None:
        """Add what a step saw."""
        for buffer, more in zip(self.classes(), seen, strict=True):
            buffer += more


def add_seen(first: ClassesSeen, second: ClassesSeen) -> ClassesSeen:
    """Join what two micro-batches of a step saw."""
    return ClassesSeen(*(a + b for a, b in zip(first, second, strict=True)))
