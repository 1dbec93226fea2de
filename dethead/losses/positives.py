"""The positive anchors of a batch, and what they answer for: what losses of positives alone are given."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from dethead.devices import numbers
from dethead.structures import Assignment, GroundTruth, HeadOutput


class Places(NamedTuple):
    """Where the P positive anchors of a batch are, in the order of ``(matched >= 0).nonzero()``."""

    image: Tensor
    """(P,) place in the batch."""
    anchor: Tensor
    """(P,) place among the anchors."""
    real: Tensor | None = None
    """(P,) bool, False in rows that stand for no positive but fill up a number fixed beforehand; None: all
    are positives. Filling rows come last, at other anchors: no place is there twice."""

    def number(self) -> int | Tensor:
        """How many positives there are."""
        return len(self.image) if self.real is None else self.real.sum()

    def only(self, values: Tensor) -> Tensor:
        """Put 0 into the filling rows of (P, ...) values: their gradient is 0 whatever was computed there."""
        if self.real is None:
            return values
        return values.where(self.real.view(-1, *[1] * (values.ndim - 1)), 0)


def find(matched: Tensor, at_most: int | None) -> Places:
    """Find the positives of a batch.

    Args:
        matched: (B, A) of an assignment.
        at_most: None: P is their number, for which the device is waited for once. Or the number of rows,
            whatever the batch: nothing waits.

    Raises:
        RuntimeError: more positives than ``at_most``. On CUDA it is the device that fails, later.

    Example:
        >>> find(torch.tensor([[-1, 0, 2]]), None).anchor
        tensor([1, 2])
        >>> find(torch.tensor([[-1, 0, -2]]), 2)
        Places(image=tensor([0, 0]), anchor=tensor([1, 0]), real=tensor([ True, False]))
    """
    if at_most is None:
        return Places(*(matched >= 0).nonzero(as_tuple=True))
    positive = (matched >= 0).flatten()
    before = positive.cumsum(dim=0)  # and including
    count = positive.sum()
    torch._assert_async(count <= at_most, f"a batch has more positive anchors than max_positives, {at_most}")
    # All anchors in another order: the positives, then the others.
    every = torch.arange(len(positive), device=matched.device)
    place = torch.where(positive, before - 1, count + every - before)
    rows = torch.empty_like(every).scatter_(0, place, every)[:at_most]
    anchors = max(matched.shape[1], 1)
    return Places(rows // anchors, rows % anchors, every[:at_most] < count)


class Positives(NamedTuple):
    """What is known of the P positive anchors of a batch, in the order of ``(matched >= 0).nonzero()``.

    With ``max_positives`` there are more rows: see ``real``. They are given something harmless, and whatever
    a loss says of them does not count; they are of unknown class, as objects without a class are.
    """

    image: Tensor
    """(P,) place in the batch."""
    anchor: Tensor
    """(P,) place among the anchors."""
    output: HeadOutput
    """(P, C + 5) and (P, E): what the head says there."""
    targets: Tensor
    """(P, C) labels of the matched boxes, in [0, 1]; zeros where the class is unknown."""
    class_known: Tensor
    """(P,) bool"""
    boxes: Tensor
    """(P, 4) matched boxes."""
    anchors: Tensor
    """(P, 4)"""
    weights: Tensor | None
    """(P,) sample weights of the matched boxes; None: 1 each."""
    teacher: HeadOutput | None
    """(P, C + 5) what a teacher says there, in distillation."""
    real: Tensor | None = None
    """(P,) bool, as in ``Places``; None: all are positives."""

    @property
    def places(self) -> Places:
        """Where they are."""
        return Places(self.image, self.anchor, self.real)


def look_up(
    output: HeadOutput,
    places: Places,
    assignment: Assignment,
    truth: Sequence[GroundTruth],
    targets: Sequence[Tensor],
    anchors: Tensor,
    teacher: HeadOutput | None,
) -> Positives:
    """Look up what the positives answer for.

    Args:
        output: (P, C + 5) and (P, E), theirs.
        places: theirs.
        assignment: of the batch.
        truth: of the batch.
        targets: (M, C) of each image.
        anchors: (A, 4).
        teacher: (B, A, C + 5), or None.
    """
    image, anchor, real = places
    row = _rows(places, assignment.matched, [len(one.boxes) for one in truth])
    boxes, standing = _of_all([one.boxes for one in truth], 0)[row], anchors[anchor]
    weights = None
    if any(one.weights is not None for one in truth):
        given = [one.boxes.new_ones(len(one.boxes)) if one.weights is None else one.weights for one in truth]
        weights = _of_all(given, 1)[row]
    return Positives(
        image,
        anchor,
        output._replace(raw=places.only(output.raw)),
        _of_all(targets, 0)[row],
        _of_all([one.class_known for one in truth], False)[row],
        # A box that is its anchor is what every code and every box loss can be asked for.
        boxes if real is None else boxes.where(real[:, None], standing.to(boxes.dtype)),
        standing,
        weights,
        None
        if teacher is None
        else HeadOutput(teacher.raw[image, anchor], embeddings_at(teacher, image, anchor)),
        real,
    )


def _rows(places: Places, matched: Tensor, counts: Sequence[int]) -> Tensor:
    """(P,) rows of the positives' boxes when those of all images, and one for nothing, are put together."""
    before = [*accumulate(counts[:-1], initial=0)]
    row = numbers(before, matched)[places.image] + matched[places.image, places.anchor]
    return row if places.real is None else row.where(places.real, sum(counts))


def _of_all(parts: Sequence[Tensor], nothing: float) -> Tensor:
    """(sum of M + 1, ...) the (M, ...) parts of all images, and what a filling row gets."""
    return torch.cat([*parts, parts[0].new_full((1, *parts[0].shape[1:]), nothing)])


def embeddings_at(output: HeadOutput, image: Tensor, anchor: Tensor) -> Tensor | None:
    """(P, E) embeddings of the anchors at (P,) places, if there are any."""
    return None if output.embeddings is None else output.embeddings[image, anchor]
