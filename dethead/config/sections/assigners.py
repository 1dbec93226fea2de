"""Which anchor answers for which object."""

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from dethead.config.sections.section import OWN, Fraction, OwnPart, Section, by_name


class MaxIoU(Section):
    name: Literal["max_iou"]
    positive_iou: Fraction = 0.5
    negative_iou: Fraction = 0.4
    low_quality: bool = True
    """A box without an anchor above positive_iou gets its best ones all the same."""
    ignore_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of an anchor's area inside an ignore region from which on it is ignored."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.negative_iou > self.positive_iou:
            raise ValueError(f"negative_iou {self.negative_iou} is above positive_iou {self.positive_iou}")
        return self


Assigner = Annotated[Annotated[MaxIoU, Tag("max_iou")] | Annotated[OwnPart, Tag(OWN)], by_name("max_iou")]
