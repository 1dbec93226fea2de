"""What anchors and assigner allow a detector to learn: objects without an anchor are never found."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dethead.anchors import AnchorGrid
from dethead.assigners import Assigner, MaxIoUAssigner
from dethead.assigners.overlapping import best_sums
from dethead.data.box_shapes import shape_ious, sizes_of
from dethead.data.seen_boxes import SeenBoxes
from dethead.evaluation.arrays import Bools, Floats
from dethead.evaluation.reliability import plain
from dethead.evaluation.rules import LARGEST, MEDIUM, SMALL
from dethead.structures import Anchors, GroundTruth, Predictions

if TYPE_CHECKING:
    from rich.table import Table

_BATCH: Final = 8
"""Images that are assigned together."""
_SIZES: Final = (("small", 0.0, SMALL), ("medium", SMALL, MEDIUM), ("large", MEDIUM, LARGEST))


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """How well anchors cover a group of boxes; shares and means are nan where the group is empty."""

    name: str
    """all, small, medium, large, or a class."""
    boxes: int
    shape_iou: float
    """Mean IoU with the best anchor shape, centred on the box: what shapes alone allow."""
    above_50: float
    """Share whose best anchor, where anchors stand, has an IoU of 0.5 or more."""
    above_70: float
    """The same for 0.7."""
    answered: float
    """Share for which at least one anchor answers: the recall ceiling."""
    answered_without_low_quality: float
    """The same without ``low_quality``; nan where the assigner has no such rule."""
    positives: tuple[float, float, float]
    """Anchors that answer for a box: 5th percentile, median, 95th percentile."""


@dataclass(frozen=True, slots=True)
class RecallCeiling:
    """Coverage of all boxes, by COCO's sizes, and by class."""

    groups: tuple[Covered, ...]
    guessed: bool
    """The assigner looks at predictions, and saw those of a head that knows nothing."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        groups = [dataclasses.asdict(group) for group in self.groups]
        for group in groups:
            for key, value in group.items():
                if isinstance(value, float):
                    group[key] = plain(value)
            group["positives"] = [plain(value) for value in group["positives"]]
        return {"groups": groups, "guessed_predictions": self.guessed}

    def as_table(self, title: str) -> "Table":
        """Give a table for the terminal."""
        from rich.table import Table
        from rich.text import Text

        strict = any(not math.isnan(group.answered_without_low_quality) for group in self.groups)
        table = Table(title=title)
        table.add_column("boxes")
        heads = ["number", "IoU of shape", "best IoU ≥ 0.5, %", "≥ 0.7, %", "with a positive, %"]
        heads += ["without low quality, %"] if strict else []
        for head in (*heads, "positives: 5 %", "median", "95 %"):
            table.add_column(head, justify="right")
        for group in self.groups:
            shares = [group.above_50, group.above_70, group.answered]
            shares += [group.answered_without_low_quality] if strict else []
            cells = [str(group.boxes), _shown(group.shape_iou, 3), *(_shown(100 * one, 1) for one in shares)]
            table.add_row(Text(group.name), *cells, *(_shown(one, 0) for one in group.positives))
        return table


class _Boxes(NamedTuple):
    """Columns of N boxes."""

    shape_iou: Floats
    best_iou: Floats
    positives: Floats
    strict: Floats
    """nan where there is no such rule."""
    areas: Floats
    targets: Bools
    """(N, C)"""

    def of(self, name: str, chosen: Bools) -> Covered:
        """Sum up the (N,) chosen boxes."""
        shape_iou, best, positives, strict = (column[chosen] for column in self[:4])
        low, median, high = np.quantile(positives, (0.05, 0.5, 0.95)) if len(positives) else (math.nan,) * 3
        without = (strict > 0).astype(np.float64)
        without[np.isnan(strict)] = math.nan
        return Covered(
            name=name,
            boxes=len(best),
            shape_iou=_mean(shape_iou),
            above_50=_mean(best >= 0.5),
            above_70=_mean(best >= 0.7),
            answered=_mean(positives > 0),
            answered_without_low_quality=_mean(without),
            positives=(float(low), float(median), float(high)),
        )


@torch.no_grad()
def recall_ceiling(
    seen: Sequence[SeenBoxes],
    grid: AnchorGrid,
    image_size: tuple[int, int],
    assigner: Assigner,
    class_names: Sequence[str],
) -> RecallCeiling:
    """Measure how well anchors cover the boxes of a data set, and how many each box gets to train.

    An assigner that looks at predictions is shown those of a head that knows nothing: boxes are the anchors,
    classes are equally likely. It then says what a training begins with, not what it comes to.

    Args:
        seen: truth of I images in pixels of the network input.
        grid: the anchors.
        image_size: (height, width) of the network input.
        assigner: of the run.
        class_names: C names; a box with several labels counts for each of them.
    """
    anchors = grid.place(image_size)
    columns = [*_columns(seen, anchors, grid, assigner)]
    boxes = _Boxes(*(np.concatenate(part) for part in zip(*columns, strict=True)))
    groups = [boxes.of("all", np.ones(len(boxes.areas), dtype=np.bool_))]
    # An area on the limit is of both sizes, as in COCO's protocol.
    groups += [boxes.of(name, (low <= boxes.areas) & (boxes.areas <= high)) for name, low, high in _SIZES]
    groups += [boxes.of(name, boxes.targets[:, label]) for label, name in enumerate(class_names)]
    return RecallCeiling(tuple(groups), assigner.needs_predictions)


def _columns(
    seen: Sequence[SeenBoxes], anchors: Anchors, grid: AnchorGrid, assigner: Assigner
) -> Iterator[_Boxes]:
    shapes = np.array(grid.shapes, dtype=np.float64).reshape(-1, 2)
    strict = _without_low_quality(assigner)
    for start in range(0, len(seen), _BATCH):
        some = seen[start : start + _BATCH]
        truth = [one.truth for one in some]
        positives = _positives(assigner, anchors, truth)
        yield _Boxes(
            shape_ious(sizes_of(some), shapes).max(axis=1),
            np.concatenate([best_sums(one.boxes, anchors.boxes, 1).double().numpy() for one in truth]),
            positives,
            np.full(len(positives), math.nan) if strict is None else _positives(strict, anchors, truth),
            torch.cat([one.areas for one in some]).double().numpy(),
            torch.cat([one.targets > 0 for one in truth]).numpy(),
        )


def _positives(assigner: Assigner, anchors: Anchors, truth: Sequence[GroundTruth]) -> Floats:
    """(N,) anchors that answer for each box of a batch."""
    guess = _guess(anchors, truth) if assigner.needs_predictions else None
    matched = assigner(anchors, truth, guess).matched
    counts = [
        torch.bincount(row[row >= 0], minlength=len(one.boxes))
        for row, one in zip(matched, truth, strict=True)
    ]
    return torch.cat(counts).double().numpy()


def _guess(anchors: Anchors, truth: Sequence[GroundTruth]) -> Predictions:
    """Predictions of a head that knows nothing; no memory is taken but that of the anchors."""
    images, classes = len(truth), truth[0].targets.shape[1]
    count = len(anchors.boxes)
    share: Tensor = anchors.boxes.new_tensor(1 / classes)
    return Predictions(
        anchors.boxes.expand(images, count, 4),
        share.expand(images, count, classes),
        share.expand(images, count),
    )


def _without_low_quality(assigner: Assigner) -> Assigner | None:
    if isinstance(assigner, MaxIoUAssigner) and assigner.low_quality:
        return dataclasses.replace(assigner, low_quality=False)
    return None


def _mean(values: Floats | Bools) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _shown(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
