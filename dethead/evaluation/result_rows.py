"""The rows of a COCO results file as columns of numbers, several times faster than through dictionaries.

A file is read in pieces by a typed decoder, and nothing is kept of a piece but its numbers. Whatever that
decoder or the checks of its columns refuse is read again by ``result_checks``, which decides and names the
fault.
"""

import codecs
import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np

from dethead.data.classes import Classes
from dethead.data.coco import CocoSet
from dethead.data.garbage import without_garbage_collection
from dethead.evaluation.arrays import Floats, Ints
from dethead.evaluation.result_checks import LIMIT, checked_rows

# Bytes. A piece of this size and its rows stay in the processor's cache: whole files take twice as long.
_PIECE = 2**18
# Up to the last end of a row that another row follows, and what lies between the two.
_WHOLE_ROWS = re.compile(rb"(.*\})[ \t\n\r]*,[ \t\n\r]*(?=\{)", re.DOTALL)


class ResultColumns(NamedTuple):
    """The rows of a file as columns; a row whose category belongs to two classes is there twice."""

    image: Ints
    """(N,) row in the set's image ids."""
    label: Ints
    """(N,) in [0, C)."""
    boxes: Floats
    """(N, 4) xywh."""
    scores: Floats
    """(N,)"""
    class_probabilities: Floats
    """(N,) nan where the file has none."""
    confidence: Floats
    """(N,) nan where the file has none."""


@without_garbage_collection()
def read_columns(path: Path, coco_set: CocoSet) -> ResultColumns:
    """Read a results file, rows in their order.

    Args:
        path: the file.
        coco_set: the annotations whose image and category ids the file must use.

    Raises:
        ResultsError: see ``read_evaluation``.
    """
    columns = _decoded(path, coco_set)
    return _looked_at(path, coco_set) if columns is None else columns


class _Row(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float
    class_probability: float = math.nan
    confidence: float = math.nan


_ROWS = msgspec.json.Decoder(list[_Row])


class _Columns(NamedTuple):
    """Numbers as they are in the file, the fields of ``_Row``."""

    image_ids: Ints
    category_ids: Ints
    boxes: Floats
    scores: Floats
    class_probabilities: Floats
    confidence: Floats


def _decoded(path: Path, coco_set: CocoSet) -> ResultColumns | None:
    """Read a file the fast way; None where the careful way has to look."""
    try:
        with path.open("rb") as file:
            # The decoder does not look into strings that nobody asks for: not UTF-8 is found by decode().
            pieces = [_columns(_ROWS.decode(piece.decode())) for piece in _pieces(file)]
    except (OSError, ValueError, OverflowError, msgspec.DecodeError):
        return None
    columns = _Columns(*map(np.concatenate, zip(*pieces, strict=True)))
    return _joined(columns, coco_set) if _is_sound(columns) else None


def _looked_at(path: Path, coco_set: CocoSet) -> ResultColumns:
    """Read a file the careful way, row by row."""
    rows = checked_rows(path, coco_set.image_ids.tolist(), coco_set.classes.result_labels)
    fields = _Row.__struct_fields__
    read = [_Row(**{name: row[name] for name in fields if name in row}) for row in rows]
    columns = _joined(_columns(read), coco_set)
    assert columns is not None  # every id has been looked at
    return columns


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Cut a list of objects into lists, between any ``}, {``.

    Where a cut falls inside a row or a string, the piece before it is no JSON, so pieces that are JSON are
    the list.
    """
    rest = file.read(_PIECE).removeprefix(codecs.BOM_UTF8)
    # Where no cut is found the next block is twice as long: all the joining takes linear time.
    while block := file.read(max(_PIECE, len(rest))):
        rest += block
        if rows := _WHOLE_ROWS.match(rest):
            yield rows[1] + b"]"
            rest = b"[" + rest[rows.end() :]
    yield rest


def _columns(rows: Sequence[_Row]) -> _Columns:
    count = len(rows)
    corners = chain.from_iterable([row.bbox for row in rows])
    return _Columns(
        np.fromiter([row.image_id for row in rows], np.int64, count),
        np.fromiter([row.category_id for row in rows], np.int64, count),
        np.fromiter(corners, np.float64, 4 * count).reshape(count, 4),
        np.fromiter([row.score for row in rows], np.float64, count),
        np.fromiter([row.class_probability for row in rows], np.float64, count),
        np.fromiter([row.confidence for row in rows], np.float64, count),
    )


def _is_sound(columns: _Columns) -> bool:
    """Tell whether no row can have a fault in a number, ids aside."""
    # The typed decoder reads no nan: an extra that is nan is one that the row does not have.
    extras = [values[~np.isnan(values)] for values in (columns.class_probabilities, columns.confidence)]
    numbers = (columns.boxes, columns.scores, *extras)
    return all((np.abs(part) < LIMIT).all() for part in numbers) and not (columns.boxes[:, 2:] < 0).any()


def _joined(columns: _Columns, coco_set: CocoSet) -> ResultColumns | None:
    """Turn ids into rows and labels; None if there is an id that the set does not have."""
    image = _places(columns.image_ids, coco_set.image_ids.numpy())
    known_ids = np.array(sorted(coco_set.classes.result_labels), dtype=np.int64)
    category = _places(columns.category_ids, known_ids)
    if image is None or category is None:
        return None
    row, label = _labels(category, coco_set.classes)
    numbers = [*columns[2:]]
    if row is not None:
        image, numbers = image[row], [column[row] for column in numbers]
    return ResultColumns(image, label, *numbers)


def _places(values: Ints, known: Ints) -> Ints | None:
    """Find values among ascending known ones; None if one is not there."""
    if len(values) and not len(known):
        return None
    places = np.minimum(np.searchsorted(known, values), max(len(known) - 1, 0))
    return places if (known[places] == values).all() else None


def _labels(category: Ints, classes: Classes) -> tuple[Ints | None, Ints]:
    """Give (row, label) of every pair, by row; ``category`` is a place among the sorted category ids.

    The row is None where every row has one label: then nothing need be moved.
    """
    labels_of = [labels for _, labels in sorted(classes.result_labels.items())]
    flat = np.array([label for labels in labels_of for label in labels], dtype=np.int64)
    counts = np.array([len(labels) for labels in labels_of], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    if (counts == 1).all():
        return None, flat[category]
    row = np.repeat(np.arange(len(category)), counts[category])
    first = np.cumsum(counts[category]) - counts[category]  # the first pair of each row
    return row, flat[starts[category[row]] + np.arange(len(row)) - first[row]]
