"""Loss terms and what they are divided by."""

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from dethead.config.sections.section import OWN, Fraction, NotNegative, OwnPart, Positive, Section, by_name


class ByCount(Section):
    name: Literal["positives", "positives_per_image", "positives_plus_one", "running_positives", "anchors"]


class ByConstant(Section):
    name: Literal["constant"]
    value: Positive


Normaliser = Annotated[
    Annotated[ByCount, Tag("positives")]
    | Annotated[ByCount, Tag("positives_per_image")]
    | Annotated[ByCount, Tag("positives_plus_one")]
    | Annotated[ByCount, Tag("running_positives")]
    | Annotated[ByCount, Tag("anchors")]
    | Annotated[ByConstant, Tag("constant")]
    | Annotated[OwnPart, Tag(OWN)],
    by_name(
        "positives", "positives_per_image", "positives_plus_one", "running_positives", "anchors", "constant"
    ),
]


class Term(Section):
    weight: NotNegative = 1.0
    normaliser: Normaliser = ByCount(name="positives")


class SmoothL1(Section):
    name: Literal["smooth_l1"]
    beta: NotNegative
    """Where the square ends and the line begins, in units of the deltas; 0 is L1."""


class OtherBoxLoss(Section):
    name: Literal["l1", "mse", "iou_squared", "giou", "diou", "ciou"]
    """l1 and mse on encoded deltas; 1 - IoU^2, GIoU, DIoU or CIoU of the decoded boxes."""


BoxLoss = Annotated[
    Annotated[SmoothL1, Tag("smooth_l1")]
    | Annotated[OtherBoxLoss, Tag("l1")]
    | Annotated[OtherBoxLoss, Tag("mse")]
    | Annotated[OtherBoxLoss, Tag("iou_squared")]
    | Annotated[OtherBoxLoss, Tag("giou")]
    | Annotated[OtherBoxLoss, Tag("diou")]
    | Annotated[OtherBoxLoss, Tag("ciou")]
    | Annotated[OwnPart, Tag(OWN)],
    by_name("smooth_l1", "l1", "mse", "iou_squared", "giou", "diou", "ciou"),
]


class ConfidenceBCE(Section):
    name: Literal["bce"]
    pos_weight: Positive | None = None
    """Factor on the "yes" term."""


class ConfidenceFocal(Section):
    name: Literal["focal"]
    alpha: Fraction | None
    """Weight of "yes" terms, "no" terms get 1 - alpha; null weighs neither."""
    gamma: NotNegative

    @model_validator(mode="after")
    def _power(self) -> Self:
        if 0 < self.gamma < 1:
            raise ValueError(
                f"gamma {self.gamma} is between 0 and 1, where the gradient at a saturated logit is "
                "infinite; take 0 or at least 1"
            )
        return self


ConfidenceLoss = Annotated[
    Annotated[ConfidenceBCE, Tag("bce")]
    | Annotated[ConfidenceFocal, Tag("focal")]
    | Annotated[OwnPart, Tag(OWN)],
    by_name("bce", "focal"),
]


class Embedding(Section):
    """An embedding per anchor whose distances tell classes apart; ``head.embedding_channels`` makes it."""

    weight: NotNegative
    kind: Literal["triplet", "margin_ranking", "ratio", "cosine_embedding", "contrastive"]
    margin: NotNegative = 0.2
    """Between the distances; semi-hard mining of ratio uses it, too."""
    mining: Literal["semi_hard", "hardest"] = "semi_hard"
    """Which negative a triplet takes."""
    swap: bool = False
    """Take the smaller of the two distances to the negative."""


class Distillation(Section):
    """Follow the class probabilities of a trained run, given with --teacher."""

    weight: NotNegative
    temperature: Positive = 2.0


class Loss(Section):
    class_term: Term = Term()
    class_on: Literal["positives", "all"] = "positives"
    """Anchors with a class loss: positive ones, or all that are not ignored (schemes with sigmoids)."""
    confidence_term: Term = Term()
    """A weight of 0 takes the confidence out of the training; take it out of the score, too, with
    ``postprocess.fusion: class_only``."""
    confidence_on: Literal["all", "positives"] = "all"
    """Anchors with a confidence loss: all that are not ignored, or the positive ones alone, as in FCOS."""
    confidence_loss: ConfidenceLoss = ConfidenceBCE(name="bce")
    confidence_target: Literal["one", "iou", "quality"] = "one"
    """What a positive anchor's confidence is taught: 1, the IoU of its decoded prediction, or the quality
    that the assigner gives."""
    hard_negatives: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Background anchors that each positive brings into the confidence loss, the hardest; null takes all."""
    box_term: Term = Term()
    box_loss: BoxLoss
    embedding: Embedding | None = None
    distillation: Distillation | None = None
    class_l2: NotNegative = 0.0
    """Factor on the sum of squares of the head's class weights, beside the optimizer's weight_decay."""
