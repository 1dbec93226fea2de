"""Which anchors without an object are worth a lesson."""

import math

import torch
from torch import Tensor

from dethead.devices import is_behind


@torch.no_grad()
def hard_negatives(loss: Tensor, candidates: Tensor, positives: int | Tensor, ratio: float) -> Tensor:
    """Choose the negatives of highest loss: ``ratio`` for each positive of the whole batch.

    Counting over the batch lets images without objects contribute: their worst false alarms compete with
    those of all images. A batch without any positive keeps as many as one with a single positive would, so
    that it teaches background, too. With several processes each counts and chooses among its own images.
    On CUDA nothing waits for the device.

    Args:
        loss: (B, A), at least 0; never followed backwards.
        candidates: (B, A) bool, the negatives to choose from; ignored anchors are not among them.
        positives: how many there are in the batch; a tensor on the device of ``loss``, or a number.
        ratio: above 0; SSD takes 3. The count ``ratio * max(positives, 1)`` is rounded, to 1 at least.

    Returns:
        (B, A) bool, a subset of ``candidates`` of exactly that count, or all of them where there are fewer.
        Of equal losses the first in image and anchor order is kept.

    Raises:
        ValueError: shapes that do not fit, a ratio that is not above 0.

    Source: Liu et al. 2016, https://arxiv.org/abs/1512.02325, section 2.2 (there per image).

    Example:
        >>> loss = torch.tensor([[0.1, 0.9], [0.5, 0.4]])
        >>> hard_negatives(loss, torch.tensor([[True, True], [True, True]]), positives=1, ratio=2)
        tensor([[False,  True],
                [ True, False]])
    """
    if not 0 < ratio < math.inf:
        raise ValueError(f"the ratio of negatives to positives must be above 0 and finite, got {ratio}")
    if candidates.shape != loss.shape or candidates.dtype != torch.bool:
        raise ValueError(
            f"candidates must be bool {tuple(loss.shape)}, got {candidates.dtype} {tuple(candidates.shape)}"
        )
    choose = _by_order if is_behind(loss) else _by_count
    return choose(loss, candidates, positives, ratio)


def _by_count(loss: Tensor, candidates: Tensor, positives: int | Tensor, ratio: float) -> Tensor:
    """See ``hard_negatives``; the counts are asked for, and no more than the highest values are sorted."""
    wanted = max(round(ratio * max(int(positives), 1)), 1)
    if int(candidates.sum()) <= wanted:
        return candidates.clone()
    values = _values(loss, candidates)
    return _highest(values, values.topk(wanted).values[-1], wanted).view_as(candidates)


def _by_order(loss: Tensor, candidates: Tensor, positives: int | Tensor, ratio: float) -> Tensor:
    """See ``hard_negatives``; the counts stay on the device, and all values are sorted."""
    if not loss.numel():
        return candidates.clone()
    like = loss.new_empty((), dtype=torch.float64)  # as Python multiplies
    count = like.new_full((), positives) if isinstance(positives, int) else positives.to(like)
    wanted = (ratio * count.clamp(min=1)).round().clamp(1, loss.numel()).long()
    values = _values(loss, candidates)
    limit = values.sort().values.gather(0, (loss.numel() - wanted).view(1))
    # Where there are fewer candidates than wanted the limit is -inf: what is no candidate has that, too.
    return _highest(values, limit, wanted).view_as(candidates) & candidates


def _values(loss: Tensor, candidates: Tensor) -> Tensor:
    """(B * A,) losses of the candidates, -inf elsewhere."""
    # A nan must not empty the choice: it counts as the highest loss, and is seen in the sum.
    return loss.nan_to_num(nan=math.inf).masked_fill(~candidates, -math.inf).flatten()


def _highest(values: Tensor, limit: Tensor, wanted: int | Tensor) -> Tensor:
    """(N,) bool: the ``wanted`` highest of (N,) values, whose lowest is ``limit``."""
    above, equal = values > limit, values == limit
    # topk may take any of equal values; counted from the front the choice is the same on every device.
    first = equal & (equal.cumsum(0) <= wanted - above.sum())
    return above | first
