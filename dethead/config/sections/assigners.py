"""Which anchor answers for which object."""

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from dethead.config.sections.section import (
    OWN,
    Count,
    Fraction,
    NotNegative,
    OwnPart,
    Positive,
    Section,
    by_name,
)


class _Ignoring(Section):
    ignore_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of an anchor's area inside an ignore region from which on it is ignored."""


class MaxIoU(_Ignoring):
    name: Literal["max_iou"]
    positive_iou: Fraction = 0.5
    negative_iou: Fraction = 0.4
    low_quality: bool = True
    """A box without an anchor above positive_iou gets its best ones all the same."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.negative_iou > self.positive_iou:
            raise ValueError(f"negative_iou {self.negative_iou} is above positive_iou {self.positive_iou}")
        return self


class ATSS(_Ignoring):
    name: Literal["atss"]
    candidates_per_level: Count = 9


class Center(_Ignoring):
    name: Literal["center"]
    radius: Positive | None = 1.5
    """In strides; null takes the whole box."""
    size_limits: list[Positive] | None = None
    """Largest distance from an anchor's centre to a side, in px, up to which a level takes a box: one number
    less than there are levels; null takes 8 strides of each."""


WITHOUT_QUALITY = ("max_iou", "atss")
"""Assigners that say which anchors are positive, but not how good they are."""


class SimOTA(_Ignoring):
    name: Literal["sim_ota"]
    center_radius: Positive = 2.5
    """In strides."""
    top_ious: Count = 10
    """Best overlaps whose sum says how many anchors a box gets."""
    iou_weight: NotNegative = 3.0


class TaskAligned(_Ignoring):
    name: Literal["task_aligned"]
    top_k: Count = 13
    alpha: NotNegative = 1.0
    beta: NotNegative = 6.0
    min_side: NotNegative = 0.0


Assigner = Annotated[
    Annotated[MaxIoU, Tag("max_iou")]
    | Annotated[ATSS, Tag("atss")]
    | Annotated[Center, Tag("center")]
    | Annotated[SimOTA, Tag("sim_ota")]
    | Annotated[TaskAligned, Tag("task_aligned")]
    | Annotated[OwnPart, Tag(OWN)],
    by_name("max_iou", "atss", "center", "sim_ota", "task_aligned"),
]
