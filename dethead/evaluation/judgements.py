"""What each branch of a head claimed of the detections, and whether it was right.

A head makes three claims about a detection i, a box with label ``c_i``. With ``u(i)`` its largest IoU with an
object of its image, of any class, crowds apart:

    class probability   p_i = P(class is c_i | object)   right if an object with IoU = u(i) is of class c_i
    confidence          o_i = P(there is an object)      right if u(i) >= 0.5
    fused score         s_i                              right if COCO's matching at IoU 0.5 gives i an object

Each is judged where its question makes sense. The class probability: of detections that lie on an object,
``u(i) >= 0.5``. The confidence: of all but those on no object and half or more in a crowd region, for nobody
knows what is in there. The score: of all that COCO's matching does not ignore.

A confidence that was taught the IoU of its box estimates that, and not the probability of ``u(i) >= 0.5``: it
reads as too low for good boxes, and ranks none the worse.

Detections are those of the match table: at most 100 of an image and class, and none below the score threshold
of whoever wrote them. A high threshold hides the low end of every curve; 0.001 shows nearly all of it.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from dethead.evaluation.arrays import Bools, EvaluationInput, Floats, Ints
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.neighbours import Neighbours, neighbours
from dethead.evaluation.order import sorted_rows
from dethead.evaluation.overlaps import overlapping_pairs

ON_OBJECT: Final = 0.5
"""IoU from which a box lies on an object; also the share of a box inside a crowd that excuses it."""


class Judged(NamedTuple):
    """K claims of one branch."""

    image: Ints
    """(K,) row in ``EvaluationInput.image_ids``."""
    label: Ints
    """(K,) in [0, C), of the detection."""
    predicted: Floats
    """(K,) in [0, 1]."""
    right: Bools
    """(K,)"""
    first: Bools
    """(K,) False for a claim that repeats another one under another label: it counts within its class, and
    not over all classes."""

    def select(self, rows: Bools) -> "Judged":
        """Keep the (K,) ``rows``."""
        columns: list[Any] = [column[rows] for column in self]
        return Judged(*columns)


class Judgements(NamedTuple):
    """The claims of all branches; None where the detections do not carry the number."""

    class_probability: Judged | None
    confidence: Judged | None
    score: Judged


def judge(given: EvaluationInput, table: MatchTable) -> Judgements:
    """Judge every claim of every detection of the table.

    Args:
        given: what the table was made from.
        table: one with IoU threshold 0.5 and area range "all".

    Raises:
        ValueError: a score, class probability or confidence outside [0, 1], named by image id and value, or a
            table by rules without IoU 0.5 or area range "all".
    """
    near = neighbours(given, table)
    return Judgements(
        class_probability=_judge_class(given, table, near),
        confidence=_judge_confidence(given, table, near),
        score=_judge_score(given, table),
    )


def _judge_class(given: EvaluationInput, table: MatchTable, near: Neighbours) -> Judged | None:
    predicted = _column(given, table, "class_probabilities")
    if predicted is None:
        return None
    # Of a box with several labels, each is an object, all with the same overlap: every one of them is right.
    right = near.own_overlap >= near.other_overlap
    everything = Judged(table.image, table.label, predicted, right, np.ones(len(right), dtype=np.bool_))
    return everything.select(_on_object(near) & ~np.isnan(predicted))


def _judge_confidence(given: EvaluationInput, table: MatchTable, near: Neighbours) -> Judged | None:
    predicted = _column(given, table, "confidence")
    if predicted is None:
        return None
    right = _on_object(near)
    asked = (right | ~_in_crowd(given, table)) & ~np.isnan(predicted)
    first = _first_of_equals(given, table, predicted)
    return Judged(table.image, table.label, predicted, right, first).select(asked)


def _judge_score(given: EvaluationInput, table: MatchTable) -> Judged:
    rules = table.rules
    setting = rules.range_place("all"), rules.threshold_place(ON_OBJECT)
    _check(given, table, table.score, "score")
    right, asked = table.matched(*setting) >= 0, ~table.ignored(*setting)
    once = np.ones(len(right), dtype=np.bool_)
    return Judged(table.image, table.label, table.score, right, once).select(asked)


def _column(given: EvaluationInput, table: MatchTable, name: str) -> Floats | None:
    """Give a number of the (N,) detections of the table, None if no detection has it."""
    values: Floats | None = getattr(given.detections, name)
    if values is None or (len(values) and np.isnan(values).all()):
        return None
    _check(given, table, values[table.row], name)
    return values[table.row]


def _check(given: EvaluationInput, table: MatchTable, values: Floats, name: str) -> None:
    wrong = (values < 0) | (values > 1)
    if wrong.any():
        place = int(wrong.argmax())
        image_id = given.image_ids[table.image[place]]
        raise ValueError(
            f"image {image_id}: {name} {values[place]} is not in [0, 1]; only probabilities can be calibrated"
        )


def _on_object(near: Neighbours) -> Bools:
    on_object: Bools = np.maximum(near.own_overlap, near.other_overlap) >= ON_OBJECT
    return on_object


def _in_crowd(given: EvaluationInput, table: MatchTable) -> Bools:
    """Give (N,) True for boxes with half their area or more in one crowd region, of any class."""
    crowds = np.flatnonzero(given.truth.crowd)
    crowds = crowds[np.argsort(given.truth.image[crowds], kind="stable")]
    starts = np.searchsorted(given.truth.image[crowds], np.arange(len(given.image_ids) + 1))
    first = starts[table.image]
    counts = starts[table.image + 1] - first
    boxes, regions = given.detections.boxes[table.row], given.truth.boxes[crowds]
    pairs = overlapping_pairs(boxes, regions, given.truth.crowd[crowds], first, counts, ON_OBJECT)
    inside = np.zeros(len(table.row), dtype=np.bool_)
    inside[pairs.detection] = True
    return inside


def _first_of_equals(given: EvaluationInput, table: MatchTable, confidence: Floats) -> Bools:
    """Give (N,) True for one detection of each image, box and confidence.

    An anchor may pass with several labels, but says once whether there is an object.
    """
    order, new = sorted_rows([*given.detections.boxes[table.row].T, confidence, table.image])
    first = np.empty(len(order), dtype=np.bool_)
    first[order] = new
    return first
