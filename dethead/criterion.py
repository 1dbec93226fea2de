"""The training objective: looks up the truth of the positives, adds, divides, once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from dethead.boxes import Codec, iou
from dethead.losses.checks import check_number, trusted
from dethead.losses.confidence import confidence_bce
from dethead.losses.mining import hard_negatives
from dethead.losses.one_pass import DTYPES, Lesson, Parts, take_apart
from dethead.losses.penalty import l2_penalty
from dethead.losses.positives import Places, embeddings_at, find, look_up
from dethead.losses.positives import Positives as Positives
from dethead.normalisers import Counts, Normaliser, by_positives, count
from dethead.schemes.interface import ClassScheme, background_of
from dethead.structures import (
    BACKGROUND,
    IGNORE,
    Anchors,
    Assignment,
    ClassesSeen,
    GroundTruth,
    HeadOutput,
    LossTerms,
)

BoxLoss = Callable[[Tensor, Tensor, Tensor, Codec], Tensor]
"""(P, 4) deltas, boxes and anchors, and the codec -> (P,) unreduced loss."""

ClassOn = Literal["positives", "all"]
"""The anchors with a class loss: the positive ones, or all that are not ignored."""

ConfidenceOn = Literal["all", "positives"]
"""The anchors with a confidence loss: all that are not ignored, or the positive ones alone."""

ConfidenceTarget = Literal["one", "iou", "quality"]
"""What a positive anchor's confidence is taught: 1, the IoU of its decoded prediction with the truth, or the
assigner's quality."""


class ConfidenceLoss(Protocol):
    """``confidence_bce`` or one like it."""

    def __call__(self, logits: Tensor, targets: Tensor, *, ignore: Tensor) -> Tensor:
        """Give the (B, A) unreduced loss of (B, A) logits for (B, A) targets in [0, 1]; 0 where ignored."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """How one term enters the total: weight * sum / normaliser."""

    weight: float = 1.0
    normaliser: Normaliser = by_positives

    def __post_init__(self) -> None:
        check_number("weight of a term", self.weight, 0.0)


ExtraLoss = Callable[[Positives], Tensor]
"""The positives -> (P,) unreduced loss."""


class DetectionLoss(nn.Module):
    """Class and box loss of the positive anchors, confidence loss of all but the ignored. Keeps no state.

    Exchanging the scheme changes the class term and nothing else.

    Args:
        scheme: what a class logit means.
        box_loss: for instance ``functools.partial(smooth_l1, beta=0.1)``.
        codec: the postprocessor's, too.
        class_term: weight and normaliser of the class loss. Objects of unknown class have no class loss, but
            count as positives.
        confidence_term: of the confidence loss. With a weight of 0 there is none, and no gradient either.
        box_term: of the box loss.
        class_on: "positives", or "all" anchors that are not ignored, for schemes that teach background.
        confidence_on: "all" anchors that are not ignored, or the "positives" alone: a confidence that is not
            taught what background is, but which positive to trust (the centreness of FCOS).
        confidence_loss: ``confidence_bce`` unless given.
        confidence_target: "one"; "iou": the IoU of the decoded prediction (detached) with its truth, which
            teaches the confidence to rank well placed boxes first; or "quality": the assigner's.
        hard_negatives: how many background anchors a positive brings into the confidence loss, those of
            highest loss in the batch; None takes all.
        extra: further losses of the positives by name, each with its term.
        class_l2: factor on the sum of squares of the head's class weights.
        observe: whether ``LossTerms.seen`` says what each class got. It is what schemes with
            ``uses_classes_seen`` live on, and costs a backward pass from the class term to the class logits.
        one_pass: take the output apart, and teach background where the scheme says what it costs, by
            ``losses.one_pass``. The results are those of plain autograd to rounding, for less time and
            memory. False: plain autograd throughout, which can be differentiated twice.
        max_positives: None: the positives are counted, which waits for the device once in each step. A
            number, at least 1: so many rows are worked on in any case, those beyond the positives for
            nothing, and on CUDA nothing waits: with an assigner of that kind (``MaxIoUAssigner``) a step can
            be captured in a CUDA graph. The results are the same. More positives in a batch are an error:
            on CUDA a failed assertion of the device that names this limit.

    Raises:
        ValueError: settings that do not fit each other.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        box_loss: BoxLoss,
        codec: Codec,
        *,
        class_term: Term | None = None,
        confidence_term: Term | None = None,
        box_term: Term | None = None,
        class_on: ClassOn = "positives",
        confidence_on: ConfidenceOn = "all",
        confidence_loss: ConfidenceLoss = confidence_bce,
        confidence_target: ConfidenceTarget = "one",
        hard_negatives: float | None = None,
        extra: Mapping[str, tuple[Term, ExtraLoss]] | None = None,
        class_l2: float = 0.0,
        observe: bool = False,
        one_pass: bool = True,
        max_positives: int | None = None,
    ) -> None:
        super().__init__()
        if max_positives is not None and max_positives < 1:
            raise ValueError(f"max_positives must be at least 1, or None for any number, got {max_positives}")
        if confidence_target not in ("one", "iou", "quality"):
            raise ValueError(
                f"confidence_target must be 'one', 'iou' or 'quality', got {confidence_target!r}"
            )
        if class_on not in ("positives", "all"):
            raise ValueError(f"class_on must be 'positives' or 'all', got {class_on!r}")
        if confidence_on not in ("all", "positives"):
            raise ValueError(f"confidence_on must be 'all' or 'positives', got {confidence_on!r}")
        check_number("class_l2", class_l2, 0.0)
        if confidence_on == "positives" and hard_negatives is not None:
            raise ValueError(
                f"hard_negatives {hard_negatives} chooses background anchors, which confidence_on "
                "'positives' leaves out; take one of the two"
            )
        if class_on == "all" and not scheme.teaches_background:
            raise ValueError(
                f"class_on 'all' needs a scheme that can answer 'none of them', which {scheme} cannot: its "
                "probabilities sum to 1. Take one with sigmoids, or class_on 'positives'"
            )
        self.scheme, self.box_loss, self.codec = scheme, box_loss, codec
        self.class_term = class_term or Term()
        self.confidence_term = confidence_term or Term()
        self.box_term = box_term or Term()
        self.class_on, self.confidence_on = class_on, confidence_on
        self.confidence_loss = confidence_loss
        self.confidence_target, self.hard_negatives = confidence_target, hard_negatives
        self.extra = dict(extra or {})
        self.class_l2, self.observe = class_l2, observe
        self.one_pass, self.max_positives = one_pass, max_positives

    @trusted()  # the truth is checked where it is read, and a nan shows in the gradient's norm
    def forward(
        self,
        output: HeadOutput,
        assignment: Assignment,
        truth: Sequence[GroundTruth],
        anchors: Anchors,
        *,
        counts: Counts | None = None,
        seen: ClassesSeen | None = None,
        teacher: HeadOutput | None = None,
        class_rows: Tensor | None = None,
    ) -> LossTerms:
        """Compute the loss of one batch.

        Args:
            output: of B images.
            assignment: of the same.
            truth: of the same.
            anchors: of their size.
            counts: of the whole optimiser step, when it has several micro-batches or processes; see
                ``Counts``. By default those of this batch.
            seen: what the run has seen before this step, for schemes that use it.
            teacher: what a teacher says of the same images, for distillation.
            class_rows: the head's ``class_rows``, for ``class_l2``.

        Returns:
            Scalars, finite for finite outputs. Without positives, class and box terms are 0 and attached to
            the graph.

        Raises:
            ValueError: shapes that do not fit each other, or something missing that the settings need.
            RuntimeError: more positives than ``max_positives``.
        """
        _check(output, assignment, truth, anchors)
        counts = count(assignment) if counts is None else counts
        targets = [self.scheme.targets(one.targets) for one in truth]
        places = find(assignment.matched, self.max_positives)
        parts = self._take_apart(output.raw, places, self._lesson(output.raw, assignment, counts, seen))
        here = HeadOutput(parts.rows, embeddings_at(output, places.image, places.anchor))
        positives = look_up(here, places, assignment, truth, targets, anchors.boxes, teacher)
        images = len(truth)

        def enter(term: Term, loss: Tensor) -> Tensor:
            per_image = loss.sum(dim=1) if loss.ndim == 2 else _per_image(loss, places, images)
            return term.weight * (per_image / term.normaliser(counts, assignment)).sum()

        everywhere = output if self.class_on == "all" and parts.background is None else None
        logits, class_targets, class_loss = self._class_loss(everywhere, assignment, positives, seen)
        class_scalar = enter(self.class_term, class_loss)
        if parts.background is not None:
            class_scalar = class_scalar + parts.background
        confidence = self._confidence_loss(parts.confidence, assignment, positives)
        box = self.box_loss(positives.output.box_deltas, positives.boxes, positives.anchors, self.codec)
        extra = {
            name: enter(term, _weighted(loss(positives), positives.weights))
            for name, (term, loss) in self.extra.items()
        }
        if self.class_l2:
            # Once per step: every micro-batch brings its share, and processes are averaged.
            extra["class_l2"] = self._penalty(class_rows) * (images / counts.images)
        scalars = [
            class_scalar,
            enter(self.confidence_term, confidence),
            enter(self.box_term, _weighted(box, positives.weights)),
        ]
        now = _classes_seen(class_scalar, logits, class_targets, parts.slopes) if self.observe else None
        total = torch.stack([*scalars, *extra.values()]).sum()
        return LossTerms(total, scalars[0], scalars[1], scalars[2], extra, now)

    def _lesson(
        self, raw: Tensor, assignment: Assignment, counts: Counts, seen: ClassesSeen | None
    ) -> Lesson | None:
        """What background is taught in one pass; None: nothing, or not so."""
        if not (self.one_pass and self.class_on == "all" and raw.requires_grad and raw.dtype in DTYPES):
            return None
        loss = background_of(self.scheme, raw[..., :-5], seen)
        if loss is None or not torch.is_grad_enabled():
            return None
        divisor = self.class_term.normaliser(counts, assignment).to(
            torch.promote_types(raw.dtype, torch.float32)
        )
        of_image = (self.class_term.weight / divisor).expand(len(raw)).unsqueeze(1)
        return Lesson(loss, of_image * (assignment.matched == BACKGROUND), self.observe)

    def _take_apart(self, raw: Tensor, places: Places, lesson: Lesson | None) -> Parts:
        if not self.one_pass:
            return Parts(raw[places.image, places.anchor], raw[..., -5], None, None)
        parts: Parts = take_apart(raw, places.image, places.anchor, lesson)
        return parts

    def _class_quality(self, assignment: Assignment, positives: Positives) -> Tensor | None:
        """(P,) what class targets are scaled by, in [0, 1], whatever the confidence is taught; None: 1."""
        if not self.scheme.quality_target:
            return None
        if assignment.quality is None:
            return self._overlap(positives)
        return assignment.quality[positives.image, positives.anchor]

    def _confidence_quality(self, assignment: Assignment, positives: Positives) -> Tensor | None:
        """(P,) what the confidence of positives is taught, in [0, 1]; None: 1."""
        if self.confidence_target == "one" or not self.confidence_term.weight:
            return None
        if self.confidence_target == "iou":
            return self._overlap(positives)
        if assignment.quality is None:
            raise ValueError(
                "confidence_target 'quality' needs an assigner that gives one, such as task_aligned"
            )
        return assignment.quality[positives.image, positives.anchor]

    def _overlap(self, positives: Positives) -> Tensor:
        """(P,) IoU of the decoded predictions with their truth, detached."""
        return iou(
            self.codec.decode(positives.output.box_deltas.detach(), positives.anchors), positives.boxes
        )

    def _class_loss(
        self,
        everywhere: HeadOutput | None,
        assignment: Assignment,
        positives: Positives,
        seen: ClassesSeen | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and targets (N, C), and the loss: (P,) of the positives, or (B, A) of all anchors.

        ``everywhere`` is the output whose anchors are all taught here; None: the positives alone are.
        """
        targets, quality = positives.targets, self._class_quality(assignment, positives)
        if quality is not None:
            targets = targets * quality.unsqueeze(1)
        if everywhere is None:
            logits = positives.output.class_logits
            loss = self.scheme.loss(logits, targets, seen, ~positives.class_known)
            return logits, targets, _weighted(loss, positives.weights)
        matched = assignment.matched
        logits = everywhere.class_logits.flatten(0, 1)
        rows = positives.image * matched.shape[1] + positives.anchor
        of_all = logits.new_zeros(logits.shape, dtype=targets.dtype).index_copy(0, rows, targets)
        ignored = (matched == IGNORE).flatten()
        unknown = ~positives.class_known
        if positives.real is not None:  # the others are what they are
            unknown = unknown.where(positives.real, ignored[rows])
        loss = self.scheme.loss(logits, of_all, seen, ignored.index_copy(0, rows, unknown))
        if positives.weights is not None:
            loss = loss * torch.ones_like(loss).index_copy(0, rows, positives.weights.to(loss.dtype))
        return logits, of_all, loss.view(matched.shape)

    def _confidence_loss(self, logits: Tensor, assignment: Assignment, positives: Positives) -> Tensor:
        """(B, A) unreduced, of (B, A) logits."""
        matched, quality = assignment.matched, self._confidence_quality(assignment, positives)
        targets = (matched >= 0).float()
        if quality is not None:
            targets[positives.image, positives.anchor] = positives.places.only(quality.to(targets.dtype))
        ignored = matched < 0 if self.confidence_on == "positives" else matched == IGNORE
        loss = self.confidence_loss(logits, targets, ignore=ignored)
        if self.hard_negatives is not None:
            background = matched == BACKGROUND
            kept = hard_negatives(loss, background, positives.places.number(), self.hard_negatives)
            loss = loss.masked_fill(background & ~kept, 0.0)
        if positives.weights is None:
            return loss
        factors = torch.ones_like(loss)
        factors[positives.image, positives.anchor] = positives.weights.to(loss.dtype)
        return loss * factors

    def _penalty(self, class_rows: Tensor | None) -> Tensor:
        if class_rows is None:
            raise ValueError("class_l2 needs class_rows: the head's weights of the class logits")
        return self.class_l2 * l2_penalty(class_rows)


def _weighted(loss: Tensor, weights: Tensor | None) -> Tensor:
    return loss if weights is None else loss * weights.to(loss.dtype)


def _per_image(loss: Tensor, places: Places, images: int) -> Tensor:
    """(B,) sums of (P,) losses."""
    return loss.new_zeros(images).index_add(0, places.image, places.only(loss))


def _classes_seen(
    class_term: Tensor, logits: Tensor, targets: Tensor, elsewhere: Tensor | None
) -> ClassesSeen | None:
    """Look at the gradient that the class term, weighted and divided, sends into the (N, C) class logits.

    ``elsewhere``: (C,) what it sends into those of background, if they are not among them.
    """
    if not class_term.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(class_term, logits, retain_graph=True)
    size, yes = gradient.abs().float(), targets > 0
    nothing = torch.zeros_like(size)
    no = size.where(~yes, nothing).sum(dim=0)
    no = no if elsewhere is None else no + elsewhere.float()
    return ClassesSeen(targets.sum(dim=0).float(), size.where(yes, nothing).sum(dim=0), no)


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
        for name, values in (("class_known", one.class_known), ("weights", one.weights)):
            if values is not None and values.shape != (len(one.boxes),):
                raise ValueError(f"truth {index} has {name} {tuple(values.shape)} for {len(one.boxes)} boxes")
