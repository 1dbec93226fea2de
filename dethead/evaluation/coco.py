"""The 12 COCO numbers from a match table."""

from typing import NamedTuple

import numpy as np

from dethead.evaluation.arrays import Bools, EvaluationInput, Floats, Ints
from dethead.evaluation.curves import Curves, summarise
from dethead.evaluation.matches import MatchTable, match
from dethead.evaluation.metrics import CocoMetrics
from dethead.evaluation.rules import COCO_RULES, RECALL_POINTS, CocoRules


def coco_metrics(given: EvaluationInput, rules: CocoRules = COCO_RULES) -> CocoMetrics:
    """Compute what pycocotools computes, to the last digit but one.

    Args:
        given: all images, those without truth or detections too.
        rules: COCO's unless said otherwise.
    """
    table = match(given, rules)
    objects = np.bincount(given.truth.label[~given.truth.crowd], minlength=len(given.class_names))
    return summarise(coco_curves(table), rules, given.class_names, objects.tolist())


def coco_curves(table: MatchTable) -> Curves:
    """Accumulate precision and recall over the images.

    Only detections that find an object that counts raise the recall, so precision is looked at there alone;
    wrong detections enter as the count of those before.
    """
    rules, classes = table.rules, len(table.class_names)
    thresholds, areas = len(rules.iou_thresholds), len(rules.area_ranges)
    precision = np.zeros((thresholds, len(RECALL_POINTS), classes, areas))
    recall = np.zeros((thresholds, classes, areas, len(rules.max_detections)))
    for r in range(areas):
        objects = np.bincount(table.object_label[table.counted[r]], minlength=classes)
        needed = hits_needed(objects)
        hits = _hits_in(table, r)
        for t in range(thresholds):
            right = _right_ones(hits, table.hits(r, t))
            precision[t, :, :, r] = _sample(right, needed).T
            for place, limit in enumerate(rules.max_detections):
                count = np.bincount(right.label[right.rank < limit], minlength=classes)
                recall[t, :, r, place] = count / np.maximum(objects, 1)
        precision[:, :, objects == 0, r] = np.nan
        recall[:, objects == 0, r] = np.nan
    return Curves(precision, recall)


class _Hits(NamedTuple):
    """All hits of the table, and what they are in one area range."""

    label: Ints
    """(H,) ascending."""
    rank: Ints
    """(H,)"""
    right: Bools
    """(H,) the object counts."""
    in_range: Bools
    """(H,) the detection would be wrong if it had found nothing."""
    until: Ints
    """(H,) detections in the range up to and with this one, those of the classes before too."""
    until_class: Ints
    """(C,) detections in the range of the classes before."""


def _hits_in(table: MatchTable, area_range: int) -> _Hits:
    place = table.hit_detection
    until = np.cumsum(table.in_range[area_range])
    class_starts = np.searchsorted(table.label, np.arange(len(table.class_names)))
    return _Hits(
        label=table.label[place],
        rank=table.rank[place],
        right=table.counted[area_range, table.hit_object],
        in_range=table.in_range[area_range, place],
        until=until[place],
        until_class=np.append(0, until)[class_starts],
    )


class _RightOnes(NamedTuple):
    """The detections that are right at one threshold in one area range, in the order of the table."""

    label: Ints
    """(K,) ascending."""
    rank: Ints
    """(K,)"""
    precision: Floats
    """(K,) right / (right + wrong) up to here, within the class."""


def _right_ones(hits: _Hits, valid: Ints) -> _RightOnes:
    """Find the right detections and their precision, of the hits that hold at one threshold."""
    classes = np.arange(len(hits.until_class))
    found = np.append(0, np.cumsum(hits.in_range[valid]))  # in range and not wrong, before each hit
    wrong_before = hits.until_class - found[np.searchsorted(hits.label[valid], classes)]
    right = np.flatnonzero(hits.right[valid])
    wrong = hits.until[valid[right]] - found[right + 1]
    label = hits.label[valid[right]]
    nth = np.arange(1, len(right) + 1)
    nth -= np.searchsorted(label, classes)[label]
    wrong -= wrong_before[label]
    # The smallest number there is beside 1, as in pycocotools: it shows in the sixteenth digit.
    return _RightOnes(label, hits.rank[valid[right]], nth / (wrong + nth + np.spacing(1)))


def hits_needed(objects: Ints) -> Ints:
    """Give (C, 101): how many right detections of (C,) objects reach each recall, but at least one.

    Recall is compared as a rounded quotient, as pycocotools does: 7 of 10 reaches 0.7 only if 7 / 10 does.
    """
    total = np.maximum(objects, 1)[:, None]
    needed = np.ceil(RECALL_POINTS * total)
    needed -= (needed - 1) / total >= RECALL_POINTS
    needed += needed / total < RECALL_POINTS
    return np.maximum(needed, 1).astype(np.int64)


def _sample(right: _RightOnes, needed: Ints) -> Floats:
    """Give (C, 101): the best precision at each recall or more; 0 beyond the recall that is reached."""
    classes = len(needed)
    starts = np.searchsorted(right.label, np.arange(classes + 1))
    ends = starts[1:, None]
    place = starts[:-1, None] + needed - 1
    reached = place < ends
    # The maximum from one recall point to the next, then the running maximum from the right.
    pieces = np.concatenate([np.minimum(place, ends), ends], axis=1).ravel()
    best = np.maximum.reduceat(np.append(right.precision, 0.0), pieces).reshape(classes, -1)[:, :-1]
    best = np.where(reached, best, 0.0)
    sampled: Floats = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
    return sampled
