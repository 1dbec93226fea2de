"""How boxes take anchors, and who keeps an anchor that several take."""

import torch
from torch import Tensor


def cheapest(costs: Tensor, counts: Tensor) -> Tensor:
    """(N, A) bool: the ``counts`` (N,) smallest of each row of (N, A) ``costs``.

    An infinite cost is never taken, so a row may get fewer. Of equal costs the first ones are taken, on every
    device: ``topk`` alone promises no order. Neither N nor A may be 0.

    Example:
        >>> cheapest(torch.tensor([[3.0, 1.0, 3.0, float("inf")]]), torch.tensor([2]))
        tensor([[ True,  True, False, False]])
    """
    most = min(max(int(counts.max()), 1), costs.shape[1])
    last = (counts - 1).clamp(0, most - 1)[:, None]
    limit = costs.topk(most, dim=1, largest=False).values.gather(1, last)
    below = costs < limit
    equal = (costs == limit) & costs.isfinite()
    room = counts[:, None] - below.sum(dim=1, keepdim=True)
    return below | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= room))


class Claims:
    """The best claim on each of A anchors, while boxes come in chunks."""

    def __init__(self, anchors: int, like: Tensor) -> None:
        self.value = like.new_full((anchors,), -torch.inf)
        self.box = torch.full((anchors,), -1, device=like.device)
        """(A,) int64: the box that keeps the anchor, -1 where none claims it."""

    def add(self, start: int, taken: Tensor, values: Tensor) -> None:
        """Let boxes ``start``, ``start + 1``, ... claim the anchors they have ``taken``, both (N, A).

        The highest value keeps an anchor; of equal ones the first box does, however the boxes are cut.
        """
        values, rows = values.where(taken, -torch.inf).max(dim=0)
        better = values > self.value
        self.value = torch.where(better, values, self.value)
        self.box = torch.where(better, rows + start, self.box)
