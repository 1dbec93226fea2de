"""Pure losses on embeddings: what belongs together is pulled together, the rest pushed apart.

Rows are (P, E) vectors, distances are Euclidean, results are (P,), unreduced and float32 at least. Two equal
vectors have distance 0 with gradient 0, not nan. For an auxiliary loss of a detector see ``triplets``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dethead.boxes import at_least_float32


def triplet(
    anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float, swap: bool = False
) -> Tensor:
    """``max(0, d+ - d- + margin)``: the negative must be farther from the anchor than the positive is.

    Args:
        anchor: (P, E).
        positive: (P, E), of the anchor's class.
        negative: (P, E), of another class.
        margin: by how much farther; at least 0, in the units of the distance: [0, 2] for embeddings of
            length 1.
        swap: d- is the smaller of the negative's distances from the anchor and from the positive: whichever
            of the two is in more trouble plays the anchor.

    Returns:
        (P,).

    Raises:
        ValueError: shapes that do not fit, a margin below 0.

    Source: Balntas et al. 2016, BMVC paper 119, equation 2 and section 3.3.

    Example:
        >>> a, p, n = (torch.tensor([[x, 0.0]]) for x in (0.0, 3.0, 4.0))
        >>> triplet(a, p, n, margin=0.5), triplet(a, p, n, margin=0.5, swap=True)  # 3 - 4 + 0.5; 3 - 1 + 0.5
        (tensor([0.]), tensor([2.5000]))
    """
    return distance_ranking(*_distances(anchor, positive, negative, swap), margin=margin)


def distance_ranking(near: Tensor, far: Tensor, *, margin: float) -> Tensor:
    """Margin ranking of two distances, ``max(0, near - far + margin)``; ``triplet`` is this for embeddings.

    Args:
        near: any shape, the distance that should be smaller.
        far: the same shape, the one that should be larger.
        margin: at least 0, by how much.

    Raises:
        ValueError: shapes that do not fit, a margin below 0.

    Source: Balntas et al. 2016, BMVC paper 119, equation 2; ``torch.nn.MarginRankingLoss`` with target -1.
    """
    _check_margin(margin, 0.0, math.inf)
    _check_rows(near, far)
    return (at_least_float32(near) - at_least_float32(far) + margin).clamp(min=0)


def ratio(anchor: Tensor, positive: Tensor, negative: Tensor, *, swap: bool = False) -> Tensor:
    """Softmax of the distances (d+, d-), squared difference to (0, 1): no margin to choose.

    ``s+ = e^d+ / (e^d+ + e^d-)``, ``s- = e^d- / (e^d+ + e^d-)``, loss ``s+^2 + (1 - s-)^2``. As s+ and s- sum
    to 1 this is ``2 * sigmoid(d+ - d-)^2``, between 0 and 2, and 1/2 where both distances are equal.

    Args:
        anchor: (P, E).
        positive: (P, E), of the anchor's class.
        negative: (P, E), of another class.
        swap: as in ``triplet``.

    Returns:
        (P,).

    Raises:
        ValueError: shapes that do not fit.

    Source: Balntas et al. 2016, BMVC paper 119, section 3; Hoffer and Ailon 2015,
    https://arxiv.org/abs/1412.6622.

    Example:
        >>> a, p, n = (torch.tensor([[x, 0.0]]) for x in (0.0, 1.0, 2.0))
        >>> ratio(a, p, n)  # 2 * 0.2689^2
        tensor([0.1447])
    """
    near, far = _distances(anchor, positive, negative, swap)
    return 2 * torch.sigmoid(near - far).square()


def cosine_embedding(first: Tensor, second: Tensor, same: Tensor, *, margin: float) -> Tensor:
    """``1 - cos`` for a pair of one class, ``max(0, cos - margin)`` for a pair of two.

    Args:
        first: (P, E).
        second: (P, E).
        same: (P,) bool, whether the two are of one class.
        margin: in [-1, 1]; pairs of two classes are left alone from this cosine down.

    Returns:
        (P,), as ``torch.nn.CosineEmbeddingLoss`` gives it.

    Raises:
        ValueError: shapes that do not fit, a margin out of range.

    Example:
        >>> x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # cosine 0.6
        >>> cosine_embedding(x, y, torch.tensor([True]), margin=0.5)
        tensor([0.4000])
        >>> cosine_embedding(x, y, torch.tensor([False]), margin=0.5)
        tensor([0.1000])
    """
    _check_margin(margin, -1.0, 1.0)
    _check_pairs(first, second, same)
    first, second = at_least_float32(first), at_least_float32(second)
    sign = same.to(first.dtype) * 2 - 1
    return F.cosine_embedding_loss(first, second, sign, margin=margin, reduction="none")


def contrastive(first: Tensor, second: Tensor, same: Tensor, *, margin: float) -> Tensor:
    """``d^2 / 2`` for a pair of one class, ``max(0, margin - d)^2 / 2`` for a pair of two.

    Args:
        first: (P, E).
        second: (P, E).
        same: (P,) bool, whether the two are of one class.
        margin: at least 0; pairs of two classes are left alone from this distance on.

    Returns:
        (P,). Two equal vectors of two classes cost margin^2 / 2, but no direction leads apart: gradient 0.

    Raises:
        ValueError: shapes that do not fit, a margin below 0.

    Source: Hadsell et al. 2006, "Dimensionality reduction by learning an invariant mapping", equation 4.

    Example:
        >>> x, y = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # distance 5
        >>> contrastive(x, y, torch.tensor([True]), margin=6.0)
        tensor([12.5000])
        >>> contrastive(x, y, torch.tensor([False]), margin=6.0)
        tensor([0.5000])
    """
    _check_margin(margin, 0.0, math.inf)
    _check_pairs(first, second, same)
    distance = _distance(first, second)
    return torch.where(same, distance, (margin - distance).clamp(min=0)).square() / 2


def _distances(anchor: Tensor, positive: Tensor, negative: Tensor, swap: bool) -> tuple[Tensor, Tensor]:
    """(P,) d+ and (P,) d-."""
    _check_rows(anchor, positive, negative)
    near, far = _distance(anchor, positive), _distance(anchor, negative)
    return near, torch.minimum(far, _distance(positive, negative)) if swap else far


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """(P,) Euclidean; ``vector_norm`` has the subgradient 0 at 0, where a square root would give nan."""
    difference = at_least_float32(first) - at_least_float32(second)
    distance: Tensor = torch.linalg.vector_norm(difference, dim=-1)
    return distance


def _check_rows(*rows: Tensor) -> None:
    shapes = [tuple(one.shape) for one in rows]
    if len(set(shapes)) > 1:
        raise ValueError(f"these must be of one shape, got {', '.join(map(str, shapes))}")


def _check_pairs(first: Tensor, second: Tensor, same: Tensor) -> None:
    _check_rows(first, second)
    if same.shape != first.shape[:1] or same.dtype != torch.bool:
        raise ValueError(f"same must be bool {tuple(first.shape[:1])}, got {same.dtype} {tuple(same.shape)}")


def _check_margin(margin: float, low: float, high: float) -> None:
    if not (low <= margin <= high and math.isfinite(margin)):
        raise ValueError(f"margin must be finite and in [{low}, {high}], got {margin}")
