"""Loss terms and what they are divided by."""

from typing import Annotated, Literal

from pydantic import Tag

from dethead.config.sections.section import OWN, NotNegative, OwnPart, Positive, Section, by_name


class ByCount(Section):
    name: Literal["positives", "positives_per_image", "anchors"]


class ByConstant(Section):
    name: Literal["constant"]
    value: Positive


Normaliser = Annotated[
    Annotated[ByCount, Tag("positives")]
    | Annotated[ByCount, Tag("positives_per_image")]
    | Annotated[ByCount, Tag("anchors")]
    | Annotated[ByConstant, Tag("constant")]
    | Annotated[OwnPart, Tag(OWN)],
    by_name("positives", "positives_per_image", "anchors", "constant"),
]


class Term(Section):
    weight: NotNegative = 1.0
    normaliser: Normaliser = ByCount(name="positives")


class SmoothL1(Section):
    name: Literal["smooth_l1"]
    beta: NotNegative
    """Where the square ends and the line begins, in units of the deltas; 0 is L1."""


BoxLoss = Annotated[
    Annotated[SmoothL1, Tag("smooth_l1")] | Annotated[OwnPart, Tag(OWN)], by_name("smooth_l1")
]


class Loss(Section):
    class_term: Term = Term()
    confidence_term: Term = Term()
    box_term: Term = Term()
    box_loss: BoxLoss
    confidence_target: Literal["one", "iou"] = "one"
    """What a positive anchor's confidence is taught: 1, or the IoU of its decoded prediction."""
