"""What is trained on."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, field_validator, model_validator

from dethead.config.sections.section import (
    Count,
    Fraction,
    Natural,
    NotNegative,
    Positive,
    Section,
    by_name,
)

Size = Annotated[list[Count], Field(min_length=2, max_length=2)]
"""(height, width) in px"""
Range = Annotated[list[Positive], Field(min_length=2, max_length=2)]
"""[low, high], factors"""


class Augment(Section):
    """Random changes of training images; a number is a probability unless said otherwise.

    One image is scaled by one of these: a mosaic, else ``jitter`` if there is one, else zoom_out and iou_crop
    in this order. What mosaic, mixup and jitter have made is of the input size; its colours are changed after
    that, and those of other images before. Last of all come flip and min_box_size.
    """

    photometric: Fraction = 0.5
    zoom_out: Fraction = 0.3
    zoom_out_max: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """Largest side of the canvas, in sides of the image."""
    iou_crop: Fraction = 1.0
    """An IoU crop of probability 1 still leaves one image in seven whole."""
    flip: Fraction = 0.5
    min_box_size: NotNegative = 2.0
    """Objects narrower or lower than so many pixels after all changes are dropped: original ones, of the
    network input after mosaic, mixup and jitter."""
    mosaic: Fraction = 0.0
    """Four images in one, cut and scaled (YOLOv4, YOLOX). Reads up to four times as much."""
    mosaic_scale: Range = [0.5, 1.5]
    """[low, high]: how large the four are, by the scale at which each fits. With 0.5 all are whole, but for
    some edges; the larger, the fewer are in sight. YOLOX: 0.5 to 1.5 for small models, 0.1 to 2 for large."""
    mixup: Fraction = 0.0
    """The mean of the image, or the mosaic, and another one, with the objects of both (YOLOX)."""
    jitter: Range | None = None
    """[low, high]: large-scale jitter. The scale at which an image fits, times a factor between them; then a
    crop, or padding. [0.1, 2.0] in its paper (arXiv 2012.07177)."""
    last_epochs_plain: Natural = 0
    """So many epochs at the end are without mosaic, mixup and jitter (YOLOX: 15 of 300). The average of the
    weights should be shorter, or hardly anything of them is scored: ``training.ema.decay`` d averages
    1 / (1 - d) steps, once it is warm."""

    @field_validator("jitter", "mosaic_scale")
    @classmethod
    def _low_to_high(cls, factors: list[float] | None) -> list[float] | None:
        if factors is not None and factors[0] > factors[1]:
            raise ValueError(f"must be [low, high], got {factors}")
        return factors


class UniformSampler(Section):
    name: Literal["uniform"] = "uniform"
    """Every image once in an epoch."""


class ClassAwareSampler(Section):
    name: Literal["class_aware"]
    """All classes alike often: draw a class, then an image that shows it. Images without objects keep their
    share."""


class RepeatFactorSampler(Section):
    name: Literal["repeat_factor"]
    threshold: Annotated[float, Field(gt=0, le=1)]
    """Images with a class in less than this share of all images are shown more often, by the square root of
    threshold / share: 0.001 for a thousand classes, more for few."""


Sampler = Annotated[
    Annotated[UniformSampler, Tag("uniform")]
    | Annotated[RepeatFactorSampler, Tag("repeat_factor")]
    | Annotated[ClassAwareSampler, Tag("class_aware")],
    by_name("uniform", "repeat_factor", "class_aware"),
]


class Data(Section):
    classes: list[str | dict[str, list[str]]] | None = None
    """Order is label. ``person`` takes a category as it is, ``{pedestrian: [person]}`` renames or merges;
    null takes all categories of the training file in order of their ids."""
    hierarchy: dict[str, list[str]] = {}
    """``vehicle: [car, bus]`` adds a class ``vehicle`` after the others, whose label boxes of its classes
    carry, too. A parent may be part of a later one. Needs a class scheme that knows several labels."""
    other_categories: Literal["background", "ignore"] = "background"
    """Objects of categories that are not chosen."""
    invalid_boxes: Literal["error", "drop"] = "error"
    """Boxes of no size, outside the image or nan: stop, or leave them out of the training and count them."""
    merge_equal_boxes: bool = False
    """Equal boxes of different categories in an image are one object with several labels."""
    skip_unreadable: bool = False
    """Leave out, and count, images that are missing or broken: no loss, no score."""
    image_size: Size
    """(height, width) in px that images are fitted into; multiples of the backbone's coarsest stride, or of
    that over backbone.enlarge."""
    multi_scale: Size | Annotated[list[Size], Field(min_length=1)] | None = None
    """Sizes that the batches of a training have in turn, drawn by step: [low, high] are the least and the
    largest height, one for each multiple of that stride between them, with widths in proportion to
    image_size; or a list of [height, width]. Validation always has image_size."""
    augment: Augment = Augment()
    sampler: Sampler = UniformSampler()
    """Which training images an epoch shows, and how often."""

    @property
    def num_classes(self) -> int | None:
        """C with the parents; None where the training file decides."""
        if self.classes is None:
            return None
        chosen = sum(1 if isinstance(one, str) else len(one) for one in self.classes)
        return chosen + len(self.hierarchy)

    def input_sizes(self, stride: int) -> tuple[tuple[int, int], ...]:
        """Give the (height, width) that training images may have, multiples of ``stride`` px.

        Only image_size without multi_scale.
        """
        if self.multi_scale is None:
            return ((self.image_size[0], self.image_size[1]),)
        pairs = [size for size in self.multi_scale if isinstance(size, list)]
        return tuple((height, width) for height, width in pairs or self._in_proportion(stride))

    def _in_proportion(self, stride: int) -> list[list[int]]:
        low, high = (one for one in self.multi_scale or () if isinstance(one, int))
        columns = self.image_size[1] / self.image_size[0] / stride
        return [[height, max(1, round(height * columns)) * stride] for height in range(low, high + 1, stride)]

    @field_validator("multi_scale", mode="before")
    @classmethod
    def _range_or_sizes(cls, value: Any) -> Any:
        """Said here in one line: of two kinds of lists, neither of which fits, pydantic speaks at length."""
        if value is None or (_is_pair(value) and value[0] <= value[1]):
            return value
        if isinstance(value, list) and value and all(map(_is_pair, value)):
            return value
        raise ValueError(f"must be [low, high] or a list of [height, width], in px, got {value!r}")

    @model_validator(mode="after")
    def _distinct_classes(self) -> Self:
        if self.classes is None:
            return self
        names = [n for one in self.classes for n in ([one] if isinstance(one, str) else one)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            what = f"names {twice[0]!r} twice" if twice else "is empty: null takes all categories"
            raise ValueError(f"classes {what}")
        return self


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(one) is int and one > 0 for one in value)
