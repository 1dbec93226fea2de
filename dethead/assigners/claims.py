"""How boxes take anchors, and who keeps an anchor that several take."""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

STRETCH: Final = 64
"""Neighbours whose extreme value is looked at before theirs: of a long row only some stretches matter."""


def select(wanted: Tensor, *parts: Tensor) -> list[Tensor]:
    """Cut (P,) parts down to the (P,) bool that are wanted."""
    rows = wanted.nonzero()[:, 0]
    return [part.index_select(0, rows) for part in parts]


def highest(values: Tensor, count: int) -> Tensor:
    """(N, ``count``) highest of each row of (N, A) values, in falling order; -inf where a row has no more."""
    missing = max(count - values.shape[1], -values.shape[1] % STRETCH)
    long = values.shape[1] > 2 * count * STRETCH
    if missing > 0 and (long or values.shape[1] < count):
        values = F.pad(values, (0, missing), value=-torch.inf)
    if not long:
        return values.topk(count, dim=1).values
    # The ``count`` highest are in as many stretches: in those of the highest maxima.
    stretches = values.view(len(values), -1, STRETCH)
    first = stretches.amax(dim=2).topk(count, dim=1).indices
    found = stretches.gather(1, first[..., None].expand(-1, -1, STRETCH))
    return found.flatten(1).topk(count, dim=1).values


def cheapest(costs: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Give row and column of the ``counts`` (N,) smallest of each row of (N, A) ``costs``, in this order.

    An infinite cost is never taken, so a row may get fewer. Of equal costs the first ones are taken, on every
    device: ``topk`` alone promises no order. Neither N nor A may be 0.

    Example:
        >>> cheapest(torch.tensor([[3.0, 1.0, 3.0, float("inf")]]), torch.tensor([2]))
        (tensor([0, 0]), tensor([0, 1]))
    """
    most = min(max(int(counts.max()), 1), costs.shape[1])
    last = (counts - 1).clamp(0, most - 1)[:, None]
    limits = -highest(-costs, most).gather(1, last)
    row, column = ((costs <= limits) & (costs < torch.inf)).nonzero().unbind(dim=1)
    if not (_number(row, torch.ones_like(row), len(costs)) > counts).any():
        return row, column  # nothing ties for a last place
    tied = costs[row, column] == limits[row, 0]
    room = counts - _number(row, ~tied, len(costs))
    # Which of the tied ones of its row each is, from 1.
    rank = tied.cumsum(dim=0) - _before(_number(row, tied, len(costs)))[row]
    row, column = select(~tied | (rank <= room[row]), row, column)
    return row, column


def cheapest_pairs(box: Tensor, costs: Tensor, counts: Tensor) -> Tensor:
    """(Q,) places in P pairs of the ``counts`` (N,) cheapest of each box, of equal ones the first.

    Args:
        box: (P,) int64 in [0, N), ascending.
        costs: (P,)
        counts: (N,)
    """
    if not len(box):
        return box
    numbers = torch.bincount(box, minlength=len(counts))
    start = _before(numbers)
    table = costs.new_full((len(counts), int(numbers.max())), torch.inf)
    table[box, torch.arange(len(box), device=box.device) - start[box]] = costs
    row, column = cheapest(table, counts)
    return start[row] + column


def _number(row: Tensor, counted: Tensor, rows: int) -> Tensor:
    """(N,) how many of (P,) entries of a row are counted; unlike ``bincount`` it waits for no GPU."""
    return row.new_zeros(rows).index_add_(0, row, counted.to(row.dtype))


def _before(numbers: Tensor) -> Tensor:
    """(N,) how many the (N,) ``numbers`` before each add up to."""
    return numbers.cumsum(dim=0) - numbers


class Claims:
    """The best claim on each of A anchors, while boxes come in chunks, in order."""

    def __init__(self, anchors: int, like: Tensor, lowest: float = -torch.inf) -> None:
        self.value = like.new_full((anchors,), lowest)
        self.box = torch.full((anchors,), -1, device=like.device)
        """(A,) int64: the box that keeps the anchor, -1 where none claims it."""

    def add(self, start: int, taken: Tensor, values: Tensor) -> None:
        """Let boxes ``start``, ``start + 1``, ... claim the anchors they have ``taken``, both (N, A)."""
        box, anchors = taken.nonzero().unbind(dim=1)
        self.add_pairs(box + start, anchors, values[box, anchors])

    def add_pairs(self, box: Tensor, anchors: Tensor, values: Tensor) -> None:
        """Let (P,) boxes claim an anchor each.

        The highest value keeps an anchor; of equal ones the first box does, however the boxes are cut.
        """
        values = values.to(self.value.dtype)
        anchors, box, values = select(values > self.value[anchors], anchors, box, values)
        self.value.scatter_reduce_(0, anchors, values, "amax")
        anchors, box = select(values == self.value[anchors], anchors, box)
        self.box.index_fill_(0, anchors, torch.iinfo(torch.int64).max)
        self.box.scatter_reduce_(0, anchors, box, "amin")
