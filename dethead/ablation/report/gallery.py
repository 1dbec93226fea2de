"""Thumbnails of the images on which variants disagree: truth, baseline and variant side by side."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dethead.ablation.report.disagreement import Disagreement, disagreements, most_different, sight
from dethead.ablation.report.measured import MeasuredRun, MeasuredVariant
from dethead.data import CocoSet, DataError, read_image
from dethead.drawing import Colour, Mark, draw_marks
from dethead.evaluation.arrays import EvaluationInput, Floats

SHOWN: Final = 12
"""Images in all."""
_COMPARISONS: Final = 3  # of more, those with the largest differences are shown
_SIDE: Final = 420  # px of the longer side
_QUALITY: Final = 70
_TEXT: Final = 12  # px
_ROOM: Final = 2.0  # the view is so much larger than what is disputed
_LEAST_SHARE: Final = 0.4  # of the image that is shown at least; less would not say where it is
_WRONG_DRAWN: Final = 12  # boxes of one thumbnail; more would hide the picture
# Okabe and Ito's colours, told apart with every common form of colour blindness.
TRUTH: Final[Colour] = (0, 158, 115)
RIGHT: Final[Colour] = (86, 180, 233)
WRONG: Final[Colour] = (213, 94, 0)
MISSED: Final[Colour] = (240, 228, 66)


class Thumbnail(NamedTuple):
    """One picture."""

    heading: str
    style: str
    source: str
    """As a data URL."""
    width: int
    height: int


@dataclass(frozen=True)
class Exhibit:
    """One image."""

    file: str
    words: str
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class Room:
    """The images on which one variant disagrees most with the baseline."""

    baseline: str
    variant: str
    disagreeing: int
    """Images on which they disagree at all."""
    exhibits: tuple[Exhibit, ...]
    unreadable: int
    """Images that would be here, but whose files cannot be read."""


def make_gallery(variants: Sequence[MeasuredVariant], coco: CocoSet, images: Path) -> list[Room]:
    """Draw the images on which variants disagree most with the baseline.

    Args:
        variants: those measured, the baseline among them. Up to three others are shown, those with the
            largest differences in AP; together 12 images.
        coco: the truth: image i of the evaluation is image i of the set.
        images: the folder that its file names are relative to.
    """
    baseline = next(one for one in variants if one.is_baseline)
    if not baseline.runs:
        return []
    others = most_different(variants, _COMPARISONS)
    rooms = (_room(baseline, one, coco, images, SHOWN // len(others)) for one in others)
    return [room for room in rooms if room.disagreeing]


def _room(
    baseline: MeasuredVariant, variant: MeasuredVariant, coco: CocoSet, images: Path, most: int
) -> Room:
    found = disagreements(baseline, variant)
    exhibits: list[Exhibit] = []
    unreadable = 0
    for one in found:
        if len(exhibits) == most:
            break
        try:
            exhibits.append(_exhibit(one, (baseline, variant), coco, images))
        except DataError:
            unreadable += 1
    return Room(baseline.name, variant.name, len(found), tuple(exhibits), unreadable)


def _exhibit(
    one: Disagreement, pair: tuple[MeasuredVariant, MeasuredVariant], coco: CocoSet, images: Path
) -> Exhibit:
    name = coco.file_name(one.image)
    image = read_image(images / name)
    given = pair[0].runs[0].given
    view = _view(image, given.truth.boxes[one.disputed])
    thumbnails = [_thumbnail("truth", "", image, _truth_marks(given, one.image), view)]
    for variant, run in zip(pair, _same_seed(*pair), strict=True):
        heading = f"{variant.name}, seed {run.result.planned.seed}"
        thumbnails.append(_thumbnail(heading, variant.style, image, _marks(run, one.image), view))
    found = (f"{variant.name} finds {count:.3g}" for variant, count in zip(pair, one.found, strict=True))
    objects = "1 object" if one.objects == 1 else f"{one.objects} objects"
    return Exhibit(name, f"{objects}; {', '.join(found)} (mean over seeds)", tuple(thumbnails))


def _same_seed(baseline: MeasuredVariant, variant: MeasuredVariant) -> tuple[MeasuredRun, MeasuredRun]:
    """Give a run of each, of the first seed that both have; without one the first of each."""
    theirs = {run.result.planned.seed: run for run in variant.runs}
    for run in baseline.runs:
        if run.result.planned.seed in theirs:
            return run, theirs[run.result.planned.seed]
    return baseline.runs[0], variant.runs[0]


def _truth_marks(given: EvaluationInput, image: int) -> list[Mark]:
    truth = given.truth
    rows = np.flatnonzero((truth.image == image) & ~truth.crowd).tolist()
    return [_mark(truth.boxes[row].tolist(), given.class_names[truth.label[row]], TRUTH) for row in rows]


def _marks(run: MeasuredRun, image: int) -> list[Mark]:
    """Mark what a run finds, misses, and sees where nothing is; the right ones on top."""
    given, table, seen = run.given, run.table, sight(run)
    right, wrong = (rows[table.image[rows] == image] for rows in (seen.right, seen.wrong))
    wrong = wrong[np.argsort(-table.score[wrong], kind="stable")][:_WRONG_DRAWN]
    missed = np.flatnonzero(seen.counted & ~seen.found & (table.object_image == image))
    marks = [_detection(given, int(table.row[row]), RIGHT) for row in right]
    marks += [
        _mark(given.truth.boxes[row].tolist(), f"no {given.class_names[given.truth.label[row]]}", MISSED)
        for row in missed.tolist()
    ]
    return marks + [_detection(given, int(table.row[row]), WRONG) for row in wrong]


def _detection(given: EvaluationInput, row: int, colour: Colour) -> Mark:
    found = given.detections
    text = f"{given.class_names[found.label[row]]} {found.scores[row]:.2f}"
    return _mark(found.boxes[row].tolist(), text, colour)


def _mark(box: Sequence[float], text: str, colour: Colour) -> Mark:
    x, y, width, height = box
    return Mark((x, y, x + width, y + height), text, colour)


class _View(NamedTuple):
    """The part of an image that is shown, in px of the image."""

    left: int
    top: int
    right: int
    bottom: int


def _view(image: Tensor, boxes: Floats) -> _View:
    """Look at the (D, 4) xywh disputed objects with what is around them, all of it where they are large."""
    height, width = image.shape[1:]
    x1, y1 = boxes[:, :2].min(axis=0).tolist()
    x2, y2 = (boxes[:, :2] + boxes[:, 2:]).max(axis=0).tolist()
    factor = max(_ROOM * (x2 - x1) / width, _ROOM * (y2 - y1) / height, _LEAST_SHARE)
    left, right = _stretch((x1 + x2) / 2, factor * width, width)
    top, bottom = _stretch((y1 + y2) / 2, factor * height, height)
    return _View(left, top, right, bottom)


def _stretch(centre: float, extent: float, length: int) -> tuple[int, int]:
    """Give start and end of a stretch around the centre, moved inside a length."""
    pixels = min(max(round(extent), 1), length)
    start = min(max(round(centre - pixels / 2), 0), length - pixels)
    return start, start + pixels


def _thumbnail(heading: str, style: str, image: Tensor, marks: Sequence[Mark], view: _View) -> Thumbnail:
    part, scale = _small(image[:, view.top : view.bottom, view.left : view.right])
    drawn = draw_marks(part, _moved(marks, view, scale), enlarge_to=_SIDE, text_size=_TEXT)
    buffer = io.BytesIO()
    Image.fromarray(drawn.permute(1, 2, 0).contiguous().numpy()).save(buffer, "JPEG", quality=_QUALITY)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(heading, style, f"data:image/jpeg;base64,{text}", drawn.shape[2], drawn.shape[1])


def _moved(marks: Sequence[Mark], view: _View, scale: float) -> list[Mark]:
    """Give the marks that reach into the view, in px of the thumbnail."""
    moved = []
    for mark in marks:
        x1, y1, x2, y2 = mark.box
        if x1 < view.right and x2 > view.left and y1 < view.bottom and y2 > view.top:
            box = (x1 - view.left, y1 - view.top, x2 - view.left, y2 - view.top)
            moved.append(mark._replace(box=(scale * box[0], scale * box[1], scale * box[2], scale * box[3])))
    return moved


def _small(image: Tensor) -> tuple[Tensor, float]:
    """Shrink an image that is larger than a thumbnail; gives the factor."""
    height, width = image.shape[1:]
    scale = min(1.0, _SIDE / max(height, width))
    if scale == 1.0:
        return image, scale
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    size = max(1, round(scale * width)), max(1, round(scale * height))
    small = np.array(picture.resize(size, Image.Resampling.LANCZOS))
    return torch.from_numpy(small).permute(2, 0, 1).contiguous(), scale
