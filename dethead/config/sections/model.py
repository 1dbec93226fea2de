"""Backbone, neck, head and anchors."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dethead.config.sections.section import Count, Natural, Positive, Probability, Section


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
    options: dict[str, Any] = {}
    """Further keyword arguments of a factory of one's own."""

    @model_validator(mode="after")
    def _finest_first(self) -> Self:
        if self.strides != sorted(set(self.strides)):
            raise ValueError(f"strides must increase, finest first, got {self.strides}")
        return self


class Neck(Section):
    """Feature pyramid network between backbone and head."""

    channels: Count = 128
    extra_levels: Annotated[int, Field(ge=0, le=2)] = 0
    """Coarser levels on top, each of twice the stride: 1 adds P6, 2 adds P6 and P7."""


class Head(Section):
    width: Count | None = None
    """Channels of the tower; null takes those of the neck."""
    depth: Natural = 2
    """Convolutions in the tower."""
    separable: bool = False
    norm: Literal["group", "batch", "none"] = "group"
    class_prior: Literal["data"] | Probability | list[Probability] | None = None
    """Class probability at the start, one for all or one for each; null is 1/C, "data" the share of each
    class among the boxes of the training set."""
    confidence_prior: Probability = 0.01
    embedding_channels: Natural = 0
    """Numbers in the embedding of each anchor, for ``loss.embedding``; 0 makes none."""


class Anchors(Section):
    sizes: Annotated[list[Positive], Field(min_length=1)]
    """Square root of the area in px, one for each level."""
    ratios: Annotated[list[Positive], Field(min_length=1)] = [0.5, 1.0, 2.0]
    """Height / width."""
    scales: Annotated[list[Positive], Field(min_length=1)] = [1.0]
    """Factors on every size."""


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
