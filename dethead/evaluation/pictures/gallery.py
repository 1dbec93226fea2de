"""The worst cases as pictures: objects that were not found, and wrong detections that were sure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from torch import Tensor

from dethead.data.coco import CocoSet
from dethead.data.images import read_image
from dethead.drawing import Colour, Mark, Rectangle, draw_marks
from dethead.evaluation.arrays import EvaluationInput, Floats, Ints
from dethead.evaluation.errors import ERROR_TYPES, ErrorTypes
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.neighbours import LEAST_OVERLAP
from dethead.evaluation.overlaps import overlapping_pairs
from dethead.evaluation.pictures.figures import new_figure

SHOWN: Final = 12
_PER_IMAGE: Final = 2  # one bad image does not fill the gallery
_COLUMNS: Final = 4
_TILE: Final = 420  # px of the longer side of a tile
_SMALLEST_VIEW: Final = 64.0  # px of the image; a smaller cut shows nothing but blocks
_TEXT: Final = 15  # px in a tile
_MOST_MARKS: Final = 6
_ANY_OVERLAP: Final = 1e-6
# Okabe and Ito's bluish green and vermillion: told apart with every common form of colour blindness.
TRUTH_COLOUR: Final[Colour] = (0, 158, 115)
DETECTION_COLOUR: Final[Colour] = (213, 94, 0)


class Photographs(NamedTuple):
    """Where the images of an evaluation are."""

    coco_set: CocoSet
    """The annotations: image i of the evaluation is image i of the set."""
    folder: Path
    """The file names of the annotations are relative to it."""

    def read(self, image: int) -> Tensor:
        """Give (3, H, W) uint8 RGB."""
        return read_image(self.folder / self.coco_set.file_name(image))


class _Case(NamedTuple):
    """One tile."""

    image: int
    box: Floats
    """(4,) xywh: what the tile is about."""
    caption: str
    marks: Sequence[Mark]


def save_misses(
    given: EvaluationInput, table: MatchTable, photographs: Photographs, path: Path, *, score: float
) -> int:
    """Show the largest objects that no detection of the score finds, with what was detected around them.

    Args:
        given: what the table was made from.
        table: with the area range "all" and the IoU threshold 0.5.
        photographs: the images.
        path: picture to write; none is written when every object is found.
        score: detections below it find nothing.

    Returns:
        How many objects are shown, at most 12, two of an image.

    Raises:
        DataError: an image that cannot be read.
    """
    area = table.rules.range_place("all")
    found = table.matched(area, table.rules.threshold_place(0.5))[table.score >= score]
    missing = table.counted[area].copy()
    missing[found[found >= 0]] = False
    objects = np.flatnonzero(missing)
    objects = objects[np.argsort(-given.truth.areas[objects], kind="stable")]
    chosen = _spread(objects.tolist(), given.truth.image)
    title = f"Not found: objects without a right detection of score >= {score:.3g}, largest first"
    cases = [_missed(given, row, photographs) for row in chosen]
    return _save(cases, photographs, f"{title}\ngreen: truth, orange: detections there, of any score", path)


def save_mistakes(
    given: EvaluationInput, table: MatchTable, errors: ErrorTypes, photographs: Photographs, path: Path
) -> int:
    """Show the wrong detections of the highest scores, with the truth around them.

    Args:
        given: what the table was made from.
        table: what the errors were found in.
        errors: of the table.
        photographs: the images.
        path: picture to write; none is written when no detection is wrong.

    Returns:
        How many detections are shown, at most 12, two of an image.

    Raises:
        DataError: an image that cannot be read.
    """
    wrong = np.flatnonzero(errors.kind >= 0)
    wrong = wrong[np.argsort(-table.score[wrong], kind="stable")]
    cases = [
        _mistaken(given, int(table.row[place]), ERROR_TYPES[errors.kind[place]], photographs)
        for place in _spread(wrong.tolist(), table.image)
    ]
    title = "Most confident mistakes: wrong detections of the highest scores"
    return _save(cases, photographs, f"{title}\norange: the detection, green: truth", path)


def _spread(rows: Iterable[int], image: Ints) -> list[int]:
    """Take the first rows, but only so many of an image."""
    taken: Counter[int] = Counter()
    chosen: list[int] = []
    for row in rows:
        if len(chosen) == SHOWN:
            break
        if taken[int(image[row])] < _PER_IMAGE:
            taken[int(image[row])] += 1
            chosen.append(row)
    return chosen


def _missed(given: EvaluationInput, row: int, photographs: Photographs) -> _Case:
    truth, found = given.truth, given.detections
    image, box = int(truth.image[row]), truth.boxes[row]
    there = _around(box, np.flatnonzero(found.image == image), found.boxes, LEAST_OVERLAP)
    there = there[np.argsort(-found.scores[there], kind="stable")][:_MOST_MARKS]
    name = given.class_names[truth.label[row]]
    marks = [_truth_mark(given, row), *(_detection_mark(given, other) for other in there.tolist())]
    caption = f"{name}, {box[2]:.0f} x {box[3]:.0f} px\n{_file(photographs, image)}"
    return _Case(image, box, caption, marks)


def _mistaken(given: EvaluationInput, row: int, error: str, photographs: Photographs) -> _Case:
    truth, found = given.truth, given.detections
    image, box = int(found.image[row]), found.boxes[row]
    there = _around(box, np.flatnonzero((truth.image == image) & ~truth.crowd), truth.boxes, _ANY_OVERLAP)[
        :_MOST_MARKS
    ]
    marks = [_detection_mark(given, row), *(_truth_mark(given, other) for other in there.tolist())]
    caption = f"{error}: {marks[0].text}\n{_file(photographs, image)}"
    return _Case(image, box, caption, marks)


def _around(box: Floats, rows: Ints, boxes: Floats, least: float) -> Ints:
    """Keep the rows whose boxes overlap the (4,) box by this IoU or more, best first."""
    count = len(rows)
    only = np.zeros(1, dtype=np.bool_)
    pairs = overlapping_pairs(
        boxes[rows], box[None], only, np.zeros(count, np.int64), np.ones(count, np.int64), least
    )
    around: Ints = rows[pairs.detection[np.argsort(-pairs.overlap, kind="stable")]]
    return around


def _truth_mark(given: EvaluationInput, row: int) -> Mark:
    name = given.class_names[given.truth.label[row]]
    return Mark(_corners(given.truth.boxes[row]), name, TRUTH_COLOUR)


def _detection_mark(given: EvaluationInput, row: int) -> Mark:
    found = given.detections
    text = f"{given.class_names[found.label[row]]} {found.scores[row]:.2f}"
    return Mark(_corners(found.boxes[row]), text, DETECTION_COLOUR)


def _corners(box: Floats) -> Rectangle:
    x, y, width, height = box.tolist()
    return x, y, x + width, y + height


def _file(photographs: Photographs, image: int) -> str:
    return Path(photographs.coco_set.file_name(image)).name


def _save(cases: Sequence[_Case], photographs: Photographs, title: str, path: Path) -> int:
    """Draw the tiles; give how many."""
    if not cases:
        return 0
    rows = -(-len(cases) // _COLUMNS)
    figure = new_figure(3.6 * _COLUMNS, 3.9 * rows + 0.6)
    figure.suptitle(title)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
        axes.set_anchor("N")
    for axes, case in zip(grid, cases, strict=False):
        tile = _tile(photographs.read(case.image), case)
        axes.imshow(tile.permute(1, 2, 0).numpy())
        axes.set_title(case.caption, fontsize=9)
    figure.savefig(path, dpi=120)
    return len(cases)


def _tile(image: Tensor, case: _Case) -> Tensor:
    """Cut out the box with what is around it, and draw on it."""
    height, width = image.shape[1:]
    x, y, box_width, box_height = case.box.tolist()
    side = max(1.8 * box_width, 1.8 * box_height, _SMALLEST_VIEW)
    left, right = _cut(x + box_width / 2, side, width)
    top, bottom = _cut(y + box_height / 2, side, height)
    marks = [
        mark._replace(box=(x1 - left, y1 - top, x2 - left, y2 - top))
        for mark in case.marks
        for x1, y1, x2, y2 in [mark.box]
    ]
    return draw_marks(image[:, top:bottom, left:right], marks, enlarge_to=_TILE, text_size=_TEXT)


def _cut(centre: float, side: float, length: int) -> tuple[int, int]:
    """Give start and end of a stretch around the centre, moved inside an image of that length."""
    extent = min(round(side), length)
    start = min(max(round(centre - extent / 2), 0), length - extent)
    return start, start + extent
