"""The positive anchors of a batch, and what they answer for: what losses of positives alone are given."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dethead.structures import Assignment, GroundTruth, HeadOutput


class Positives(NamedTuple):
    """The P positive anchors of a batch, in the order of ``(matched >= 0).nonzero()``."""

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


def look_up(
    output: HeadOutput,
    image: Tensor,
    anchor: Tensor,
    assignment: Assignment,
    truth: Sequence[GroundTruth],
    targets: Tensor,
    anchors: Tensor,
    teacher: HeadOutput | None,
) -> Positives:
    """Look up what the positives answer for.

    Args:
        output: (P, C + 5) and (P, E), theirs.
        image: (P,) their places in the batch, and
        anchor: (P,) among the anchors.
        assignment: of the batch.
        truth: of the batch.
        targets: (sum of M, C) of all boxes.
        anchors: (A, 4).
        teacher: (B, A, C + 5), or None.
    """
    matched = assignment.matched
    # Row of each image's first box when the boxes of all images are put one after the other.
    starts = torch.tensor([0, *(len(one.boxes) for one in truth)], device=matched.device).cumsum(0)
    row = starts[image] + matched[image, anchor]
    weights = None
    if any(one.weights is not None for one in truth):
        weights = torch.cat(
            [one.boxes.new_ones(len(one.boxes)) if one.weights is None else one.weights for one in truth]
        )[row]
    return Positives(
        image,
        anchor,
        output,
        targets[row],
        torch.cat([one.class_known for one in truth])[row],
        torch.cat([one.boxes for one in truth])[row],
        anchors[anchor],
        weights,
        None
        if teacher is None
        else HeadOutput(teacher.raw[image, anchor], embeddings_at(teacher, image, anchor)),
    )


def embeddings_at(output: HeadOutput, image: Tensor, anchor: Tensor) -> Tensor | None:
    """(P, E) embeddings of the anchors at (P,) places, if there are any."""
    return None if output.embeddings is None else output.embeddings[image, anchor]
