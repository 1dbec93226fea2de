"""What is trained on."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dethead.config.sections.section import Count, Fraction, NotNegative, Section


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


class Data(Section):
    classes: list[str | dict[str, list[str]]] | None = None
    """Order is label. ``person`` takes a category as it is, ``{pedestrian: [person]}`` renames or merges;
    null takes all categories of the training file in order of their ids."""
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
