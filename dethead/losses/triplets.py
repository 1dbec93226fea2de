"""Which embeddings of a batch to compare, and the auxiliary loss made of it."""

from typing import Final, Literal, get_args

import torch
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.losses.embedding import contrastive, cosine_embedding, ratio, triplet
from dethead.structures import UNKNOWN_CLASS

EmbeddingLoss = Literal["triplet", "margin_ranking", "ratio", "cosine_embedding", "contrastive"]
"""Margin ranking of the two distances is the triplet loss; both names are in use."""

Mining = Literal["semi_hard", "hardest"]

MAX_ROWS: Final = 256
"""Embeddings of one batch that are compared: time, memory and semi-hard triplets grow with the square."""


def class_embedding_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    kind: EmbeddingLoss,
    mining: Mining,
    margin: float,
    swap: bool = False,
    max_rows: int = MAX_ROWS,
) -> Tensor:
    """Pull the embeddings of one class together and push those of other classes apart.

    Args:
        embeddings: (P, E), of length 1 if a head of dethead made them.
        labels: (P,) int64; a row with a negative label takes no part. See ``single_labels``.
        kind: the loss. "cosine_embedding" and "contrastive" take two pairs of each triplet: anchor and
            positive, anchor and negative.
        mining: see ``mine_triplets``.
        margin: of the loss, and of semi-hard mining; "ratio" has none of its own.
        swap: for the losses of a triplet; see ``triplet``.
        max_rows: of more rows with a label, as many are taken at even steps, so that all images contribute.

    Returns:
        (P,) mean loss of the triplets with this row as their anchor, 0 for a row without any; attached to the
        graph even if there is no triplet at all.

    Raises:
        ValueError: an unknown name, shapes that do not fit, ``swap`` with a loss of pairs.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [1.5]])
        >>> labels = torch.tensor([0, 0, 1])
        >>> class_embedding_loss(rows, labels, kind="triplet", mining="hardest", margin=1.0)
        tensor([0.5000, 1.5000, 0.0000])
    """
    check_embedding_loss(kind, mining, margin, swap)
    _check_labels(embeddings, labels)
    rows = _even_steps((labels >= 0).nonzero().squeeze(1), max_rows)
    mined = rows[mine_triplets(embeddings[rows], labels[rows], how=mining, margin=margin)]
    anchors, positives, negatives = mined.unbind(1)
    loss = _of_triplets(embeddings[anchors], embeddings[positives], embeddings[negatives], kind, margin, swap)
    sums = loss.new_zeros(len(labels)).index_add(0, anchors, loss)
    return sums / anchors.bincount(minlength=len(labels)).clamp(min=1)


def check_embedding_loss(kind: str, mining: str, margin: float, swap: bool) -> None:
    """Refuse settings that ``class_embedding_loss`` does not take, before there is a batch.

    Raises:
        ValueError: an unknown name, a margin without room, ``swap`` with a loss of pairs.
    """
    _check_mining(mining, margin)
    if kind not in get_args(EmbeddingLoss):
        raise ValueError(f"the embedding loss must be one of {get_args(EmbeddingLoss)}, got {kind!r}")
    if kind == "cosine_embedding" and margin > 1:
        raise ValueError(f"the margin of cosine_embedding is a cosine, at most 1, got {margin}")
    if swap and kind in ("cosine_embedding", "contrastive"):
        raise ValueError(f"swap exchanges anchor and positive of a triplet; {kind} compares pairs")


@torch.no_grad()
def mine_triplets(embeddings: Tensor, labels: Tensor, *, how: Mining, margin: float) -> Tensor:
    """Choose triplets of rows: an anchor, a positive of the same label, a negative of another.

    "semi_hard": for every ordered pair of one class the nearest negative that is farther than the positive,
    by less than the margin: ``d+ < d- < d+ + margin``. Pairs without one give no triplet.
    "hardest": for every anchor its farthest positive and its nearest negative; the margin is not looked at.

    Args:
        embeddings: (P, E).
        labels: (P,) int64; a row with a negative label is in no triplet.
        how: one of the two.
        margin: above 0 for "semi_hard".

    Returns:
        (T, 3) int64 rows in the order of anchor and positive; (0, 3) where there is nothing to compare. Of
        equal distances the first row is taken.

    Raises:
        ValueError: an unknown name, shapes that do not fit, a margin without room.

    Source: Schroff et al. 2015, https://arxiv.org/abs/1503.03832, section 3.2; Hermans et al. 2017,
    https://arxiv.org/abs/1703.07737, equation 5.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [1.5]])
        >>> mine_triplets(rows, torch.tensor([0, 0, 1]), how="semi_hard", margin=1.0)
        tensor([[0, 1, 2]])
        >>> mine_triplets(rows, torch.tensor([0, 0, 1]), how="hardest", margin=1.0)
        tensor([[0, 1, 2],
                [1, 0, 2]])
    """
    _check_mining(how, margin)
    _check_labels(embeddings, labels)
    known = labels >= 0
    both = known[:, None] & known
    alike = labels[:, None] == labels
    positive = both & alike & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    negative = both & ~alike
    if not (positive.any() and negative.any()):
        return labels.new_zeros((0, 3), dtype=torch.int64)
    # Distance by distance: the shortcut through a matrix product blurs small distances.
    rows = at_least_float32(embeddings)
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    if how == "hardest":
        return _hardest(distances, positive, negative)
    return _semi_hard(distances, positive, negative, margin)


def single_labels(targets: Tensor, class_known: Tensor) -> Tensor:
    """(P,) label of (P, C) targets with exactly one class above 0; UNKNOWN_CLASS for all other rows.

    Rows of unknown class, of several labels and of none belong to no single class to be pulled to.

    Example:
        >>> targets = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
        >>> single_labels(targets, torch.tensor([True, True, True, False]))
        tensor([   1, -100, -100, -100])
    """
    single = class_known & ((targets > 0).sum(dim=1) == 1)
    return targets.argmax(dim=1).where(single, UNKNOWN_CLASS)


def _hardest(distances: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """(T, 3), at most one triplet for each anchor."""
    anchors = (positive.any(dim=1) & negative.any(dim=1)).nonzero().squeeze(1)
    farthest = distances.masked_fill(~positive, -1.0).argmax(dim=1)
    nearest = distances.masked_fill(~negative, torch.inf).argmin(dim=1)
    return torch.stack([anchors, farthest[anchors], nearest[anchors]], dim=1)


def _semi_hard(distances: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """(T, 3), at most one triplet for each ordered pair of one class."""
    ascending, order = distances.masked_fill(~negative, torch.inf).sort(dim=1, stable=True)
    # Place of the first negative that is strictly farther than the positive; the last one at most.
    place = torch.searchsorted(ascending, distances, right=True).clamp(max=len(distances) - 1)
    farther = ascending.gather(1, place)
    anchors, positives = (positive & (farther > distances) & (farther < distances + margin)).nonzero(
        as_tuple=True
    )
    return torch.stack([anchors, positives, order[anchors, place[anchors, positives]]], dim=1)


def _of_triplets(
    anchor: Tensor, positive: Tensor, negative: Tensor, kind: EmbeddingLoss, margin: float, swap: bool
) -> Tensor:
    """(T,) losses of (T, E) triplets."""
    if kind == "ratio":
        return ratio(anchor, positive, negative, swap=swap)
    if kind in ("triplet", "margin_ranking"):
        return triplet(anchor, positive, negative, margin=margin, swap=swap)
    of_pairs = cosine_embedding if kind == "cosine_embedding" else contrastive
    same = torch.ones(len(anchor), dtype=torch.bool, device=anchor.device)
    return of_pairs(anchor, positive, same, margin=margin) + of_pairs(anchor, negative, ~same, margin=margin)


def _even_steps(rows: Tensor, at_most: int) -> Tensor:
    """At most so many of the rows, from the first on."""
    if len(rows) <= at_most:
        return rows
    return rows[torch.arange(at_most, device=rows.device) * len(rows) // at_most]


def _check_mining(how: str, margin: float) -> None:
    if how not in get_args(Mining):
        raise ValueError(f"mining must be 'semi_hard' or 'hardest', got {how!r}")
    if how == "semi_hard" and not margin > 0:
        raise ValueError(f"semi-hard negatives lie within the margin, which must be above 0, got {margin}")


def _check_labels(embeddings: Tensor, labels: Tensor) -> None:
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            "embeddings must be (P, E) and labels (P,), got "
            f"{tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
