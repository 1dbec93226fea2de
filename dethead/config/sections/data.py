"""What is trained on."""

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from dethead.config.sections.section import Count, Fraction, NotNegative, Section, by_name


class Augment(Section):
    """Random changes of training images, in this order; a number is a probability unless said otherwise."""

    photometric: Fraction = 0.5
    zoom_out: Fraction = 0.3
    zoom_out_max: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """Largest side of the canvas, in sides of the image."""
    iou_crop: Fraction = 1.0
    """An IoU crop of probability 1 still leaves one image in seven whole."""
    flip: Fraction = 0.5
    min_box_size: NotNegative = 2.0
    """Objects narrower or lower than so many original pixels after all changes are dropped."""


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
    image_size: Annotated[list[Count], Field(min_length=2, max_length=2)]
    """(height, width) in px that images are fitted into; multiples of the coarsest stride waste least."""
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
