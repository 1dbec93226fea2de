"""Class schemes: what a class logit means."""

from typing import Annotated, Literal

from pydantic import Tag

from dethead.config.sections.section import OWN, NotNegative, OwnPart, Section, by_name


class SoftmaxCE(Section):
    name: Literal["softmax_ce"]
    class_weights: list[NotNegative] | None = None
    """Factor on the class loss of a box, one for each class."""


class SigmoidBCE(Section):
    name: Literal["sigmoid_bce"]
    class_weights: list[NotNegative] | None = None
    """Factor on the class loss of a box, one for each class."""
    pos_weight: list[NotNegative] | None = None
    """Factor on the "yes" term alone, one for each class."""


ClassScheme = Annotated[
    Annotated[SoftmaxCE, Tag("softmax_ce")]
    | Annotated[SigmoidBCE, Tag("sigmoid_bce")]
    | Annotated[OwnPart, Tag(OWN)],
    by_name("softmax_ce", "sigmoid_bce"),
]
