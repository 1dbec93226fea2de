"""Backbone, neck, head and anchors."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dethead.config.sections.section import Count, Natural, Positive, Probability, Section
from dethead.enlarging import whole_cells


class Backbone(Section):
    name: str
    """A classification model of torchvision by its name, or ``package.module:factory``."""
    strides: Annotated[list[Count], Field(min_length=1)] = [8, 16, 32]
    """Pyramid levels taken from the backbone, finest first."""
    weights: str | None = None
    """Name of a torchvision weights enum such as IMAGENET1K_V2. A file is given by --weights instead."""
    frozen_stages: Natural = 0
    """Stages, stem first, that are not trained."""
    norm: Literal["train", "frozen", "sync"] = "train"
    """BatchNorm of the backbone: trained, kept as loaded, or with statistics over all processes."""
    enlarge: Annotated[float, Field(ge=1, le=4)] = 1.0
    """What the sides of images are multiplied by before the backbone sees them: finer cells, at its square
    in time. All pixels that a config speaks of stay those of data.image_size."""
    options: dict[str, Any] = {}
    """Further keyword arguments of a factory of one's own."""

    @property
    def whole_cells(self) -> int:
        """Sides of images are multiples of so many px, if all maps are to have whole cells."""
        return whole_cells(self.strides[-1], self.enlarge)

    @model_validator(mode="after")
    def _finest_first(self) -> Self:
        if self.strides != sorted(set(self.strides)):
            raise ValueError(f"strides must increase, finest first, got {self.strides}")
        return self


class Neck(Section):
    """What merges the backbone's maps for the head."""

    name: Literal["fpn", "pan"] = "fpn"
    """fpn: feature pyramid network, coarse maps go into fine ones. pan: path aggregation, and then back."""
    channels: Count = 128
    extra_levels: Annotated[int, Field(ge=0, le=2)] = 0
    """Coarser levels on top, each of twice the stride: 1 adds P6, 2 adds P6 and P7."""
    separable: bool = False
    """Depthwise and pointwise in place of full 3x3 convolutions, but for those of extra levels."""
    norm: Literal["none", "batch"] = "none"
    """Behind every convolution of the neck."""


class Head(Section):
    width: Count | None = None
    """Channels of the tower; null takes those of the neck."""
    depth: Natural = 2
    """Convolutions in the tower."""
    separable: bool = False
    norm: Literal["group", "batch", "sync", "none"] = "group"
    """sync: batch normalisation with statistics over all processes. group is for few images per process."""
    towers: Literal["shared", "decoupled"] = "shared"
    """decoupled: a tower for the class logits, and another for confidence and box."""
    level_norm: Literal["shared", "per_level"] = "shared"
    """per_level: each pyramid level has normalisation layers of its own; convolutions stay shared."""
    box_scale: bool = False
    """Multiply the box numbers by a learned factor of each level."""
    class_prior: Literal["data"] | Probability | list[Probability] | None = None
    """Class probability at the start, one for all or one for each; null is 1/C, "data" the share of each
    class among the boxes of the training set."""
    confidence_prior: Probability = 0.01
    embedding_channels: Natural = 0
    """Numbers in the embedding of each anchor, for ``loss.embedding``; 0 makes none."""


Shape = Annotated[list[Positive], Field(min_length=2, max_length=2)]
"""[width, height] in px"""


class Anchors(Section):
    """Sizes with ratios and scales, the same on all levels, or free shapes."""

    sizes: Annotated[list[Positive], Field(min_length=1)] | None = None
    """Square root of the area in px, one for each level."""
    ratios: Annotated[list[Positive], Field(min_length=1)] = [0.5, 1.0, 2.0]
    """Height / width."""
    scales: Annotated[list[Positive], Field(min_length=1)] = [1.0]
    """Factors on every size."""
    shapes: Annotated[list[Annotated[list[Shape], Field(min_length=1)]], Field(min_length=1)] | None = None
    """In place of these three: [width, height] in px of each anchor of a cell, for each level, as many on
    all. ``dethead anchors`` fits them to a data set."""

    @model_validator(mode="after")
    def _one_way_or_the_other(self) -> Self:
        if (self.sizes is None) == (self.shapes is None):
            raise ValueError(
                "give sizes, or shapes in their place, " + ("not both" if self.sizes else "got none")
            )
        if self.shapes is not None:
            for name in ("ratios", "scales"):
                if (value := getattr(self, name)) != type(self).model_fields[name].default:
                    raise ValueError(f"give shapes in place of ratios and scales, got {name} {value}, too")
            if len({len(level) for level in self.shapes}) != 1:
                raise ValueError(f"levels differ in their number of shapes: {[len(s) for s in self.shapes]}")
        return self


class Deltas(Section):
    name: Literal["deltas"] = "deltas"
    """Shift of the centre in anchor sizes, log of the size ratio."""
    weights: Annotated[list[Positive], Field(min_length=4, max_length=4)] = [1.0, 1.0, 1.0, 1.0]
    """Factors on dx, dy, dw, dh."""


class OtherCodec(Section):
    name: Literal["ltrb", "point_exp"]
    """ltrb: distances to the four sides in anchor sizes. point_exp: shift and log size in cells."""


def _codec_name(value: Any) -> str:
    name = value.get("name", "deltas") if isinstance(value, dict) else getattr(value, "name", None)
    return "deltas" if name == "deltas" else "other"


Codec = Annotated[
    Annotated[Deltas, Tag("deltas")] | Annotated[OtherCodec, Tag("other")], Discriminator(_codec_name)
]
