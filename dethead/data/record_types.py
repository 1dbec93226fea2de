"""What a COCO annotation file holds, record by record."""

from typing import NamedTuple


class Category(NamedTuple):
    """One entry of ``categories``."""

    id: int
    name: str


class ImageRecord(NamedTuple):
    """One entry of ``images``."""

    id: int
    file_name: str
    height: int
    width: int


class BoxRecord(NamedTuple):
    """One entry of ``annotations``."""

    id: int
    image_id: int
    box: tuple[float, float, float, float]
    """x, y, width, height in original pixels, not looked at yet."""
    area: float
    """As in the file, else width * height."""
    crowd: bool
    categories: tuple[int, ...] | None
    """None: an object of unknown class."""
    weight: float = 1.0
    """Sample weight, at least 0."""


class Records(NamedTuple):
    """A whole annotation file."""

    categories: list[Category]
    images: list[ImageRecord]
    """By ascending id, as pycocotools walks through them."""
    boxes: list[BoxRecord]
    """In the order of the file."""
