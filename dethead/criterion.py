"""The training objective: looks up the truth of the positives, adds, divides, once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dethead.boxes import BoxCodec, iou
from dethead.losses.confidence import confidence_bce
from dethead.normalisers import Counts, Normaliser, by_positives, count
from dethead.schemes import ClassScheme
from dethead.structures import IGNORE, Anchors, Assignment, GroundTruth, HeadOutput, LossTerms

BoxLoss = Callable[[Tensor, Tensor, Tensor, BoxCodec], Tensor]
"""(P, 4) deltas, boxes and anchors, and the codec -> (P,) unreduced loss."""

ConfidenceTarget = Literal["one", "iou"]
"""What a positive anchor's confidence is taught: 1, or the IoU of its decoded prediction with the truth."""


@dataclass(frozen=True, slots=True)
class Term:
    """How one term enters the total: weight * sum / normaliser."""

    weight: float = 1.0
    normaliser: Normaliser = by_positives


class _Positives:
    """The positive anchors of a batch, P rows, in the order of ``(matched >= 0).nonzero()``."""

    def __init__(
        self, output: HeadOutput, assignment: Assignment, truth: Sequence[GroundTruth], anchors: Tensor
    ) -> None:
        matched = assignment.matched
        self.image, self.anchor = (matched >= 0).nonzero(as_tuple=True)
        # Row of each image's first box when the boxes of all images are put one after the other.
        starts = torch.tensor([0, *(len(one.boxes) for one in truth)], device=matched.device).cumsum(0)
        self.row = starts[self.image] + matched[self.image, self.anchor]
        # One gather for all branches: its backward writes into one tensor of the output's size, not three.
        self.output = HeadOutput(output.raw[self.image, self.anchor])
        self.boxes = torch.cat([one.boxes for one in truth])[self.row]
        self.class_known = torch.cat([one.class_known for one in truth])[self.row]
        self.anchors = anchors[self.anchor]


class DetectionLoss(nn.Module):
    """Class and box loss of the positive anchors, confidence loss of all but the ignored. Keeps no state.

    Exchanging the scheme changes the class term and nothing else.

    Args:
        scheme: what a class logit means.
        box_loss: for instance ``functools.partial(smooth_l1, beta=0.1)``.
        codec: the postprocessor's, too.
        class_term: weight and normaliser of the class loss. Objects of unknown class have no class loss, but
            count as positives.
        confidence_term: of the confidence loss.
        box_term: of the box loss.
        confidence_target: "one", or "iou": the IoU of the decoded prediction (detached) with its truth, which
            teaches the confidence to rank well placed boxes first.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        box_loss: BoxLoss,
        codec: BoxCodec,
        *,
        class_term: Term | None = None,
        confidence_term: Term | None = None,
        box_term: Term | None = None,
        confidence_target: ConfidenceTarget = "one",
    ) -> None:
        super().__init__()
        if confidence_target not in ("one", "iou"):
            raise ValueError(f"confidence_target must be 'one' or 'iou', got {confidence_target!r}")
        self.scheme, self.box_loss, self.codec = scheme, box_loss, codec
        self.class_term = class_term or Term()
        self.confidence_term = confidence_term or Term()
        self.box_term = box_term or Term()
        self.confidence_target = confidence_target

    def forward(
        self,
        output: HeadOutput,
        assignment: Assignment,
        truth: Sequence[GroundTruth],
        anchors: Anchors,
        *,
        counts: Counts | None = None,
    ) -> LossTerms:
        """Compute the loss of one batch.

        Args:
            output: of B images.
            assignment: of the same.
            truth: of the same.
            anchors: of their size.
            counts: of the whole optimiser step, when it has several micro-batches or processes; see
                ``Counts``. By default those of this batch.

        Returns:
            Scalars, finite for finite outputs. Without positives, class and box terms are 0 and attached to
            the graph.

        Raises:
            ValueError: shapes that do not fit each other.
        """
        _check(output, assignment, truth, anchors)
        counts = count(assignment) if counts is None else counts
        positives = _Positives(output, assignment, truth, anchors.boxes)
        images = len(truth)
        terms = (
            (self.class_term, _per_image(self._class_loss(positives, truth), positives.image, images)),
            (self.confidence_term, self._confidence_loss(output, assignment, positives).sum(dim=1)),
            (self.box_term, _per_image(self._box_loss(positives), positives.image, images)),
        )
        scalars = [t.weight * (loss / t.normaliser(counts, assignment)).sum() for t, loss in terms]
        return LossTerms(torch.stack(scalars).sum(), *scalars)

    def _class_loss(self, positives: _Positives, truth: Sequence[GroundTruth]) -> Tensor:
        targets = torch.cat([self.scheme.targets(one.targets) for one in truth])[positives.row]
        loss = self.scheme.loss(positives.output.class_logits, targets)
        return loss.masked_fill(~positives.class_known, 0.0)

    def _confidence_loss(self, output: HeadOutput, assignment: Assignment, positives: _Positives) -> Tensor:
        matched = assignment.matched
        targets = (matched >= 0).float()
        if self.confidence_target == "iou":
            decoded = self.codec.decode(positives.output.box_deltas.detach(), positives.anchors)
            targets[positives.image, positives.anchor] = iou(decoded, positives.boxes).to(targets.dtype)
        return confidence_bce(output.confidence_logits, targets, ignore=matched == IGNORE)

    def _box_loss(self, positives: _Positives) -> Tensor:
        return self.box_loss(positives.output.box_deltas, positives.boxes, positives.anchors, self.codec)


def _per_image(loss: Tensor, image: Tensor, images: int) -> Tensor:
    """(B,) sums of (P,) losses."""
    return loss.new_zeros(images).index_add(0, image, loss)


def _check(
    output: HeadOutput, assignment: Assignment, truth: Sequence[GroundTruth], anchors: Anchors
) -> None:
    wanted = (len(truth), len(anchors.boxes))
    if output.raw.shape[:2] != wanted or assignment.matched.shape != wanted:
        raise ValueError(
            f"{wanted[0]} truths and {wanted[1]} anchors need an output (B, A, C + 5) and an assignment "
            f"(B, A) of these, got {tuple(output.raw.shape)} and {tuple(assignment.matched.shape)}"
        )
    classes = output.raw.shape[2] - 5
    for index, one in enumerate(truth):
        if one.targets.shape != (len(one.boxes), classes):
            raise ValueError(
                f"truth {index} has targets {tuple(one.targets.shape)} for {len(one.boxes)} boxes "
                f"and {classes} classes"
            )
