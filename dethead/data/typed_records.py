"""A COCO annotation file decoded into typed records, ten times faster than record by record.

Keys that nobody asks for, polygons above all, are passed over. A file that is not exactly as most are is left
to ``records``, which allows more and names what is wrong.
"""

from itertools import chain
from typing import Annotated, Literal

import msgspec

from dethead.data.record_types import BoxRecord, Category, ImageRecord, Records

_LIMIT = 2**63 - 1
_MISSING = 2**63  # as a category_id: no category has it
_Whole = Annotated[int, msgspec.Meta(ge=-_LIMIT, le=_LIMIT)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=_LIMIT)]
_Number = Annotated[float, msgspec.Meta(gt=-(2.0**63), lt=2.0**63)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0.0, lt=2.0**63)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Category(msgspec.Struct, gc=False):
    id: _Whole
    name: _Text


class _Image(msgspec.Struct, gc=False):
    id: _Whole
    file_name: _Text
    height: _Size
    width: _Size


class _Box(msgspec.Struct, gc=False):
    id: _Whole
    image_id: _Whole
    bbox: tuple[_Number, _Number, _Number, _Number]
    area: _NotNegative | None = None
    iscrowd: Literal[0, 1] = 0
    category_id: int | None = _MISSING
    category_ids: Annotated[tuple[int, ...], msgspec.Meta(min_length=1)] = ()
    weight: _NotNegative = 1.0


class _File(msgspec.Struct, gc=False):
    categories: list[_Category]
    images: list[_Image]
    annotations: list[_Box]


_FILE = msgspec.json.Decoder(_File)


def decode_records(text: str, ignore_index: int) -> Records | None:
    """Decode an annotation file; None where it has to be read record by record.

    Args:
        text: the file.
        ignore_index: a ``category_id`` that means "an object, class unknown", as null does.
    """
    try:
        file = _FILE.decode(text)
    except msgspec.DecodeError:
        return None
    categories = [Category(category.id, category.name) for category in file.categories]
    images = [ImageRecord(image.id, image.file_name, image.height, image.width) for image in file.images]
    records = Records(categories, sorted(images), [_box(box, ignore_index) for box in file.annotations])
    return records if _is_sound(records, ignore_index) else None


def _box(box: _Box, ignore_index: int) -> BoxRecord:
    area = box.bbox[2] * box.bbox[3] if box.area is None else box.area
    categories = _box_categories(box, ignore_index)
    return BoxRecord(box.id, box.image_id, box.bbox, area, box.iscrowd == 1, categories, box.weight)


def _box_categories(box: _Box, ignore_index: int) -> tuple[int, ...] | None:
    ids = box.category_ids
    if not ids:
        if box.category_id is None:
            return None
        ids = (box.category_id,)
    return None if ids == (ignore_index,) else ids


def _is_sound(records: Records, ignore_index: int) -> bool:
    """Tell whether ids are unique and everything that is referred to is there."""
    categories, images, boxes = records
    known = {category.id for category in categories}
    used = {box.categories for box in boxes if box.categories is not None}
    image_ids = {image.id for image in images}
    return (
        bool(images)
        and ignore_index not in known
        and len(known) == len({category.name for category in categories}) == len(categories)
        and len(image_ids) == len(images)
        and len({box.id for box in boxes}) == len(boxes)
        and known.issuperset(chain.from_iterable(used))
        and image_ids.issuperset(box.image_id for box in boxes)
    )
