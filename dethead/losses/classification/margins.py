"""Margin losses on raw scores: the true class must win by a margin (multi-class SVM)."""

from typing import Literal

from torch import Tensor

from dethead.losses.checks import check_number
from dethead.losses.classification.rows import ABSENT, Rows, prepare
from dethead.structures import UNKNOWN_CLASS


def hinge(
    logits: Tensor,
    targets: Tensor,
    *,
    margin: float = 1.0,
    variant: Literal["weston_watkins", "crammer_singer"] = "weston_watkins",
    squared: bool = False,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Multi-class SVM: what the wrong classes j exceed the true class y by, less a margin.

    ``h_j = max(0, margin + z_j - z_y)``; Weston-Watkins sums h_j over the wrong classes, Crammer-Singer takes
    the largest. With one class there is no wrong one: 0.

    Args:
        logits: (N, C) scores.
        targets: (N,), or (N, C) with at most one number above 0 in a row, which multiplies its loss.
        margin: at least 0.
        variant: sum or largest. Wrong classes that share the largest score share its gradient evenly.
        squared: h_j^2 for h_j.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Raises:
        ValueError: a row with several labels; and what all class losses refuse.

    Source: Weston and Watkins 1999, ESANN; Crammer and Singer 2001, JMLR 2.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[3.2, 5.1, 2.7]])
        >>> hinge(scores, torch.tensor([0])), hinge(scores, torch.tensor([0]), variant="crammer_singer")
        (tensor([3.4000]), tensor([2.9000]))
    """
    check_number("margin", margin, low=0)
    if variant not in ("weston_watkins", "crammer_singer"):
        raise ValueError(f"variant must be 'weston_watkins' or 'crammer_singer', got {variant!r}")
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    own, others = _own_and_others(rows, "hinge")
    if variant == "crammer_singer":
        others = others.amax(dim=1, keepdim=True)
    excess = (margin + others - own).relu()
    return _finish(rows, excess.square() if squared else excess)


def margin_ranking(
    logits: Tensor,
    targets: Tensor,
    *,
    margin: float = 1.0,
    against: Literal["row", "batch"] = "row",
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    ignore_index: int = UNKNOWN_CLASS,
    ignore: Tensor | None = None,
) -> Tensor:
    """Rank the true class above the highest wrong score: ``max(0, margin + highest wrong - z_y)``.

    Args:
        logits: (N, C) scores.
        targets: (N,), or (N, C) with at most one number above 0 in a row, which multiplies its loss.
        margin: at least 0.
        against: "row": the highest wrong score of the row; this is ``hinge`` in its Crammer-Singer variant.
            "batch": the highest of all rows, wrong for the row that it stands in. Rows that are ignored or
            have no label are not looked at. Equal highest scores share the gradient evenly.
        class_weights: as the others, see ``dethead.losses.classification``.
        sample_weights: (N,).
        ignore_index: label.
        ignore: (N,) or (N, C).

    Raises:
        ValueError: a row with several labels; and what all class losses refuse.

    Example:
        >>> import torch
        >>> scores, labels = torch.tensor([[2.0, 3.0], [1.0, 3.0]]), torch.tensor([0, 1])
        >>> margin_ranking(scores, labels), margin_ranking(scores, labels, against="batch")
        (tensor([2., 0.]), tensor([2., 1.]))
    """
    if against == "row":
        return hinge(
            logits,
            targets,
            margin=margin,
            variant="crammer_singer",
            class_weights=class_weights,
            sample_weights=sample_weights,
            ignore_index=ignore_index,
            ignore=ignore,
        )
    if against != "batch":
        raise ValueError(f"against must be 'row' or 'batch', got {against!r}")
    check_number("margin", margin, low=0)
    rows = prepare(logits, targets, class_weights, sample_weights, ignore_index, ignore)
    own, others = _own_and_others(rows, "margin ranking")
    asked = (rows.targets > 0).any(dim=1, keepdim=True)  # an ignored row has lost its label, too
    # Without rows there is no highest score; and nothing to compare it with.
    highest = others.masked_fill(~asked, ABSENT).amax() if len(others) else others
    return _finish(rows, (margin + highest - own).relu())


def _own_and_others(rows: Rows, loss: str) -> tuple[Tensor, Tensor]:
    """(N, 1) score of the label, (N, C) scores with the label and absent classes far below."""
    label = rows.labels(loss)[:, None]
    own = rows.values.gather(1, label)
    return own, rows.fill(rows.values, ABSENT).scatter(1, label, ABSENT)


def _finish(rows: Rows, excess: Tensor) -> Tensor:
    """(N,) loss of the (N, 1) or (N, C) excess; a row without label has a share of 0."""
    return rows.finish(rows.targets.sum(dim=1) * excess.sum(dim=1))
