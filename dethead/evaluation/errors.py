"""What a detector gets wrong, by kind, and how much AP each kind costs (TIDE).

Source: Bolya, Foley, Hays and Hoffman 2020, "TIDE: A General Toolbox for Identifying Object Detection
Errors", arXiv:2008.08115, section 2; what the paper leaves open is as in its package, ``tidecv``.

Three differences from ``tidecv``, all so that AP50 is COCO's:

- Up to 100 detections of an image *and class* are looked at, not of an image.
- Classes without objects are left out of every mean; there they count with AP 0.
- What COCO ignores (a detection that finds nothing but a crowd) is no error, and is fixed by nothing.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from dethead.evaluation.arrays import Bools, EvaluationInput, Floats, Ints
from dethead.evaluation.coco import coco_curves
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.neighbours import LEAST_OVERLAP, Neighbours, neighbours
from dethead.evaluation.order import best_first, run_starts, sort_stable
from dethead.evaluation.reliability import plain
from dethead.evaluation.rules import CocoRules

FOREGROUND: Final = 0.5
"""IoU from which on a detection finds an object."""
BACKGROUND: Final = LEAST_OVERLAP
"""IoU up to which a detection has nothing to do with an object."""

ERROR_TYPES: Final = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""Kinds of errors. ``error_types`` says when an error is which."""
RIGHT: Final = -1
IGNORED: Final = -2
_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND_TYPE, _MISSED = range(len(ERROR_TYPES))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ErrorTypes:
    """The errors of a detector: N detections of the match table, M objects, C classes."""

    class_names: tuple[str, ...]
    AP50: float
    """In [0, 1]; nan: no object to find."""
    kind: Ints
    """(N,) place in ERROR_TYPES, or RIGHT, or IGNORED."""
    missed: Bools
    """(M,) objects that count and that no detection finds, nor would with its class or box put right."""
    counts: Ints
    """(6, C) errors of each type: by the class detected, missed objects by their own."""
    costs: dict[str, float]
    """By type, the AP50 gained if this type of error alone were put right; in [0, 1]."""
    false_positive_cost: float
    """AP50 gained if no detection were wrong and all else stayed."""
    false_negative_cost: float
    """AP50 gained if the objects that are not found did not exist."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        totals = {"false_positive": self.false_positive_cost, "false_negative": self.false_negative_cost}
        counts = dict(zip(ERROR_TYPES, self.counts, strict=True))
        return {
            "AP50": plain(self.AP50),
            "costs": {name: plain(cost) for name, cost in (self.costs | totals).items()},
            "counts": {name: int(count.sum()) for name, count in counts.items()},
            "per_class": [
                {"name": name, **{kind: int(count[label]) for kind, count in counts.items()}}
                for label, name in enumerate(self.class_names)
            ],
        }


def error_types(given: EvaluationInput, table: MatchTable, near: Neighbours | None = None) -> ErrorTypes:
    """Sort the errors at IoU 0.5 into types, and measure what each type costs.

    A detection that is neither right nor ignored is the first of these that applies, by its largest IoU with
    any object of its class (own) and any that is not (other), found or not:

    - localisation: 0.1 <= own <= 0.5. Put right: it finds that object.
    - classification: other >= 0.5. Put right: it has that object's class, and finds it.
    - duplicate: own >= 0.5, so another detection has that object. Put right: it is gone.
    - background: no IoU above 0.1. Put right: it is gone.
    - both: what is left, 0.1 < other < 0.5. Put right: it is gone.

    An object is missed if no detection finds it, nor would if its localisation or classification error were
    put right. Put right: it does not count any more.

    Where several localisation and classification errors mean the same object, the one of the best score is
    put right and the others are gone; where the object is found already, all are gone. An improvement below
    0, which rounding to 101 recall points can make, is shown as 0.

    A class left without objects by putting something right counts 0 if it has detections and is left out
    else.

    Args:
        given: what the table was made from.
        table: with the area range "all" and the IoU threshold 0.5.
        near: the table's neighbours, if they are known already.

    Raises:
        ValueError: a table of other rules, or of another input.
    """
    near = neighbours(given, table) if near is None else near
    place = table.rules.range_place("all"), table.rules.threshold_place(FOREGROUND)
    found, ignored = table.matched(*place), table.ignored(*place)
    kind = _kinds(near, found, ignored)
    counted = table.counted[place[0]]
    missing = counted.copy()
    missing[found[found >= 0]] = False
    target = _targets(kind, near, missing)
    missed = missing.copy()
    missed[target[target >= 0]] = False
    scored = _Scored(table.label, found, table.score, table.row, table.image).at(~ignored)
    errors, target = kind[~ignored], target[~ignored]
    right = _put_right(scored, errors, target, table.object_label)

    def ap(these: _Scored, objects: Bools) -> float:
        return _mean_ap(table, these, objects, counted)

    now = ap(scored, counted)
    fixed = [ap(these, counted) for these in right] + [ap(scored, counted & ~missed)]
    return ErrorTypes(
        class_names=table.class_names,
        AP50=now,
        kind=kind,
        missed=missed,
        counts=_counts(kind, table.label, table.object_label[missed], len(table.class_names)),
        # np.maximum keeps nan
        costs={
            name: float(np.maximum(value - now, 0.0)) for name, value in zip(ERROR_TYPES, fixed, strict=True)
        },
        false_positive_cost=ap(scored.at(scored.found >= 0), counted) - now,
        false_negative_cost=ap(scored, counted & ~missing) - now,
    )


def _kinds(near: Neighbours, found: Ints, ignored: Bools) -> Ints:
    """Give the (N,) type of every detection, or RIGHT, or IGNORED."""
    own, other = near.own_overlap, near.other_overlap
    rules = (
        (ignored, IGNORED),
        (found >= 0, RIGHT),
        ((own >= BACKGROUND) & (own <= FOREGROUND), _LOCALISATION),
        (other >= FOREGROUND, _CLASSIFICATION),
        (own >= FOREGROUND, _DUPLICATE),
        (other <= BACKGROUND, _BACKGROUND_TYPE),
    )
    kinds: Ints = np.select([rule for rule, _ in rules], [kind for _, kind in rules], _BOTH)
    return kinds


def _targets(kind: Ints, near: Neighbours, missing: Bools) -> Ints:
    """Give (N,) the unfound object that a detection means, by a wrong class or a poor box; else -1."""
    target = np.where(kind == _LOCALISATION, near.own_object, -1)
    target = np.where(kind == _CLASSIFICATION, near.other_object, target)
    meant = np.flatnonzero(target >= 0)
    target[meant[~missing[target[meant]]]] = -1
    return target


class _Scored(NamedTuple):
    """K detections that are right or wrong, by label, then score."""

    label: Ints
    found: Ints
    """(K,) the object each finds, no two the same; or -1: wrong."""
    score: Floats
    row: Ints
    image: Ints

    def at(self, rows: Bools | Ints) -> "_Scored":
        """Give these rows."""
        label, found, score, row, image = self
        return _Scored(label[rows], found[rows], score[rows], row[rows], image[rows])


def _put_right(scored: _Scored, kind: Ints, target: Ints, object_label: Ints) -> list[_Scored]:
    """Give the detections after each type of error but missed was put right, in the order of ERROR_TYPES."""
    chosen = np.zeros(len(target), dtype=np.bool_)
    meant = np.flatnonzero(target >= 0)
    # The last key counts most: of all that mean an object the best score, of equal ones the first given.
    meant = meant[np.lexsort((scored.row[meant], -scored.score[meant], target[meant]))]
    chosen[meant[run_starts(target[meant])]] = True
    right = []
    for error in (_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND_TYPE):
        mended = chosen & (kind == error)
        these = scored._replace(found=np.where(mended, target, scored.found))
        if error == _CLASSIFICATION:
            label = scored.label.copy()
            label[mended] = object_label[target[mended]]
            these = these._replace(label=label)
        these = these.at((kind != error) | mended)
        right.append(_in_order(these) if error == _CLASSIFICATION else these)
    return right


def _in_order(scored: _Scored) -> _Scored:
    """Sort as a match table is: by label, best score first, ties by image and then as given."""
    order = np.lexsort((scored.row, scored.image))
    order = order[best_first(scored.score[order])]
    order = sort_stable(scored.label, order)
    return scored.at(order)


def _mean_ap(table: MatchTable, scored: _Scored, counted: Bools, measured: Bools) -> float:
    """AP50 with the ``counted`` (M,) objects to find, over the classes of the ``measured`` (M,) ones."""
    hits = np.flatnonzero(scored.found >= 0)
    changed = table._replace(
        rules=CocoRules((FOREGROUND,), table.rules.max_detections[-1:], table.rules.area_ranges[:1]),
        row=scored.row,
        image=scored.image,
        label=scored.label,
        score=scored.score,
        rank=np.zeros_like(scored.row),
        in_range=np.ones((1, len(scored.row)), dtype=np.bool_),
        counted=counted[None],
        hit_detection=hits,
        hit_object=scored.found[hits],
        hit_bits=np.ones((1, len(hits)), dtype=np.uint64),
    )
    ap = coco_curves(changed).precision[0, :, :, 0].mean(axis=0)
    classes = len(table.class_names)
    detected = np.bincount(scored.label, minlength=classes) > 0
    ap[np.isnan(ap) & detected] = 0.0
    ap = ap[np.bincount(table.object_label[measured], minlength=classes) > 0]
    defined = ap[~np.isnan(ap)]
    return float(defined.mean()) if len(defined) else float("nan")


def _counts(kind: Ints, label: Ints, missed_label: Ints, classes: int) -> Ints:
    counts = np.zeros((len(ERROR_TYPES), classes), dtype=np.int64)
    wrong = kind >= 0
    np.add.at(counts, (kind[wrong], label[wrong]), 1)
    counts[_MISSED] = np.bincount(missed_label, minlength=classes)
    return counts
