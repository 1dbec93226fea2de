"""The records of a COCO annotation file; where one is unusual, all are read and checked one by one."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dethead.data.errors import DataError
from dethead.data.record_types import BoxRecord, Category, ImageRecord, Records
from dethead.data.typed_records import decode_records

Json = dict[str, Any]


def read_records(path: Path, ignore_index: int) -> Records:
    """Read an annotation file; coordinates are left to be checked against the images.

    Args:
        path: JSON with ``images``, ``annotations`` and ``categories``.
        ignore_index: a ``category_id`` that means "an object, class unknown", as null does.

    Raises:
        DataError: what is wrong, with file and line, or file and record.
    """
    text = _read_text(path)
    return decode_records(text, ignore_index) or _checked_records(path, text, ignore_index)


def _checked_records(path: Path, text: str, ignore_index: int) -> Records:
    content = _parse(path, text)
    categories = _read_categories(path, content["categories"], ignore_index)
    images = [_read_image(path, entry) for entry in content["images"]]
    if not images:
        raise DataError(f"{path}: 'images' is empty")
    _check_unique(path, "image id", (image.id for image in images))
    known = {category.id for category in categories}
    boxes = [_read_box(path, entry, known, ignore_index) for entry in content["annotations"]]
    _check_unique(path, "annotation id", (box.id for box in boxes))
    image_ids = {image.id for image in images}
    for box in boxes:
        if box.image_id not in image_ids:
            raise DataError(
                f"{path}: annotation {box.id} is of image {box.image_id}, which is not in 'images'"
            )
    return Records(categories, sorted(images), boxes)


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text at byte {error.start}") from error


def _parse(path: Path, text: str) -> Json:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}"
        ) from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: must hold an object with images, annotations and categories, holds a {_kind(content)}"
        )
    for key in ("images", "annotations", "categories"):
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(
                f"{path}: {key!r} must be a list of objects, is {_kind(content.get(key, 'missing'))}"
            )
    return content


def _kind(value: Any) -> str:
    return "missing" if value == "missing" else type(value).__name__


def _read_categories(path: Path, entries: list[Json], ignore_index: int) -> list[Category]:
    categories = [
        Category(_whole(path, "category", entry, "id"), _text(path, "category", entry, "name"))
        for entry in entries
    ]
    _check_unique(path, "category id", (category.id for category in categories))
    _check_unique(path, "category name", (category.name for category in categories))
    for category in categories:
        if category.id == ignore_index:
            raise DataError(
                f"{path}: category {category.name!r} has the id {ignore_index} of unknown classes"
            )
    return categories


def _read_image(path: Path, entry: Json) -> ImageRecord:
    image = ImageRecord(
        _whole(path, "image", entry, "id"),
        _text(path, "image", entry, "file_name"),
        _whole(path, "image", entry, "height"),
        _whole(path, "image", entry, "width"),
    )
    if image.height < 1 or image.width < 1:
        raise DataError(
            f"{path}: image {image.id}: size must be at least 1 x 1, is {image.height} x {image.width}"
        )
    return image


def _read_box(path: Path, entry: Json, known: set[int], ignore_index: int) -> BoxRecord:
    box = _read_coordinates(path, entry)
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise _wrong(path, "annotation", entry, "iscrowd", "0 or 1")
    return BoxRecord(
        id=_whole(path, "annotation", entry, "id"),
        image_id=_whole(path, "annotation", entry, "image_id"),
        box=box,
        area=_read_area(path, entry, box),
        crowd=bool(crowd),
        categories=_read_box_categories(path, entry, known, ignore_index),
        weight=_read_weight(path, entry),
    )


def _read_coordinates(path: Path, entry: Json) -> tuple[float, float, float, float]:
    values = entry.get("bbox")
    if not isinstance(values, list) or len(values) != 4 or not all(_is_number(value) for value in values):
        raise _wrong(path, "annotation", entry, "bbox", "4 numbers x, y, width, height")
    x, y, width, height = map(float, values)
    return x, y, width, height


def _read_area(path: Path, entry: Json, box: tuple[float, float, float, float]) -> float:
    area = entry.get("area")
    if area is None:
        return box[2] * box[3]
    if not _is_number(area) or not math.isfinite(area) or area < 0:
        raise _wrong(path, "annotation", entry, "area", "a number of px^2 >= 0")
    return float(area)


def _read_weight(path: Path, entry: Json) -> float:
    weight = entry.get("weight", 1.0)
    if not _is_number(weight) or not 0 <= weight < 2**63:
        raise _wrong(path, "annotation", entry, "weight", "a number in [0, 2**63)")
    return float(weight)


def _read_box_categories(
    path: Path, entry: Json, known: set[int], ignore_index: int
) -> tuple[int, ...] | None:
    """Give ``category_ids``, or the one ``category_id``; None where that is null or ``ignore_index``."""
    several = "category_ids" in entry
    key = "category_ids" if several else "category_id"
    ids = entry["category_ids"] if several else [entry.get(key, "missing")]
    if ids in ([None], [ignore_index]):
        return None
    if not isinstance(ids, list) or not ids or not all(type(value) is int for value in ids):
        raise _wrong(path, "annotation", entry, key, "ids of categories, or null where the class is unknown")
    for value in ids:
        if value not in known:
            raise _wrong(
                path, "annotation", entry, key, f"one of the ids in 'categories', {_shortened(known)}"
            )
    return tuple(ids)


def _is_number(value: Any) -> bool:
    # True is an int to Python; an int that no float can hold would raise OverflowError later.
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _whole(path: Path, kind: str, entry: Json, key: str) -> int:
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not int or abs(value) >= 2**63:
        raise _wrong(path, kind, entry, key, "a whole number")
    return value


def _text(path: Path, kind: str, entry: Json, key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise _wrong(path, kind, entry, key, "text")
    return value


def _wrong(path: Path, kind: str, entry: Json, key: str, allowed: str) -> DataError:
    value = repr(entry[key]) if key in entry else "missing"
    return DataError(f"{path}: {kind} {entry.get('id', 'without id')}: {key} must be {allowed}, is {value}")


def _check_unique(path: Path, what: str, values: Iterable[int | str]) -> None:
    seen: set[int | str] = set()
    for value in values:
        if value in seen:
            raise DataError(f"{path}: {what} {value!r} is used twice")
        seen.add(value)


def _shortened(ids: set[int]) -> str:
    listed = sorted(ids)
    return f"{listed}" if len(listed) <= 10 else f"{listed[:10]} and {len(listed) - 10} more"
