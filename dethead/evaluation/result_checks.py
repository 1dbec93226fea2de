"""A COCO results file read row by row, to say what is wrong with it."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

EXTRA_KEYS = ("class_probability", "confidence")
LIMIT = 2**63
"""Numbers must be smaller: beyond, an int is none to NumPy."""


class ResultsError(ValueError):
    """A results file holds what cannot be: the message names the file, the row and the value."""


def checked_rows(
    path: Path, image_ids: Collection[int], category_ids: Collection[int]
) -> list[dict[str, Any]]:
    """Read a results file with Python's own JSON reader and look at every row.

    Args:
        path: the file.
        image_ids: those of the annotations.
        category_ids: those of the annotations.

    Raises:
        ResultsError: the first fault, see ``read_evaluation``.
    """
    rows = _load(path)
    known = {"image_id": {*image_ids}, "category_id": {*category_ids}}
    for number, row in enumerate(rows):
        if fault := _fault(row, known):
            raise ResultsError(f"{path}: row {number}: {fault}")
    return rows


def _load(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: is not UTF-8 text at byte {error.start}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ResultsError(f"{path}: {where}: not JSON: {error.msg}") from error
    if not isinstance(rows, list):
        raise ResultsError(f"{path}: must hold a list of detections, holds {type(rows).__name__}")
    return rows


def _fault(row: Any, known: Mapping[str, set[int]]) -> str | None:
    """Say what is wrong with a row, or None."""
    if not isinstance(row, dict):
        return f"must be an object, is {row!r}"
    for key in ("image_id", "category_id", "bbox", "score"):
        if key not in row:
            return f"{key} is missing"
    for key, ids in known.items():
        if not _is_number(row[key]) or row[key] not in ids:
            return f"{key} {row[key]!r} is not in the annotations"
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)) or min(box[2:]) < 0:
        return f"bbox must be 4 finite numbers x, y, width >= 0, height >= 0, is {box!r}"
    for key in ("score", *EXTRA_KEYS):
        if key in row and not _is_number(row[key]):
            return f"{key} must be a finite number, is {row[key]!r}"
    return None


def _is_number(value: Any) -> bool:
    # True is an int to Python.
    return isinstance(value, int | float) and type(value) is not bool and abs(value) < LIMIT
