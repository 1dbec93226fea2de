"""Which class is taken for which, with background: the confusion matrix of a detector."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dethead.evaluation.arrays import Bools, DetectionArrays, EvaluationInput, Floats, Ints, TruthArrays
from dethead.evaluation.matches import MatchTable, match
from dethead.evaluation.neighbours import OfClass
from dethead.evaluation.rules import CocoRules

BACKGROUND_NAME = "background"


class Mistake(NamedTuple):
    """A cell off the diagonal."""

    truth: str
    """Class of the objects, or "background"."""
    detected: str
    """Class they are detected as, or "background": not detected."""
    times: int
    share: float
    """Of the objects of that class; of the detections on background. In [0, 1]."""


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """C classes and, as the last row and column, background."""

    class_names: tuple[str, ...]
    score: float
    """Detections below it were left out."""
    iou_threshold: float
    counts: Ints
    """(C + 1, C + 1) rows: class of the object, last row: no object there. Columns: class detected, last
    column: missed. The last cell is 0: nobody counts the empty places that were rightly left empty."""

    @property
    def names(self) -> tuple[str, ...]:
        """(C + 1,) names of rows and columns."""
        return (*self.class_names, BACKGROUND_NAME)

    def shares(self) -> Floats:
        """Give (C + 1, C + 1) counts as shares of their row, in [0, 1]; nan in an empty row."""
        totals = self.counts.sum(axis=1, keepdims=True)
        shares: Floats = np.divide(
            self.counts, totals, out=np.full(self.counts.shape, np.nan), where=totals > 0
        )
        return shares

    def mistakes(self) -> list[Mistake]:
        """List the cells off the diagonal that are not 0, largest first."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        rows, columns = np.nonzero(wrong)
        order = np.argsort(-wrong[rows, columns], kind="stable")
        shares = self.shares()
        return [
            Mistake(self.names[row], self.names[column], int(wrong[row, column]), float(shares[row, column]))
            for row, column in zip(rows[order], columns[order], strict=True)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "names": [*self.names],
            "score": self.score,
            "iou_threshold": self.iou_threshold,
            "counts": self.counts.tolist(),
        }


def confusion_matrix(
    given: EvaluationInput, table: MatchTable, score: float, iou_threshold: float = 0.5
) -> Confusion:
    """Count which class the objects of each class are detected as.

    First, detections find objects of their own class, as for AP: the diagonal holds the right detections.
    What is left is matched without regard to class: best score first, each takes the free object of the
    image that overlaps most, by the IoU threshold or more; of equal ones the first listed. An object that
    nobody takes is missed, a detection that takes none lies on background. What COCO ignores (crowds,
    detections in them) is left out.

    Equal boxes of an image are one object with several labels: a second detection of a car that is a vehicle,
    too, does not take the vehicle for a car.

    Args:
        given: what the table was made from.
        table: with the area range "all".
        score: detections below it are left out.
        iou_threshold: one of the table's.

    Raises:
        ValueError: a table of other rules.
    """
    place = table.rules.range_place("all"), table.rules.threshold_place(iou_threshold)
    used = (table.score >= score) & ~table.ignored(*place)
    found = np.where(used, table.matched(*place), -1)
    free = table.counted[place[0]].copy()
    free[found[found >= 0]] = False
    lost = used & (found < 0)
    others = _match_any_class(given, table.row[lost], free, iou_threshold)
    taken = np.flatnonzero(others >= 0)
    of_class = OfClass.of(given, np.flatnonzero(table.counted[place[0]]))
    others[taken[of_class(others[taken], table.label[lost][taken])]] = -1
    found[np.flatnonzero(lost)] = others
    free[others[others >= 0]] = False
    classes = len(table.class_names)
    # Place -1, of no object, is the background behind the classes.
    truth = np.append(table.object_label, classes)[found[used]]
    counts = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    np.add.at(counts, (truth, table.label[used]), 1)
    counts[:classes, classes] = np.bincount(table.object_label[free], minlength=classes)
    return Confusion(table.class_names, score, iou_threshold, counts)


def _match_any_class(given: EvaluationInput, rows: Ints, free: Bools, iou_threshold: float) -> Ints:
    """Match (K,) rows of the detections with the free objects; give (K,) the object of each, or -1."""
    objects = np.flatnonzero(free)[::-1]  # of equal overlaps matching takes the last: the first as given
    truth, found = given.truth, given.detections
    alike = given._replace(
        class_names=("any",),
        truth=TruthArrays(
            truth.image[objects],
            np.zeros_like(objects),
            truth.boxes[objects],
            truth.areas[objects],
            truth.crowd[objects],
        ),
        detections=DetectionArrays(
            found.image[rows], np.zeros_like(rows), found.boxes[rows], found.scores[rows]
        ),
    )
    everywhere = (("all", 0.0, np.inf),)
    table = match(alike, CocoRules((iou_threshold,), (max(len(rows), 1),), everywhere))
    result = np.full(len(rows), -1, dtype=np.int64)
    result[table.row] = np.append(objects, -1)[table.matched(0, 0)]
    return result
