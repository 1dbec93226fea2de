"""The 12 numbers for many weightings of the images at once: what bootstrap and jackknife are made of.

An image of weight w counts as w copies of itself; weight 0 leaves it out. Detections keep the order of the
full set, and the copies of one stand together. So the numbers are those of a set in which images are really
repeated, each copy next to its original, and scores tied between images are in order. Only ties within *one*
image and class would come out differently there: as a, b, a, b in place of a, a, b, b.

How it is fast: a column is a weighting, a row a right detection, and only these rows are looked at; what lies
between two of them enters as one sum. Right detections with nothing wrong between them are one row. Sums over
lists of images ("bags") are taken for all weightings together, and rows of all thresholds are stepped through
together, in pieces that fit the processor's cache.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from dethead.evaluation.arrays import Bools, Floats, Ints
from dethead.evaluation.curves import NUMBERS, Place
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.rules import RECALL_POINTS, CocoRules

_PIECE = 40_960
"""Numbers at a time: 16 rows x 10 thresholds x 256 weightings of float64 are 320 KiB."""
_WIDTH = 256
"""Weightings at a time."""
_MEMORY = 64 * 2**20
"""Bytes that the sums of one class may take."""


class WeightedNumbers(NamedTuple):
    """The numbers of S weightings of the images; C classes."""

    numbers: Floats
    """(S, 12) in [0, 1], in the order of ``NUMBER_NAMES``: means over the classes that have an object in that
    weighting; nan: none has."""
    class_ap: Floats
    """(S, C) AP of each class in [0, 1]; nan: no object in that weighting."""


class Weighting:
    """A match table, prepared for weights.

    Args:
        table: of I images.
    """

    def __init__(self, table: MatchTable) -> None:
        self.rules = table.rules
        self.images = len(table.image_ids)
        self._classes = [_prepare(table, label) for label in range(len(table.class_names))]

    def blocks(self, count: int) -> Iterator[slice]:
        """Split weightings into blocks that bound memory; ``numbers`` takes one after the other."""
        rows = max((len(part.hit_image) for parts in self._classes for part in parts), default=0)
        width = int(np.clip(_MEMORY // (16 * max(rows, self.images, 1)), 16, _WIDTH))
        for start in range(0, count, width):
            yield slice(start, min(start + width, count))

    def numbers(self, weights: NDArray[np.integer]) -> WeightedNumbers:
        """Compute all numbers.

        Args:
            weights: (I, S) how often each image counts, >= 0. One block: memory grows with S.
        """
        columns = torch.from_numpy(weights.astype(np.float32))
        per_class = np.stack([_class_numbers(parts, columns, self.rules) for parts in self._classes])
        defined = ~np.isnan(per_class)
        counts = defined.sum(axis=0)
        sums = np.where(defined, per_class, 0.0).sum(axis=0)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return WeightedNumbers(means.T, per_class[:, 0].T)


class _Bags(NamedTuple):
    """Lists of rows of an array, to be summed list by list."""

    members: Tensor
    """(E,) rows, list by list."""
    starts: Tensor
    """(lists + 1,) where each list begins."""
    signs: Tensor | None = None
    """(E,) factor of each member, float32."""

    def sums(self, values: Tensor, lists: slice | None = None) -> NDArray[np.float32]:
        """Sum the members of each list, of all of them or some: (lists, S) from (rows, S).

        Exact as long as no sum reaches 2^24: the members are whole numbers.
        """
        starts = self.starts if lists is None else self.starts[lists.start : lists.stop + 1]
        begin, end = int(starts[0]), int(starts[-1])
        signs = None if self.signs is None else self.signs[begin:end]
        summed: NDArray[np.float32] = embedding_bag(
            self.members[begin:end],
            values,
            starts - begin,
            mode="sum",
            per_sample_weights=signs,
            include_last_offset=True,
        ).numpy()
        return summed


class _Part(NamedTuple):
    """One class in one area range, prepared: H hits, T thresholds, L limits, K rows of right detections.

    Row k of threshold t ends with its k-th run of right detections; a threshold with fewer has empty rows.
    """

    objects: _Bags
    """One list of images: of each object that counts."""
    reached: _Bags
    """L * T lists of images: of the right detections within each limit."""
    rows: int
    """K"""
    right: _Bags
    """K * T lists of images: of the right detections of a row."""
    hit_image: Tensor
    """(H,) image of each hit."""
    between: _Bags
    """H lists of images: of the detections in the range from the hit before to this one, itself too."""
    looked_at: _Bags
    """K * T lists of rows of (sums between, weights of the hits): the detections that are right or wrong
    since the row before."""
    looked_at_all: _Bags
    """T lists: the same of all rows of a threshold."""


def _prepare(table: MatchTable, label: int) -> list[_Part]:
    return [_prepare_part(table, label, place) for place in range(len(table.rules.area_ranges))]


def _prepare_part(table: MatchTable, label: int, area_range: int) -> _Part:
    first, last = np.searchsorted(table.label, [label, label + 1])
    hits = slice(*np.searchsorted(table.hit_detection, [first, last]))
    place, image = table.hit_detection[hits], table.image[table.hit_detection[hits]]
    holds = _holding(table, area_range, hits)
    right = holds & table.counted[area_range, table.hit_object[hits]]
    in_range = first + np.flatnonzero(table.in_range[area_range, first:last])
    ends = np.searchsorted(in_range, place, side="right")
    counted = table.counted[area_range] & (table.object_label == label)
    # Who finds an ignored object is not wrong, and who finds one that counts is looked at in any range.
    changes = right.astype(np.int64) - (holds & table.in_range[area_range, place])
    threshold, hit = np.nonzero(right)
    row, row_of = _rows(right, np.diff(ends, prepend=0), changes)
    rows, thresholds = int(row.max(initial=-1)) + 1, len(right)
    reached = [table.rank[place][hit] < limit for limit in table.rules.max_detections]
    return _Part(
        objects=_bags(np.zeros(int(counted.sum()), np.int64), table.object_image[counted], 1),
        reached=_bags(
            np.concatenate([n * thresholds + threshold[within] for n, within in enumerate(reached)]),
            np.concatenate([image[hit[within]] for within in reached]),
            len(reached) * thresholds,
        ),
        rows=rows,
        right=_bags(row * thresholds + threshold, image[hit], rows * thresholds),
        hit_image=torch.from_numpy(image),
        between=_bags(
            np.repeat(np.arange(len(place)), np.diff(ends, prepend=0)),
            table.image[in_range[: ends[-1] if len(ends) else 0]],
            len(place),
        ),
        looked_at=_looked_at(row_of, changes, rows),
        looked_at_all=_looked_at(np.minimum(row_of, 0), changes, 1),
    )


def _holding(table: MatchTable, area_range: int, hits: slice) -> Bools:
    """Give (T, H'): whether each hit holds at each threshold."""
    thresholds = len(table.rules.iou_thresholds)
    word, bit = np.divmod(area_range * thresholds + np.arange(thresholds), 64)
    held: Bools = table.hit_bits[word, hits] >> bit.astype(np.uint64)[:, None] & np.uint64(1) != 0
    return held


def _rows(right: Bools, between: Ints, changes: Ints) -> tuple[Ints, Ints]:
    """Number the rows of every threshold.

    Args:
        right: (T, H)
        between: (H,) detections in the range since the hit before.
        changes: (T, H) what to add to the detections looked at.

    Returns:
        The row of each right hit, in the order of ``np.nonzero(right)``; and (T, H) the row that each hit is
        looked at in, -1 behind the last.
    """
    looked = np.cumsum(between + changes, axis=1)
    wrong = looked - np.cumsum(right, axis=1)
    threshold, hit = np.nonzero(right)
    wrong_before = wrong[threshold, hit]
    same = np.zeros(len(hit), dtype=np.bool_)
    same[1:] = (threshold[1:] == threshold[:-1]) & (wrong_before[1:] == wrong_before[:-1])
    number = np.cumsum(~same) - 1
    starts = np.searchsorted(threshold, np.arange(len(right)))
    row = number - np.append(number, 0)[starts][threshold]
    row_of = np.full(right.shape, -1, dtype=np.int64)
    nth: Ints = np.cumsum(right, axis=1) - right  # right ones before each hit: its place among them
    known = nth < right.sum(axis=1, keepdims=True)
    row_of[known] = row[(starts[:, None] + nth)[known]]
    return row, row_of


def _looked_at(row_of: Ints, changes: Ints, rows: int) -> _Bags:
    thresholds, hits = row_of.shape
    list_of = row_of * thresholds + np.arange(thresholds)[:, None]
    threshold, hit = np.nonzero(row_of >= 0)
    changed, changed_hit = np.nonzero((row_of >= 0) & (changes != 0))
    return _bags(
        np.concatenate([list_of[threshold, hit], list_of[changed, changed_hit]]),
        np.concatenate([hit, hits + changed_hit]),
        rows * thresholds,
        np.concatenate([np.ones(len(hit)), changes[changed, changed_hit]]),
    )


def _bags(list_of: Ints, members: Ints, lists: int, signs: Floats | None = None) -> _Bags:
    order = np.argsort(list_of, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(list_of, minlength=lists)))
    return _Bags(
        torch.from_numpy(members[order]),
        torch.from_numpy(starts),
        None if signs is None else torch.from_numpy(signs[order].astype(np.float32)),
    )


def _class_numbers(parts: list[_Part], weights: Tensor, rules: CocoRules) -> Floats:
    """Give (12, S): the numbers of one class."""
    thresholds, limits = len(rules.iou_thresholds), len(rules.max_detections)
    curves = [_curves(part, weights, thresholds, limits) for part in parts]
    precision, recall = (np.stack(values) for values in zip(*curves, strict=True))
    undefined = np.full(weights.shape[1], np.nan)
    places = [number.place(rules) for number in NUMBERS]
    return np.stack([undefined if place is None else _mean(precision, recall, place) for place in places])


def _mean(precision: Floats, recall: Floats, place: Place) -> Floats:
    values = precision[place.area] if place.limit is None else recall[place.area, place.limit]
    mean: Floats = values[place.thresholds].mean(axis=0)
    return mean


def _curves(part: _Part, weights: Tensor, thresholds: int, limits: int) -> tuple[Floats, Floats]:
    """Give (T, S) the precision averaged over recall, and (L, T, S) the recalls; nan without an object."""
    objects = part.objects.sums(weights)[0].astype(np.float64)
    objects[objects == 0] = np.nan
    reached = part.reached.sums(weights).reshape(limits, thresholds, -1).astype(np.float64)
    if not part.rows:
        return reached[-1] / objects, reached / objects
    return _average_precision(part, weights, reached[-1], objects), reached / objects


def _average_precision(part: _Part, weights: Tensor, hits: Floats, objects: Floats) -> Floats:
    """Average the precision over the recall points, from the last row to the first.

    With ``best(k)`` the best precision from row k on and ``points(k)`` how many recall points row k reaches,
    the sum over the points is that of ``points(k) * (best(k) - best(k + 1))``.

    Args:
        part: of K > 0 rows.
        weights: (I, S)
        hits: (T, S) right detections in all.
        objects: (S,) nan where there is none.

    Returns:
        (T, S) in [0, 1].
    """
    thresholds, width = hits.shape
    seen = torch.cat([torch.from_numpy(part.between.sums(weights)), weights[part.hit_image]])
    looked = part.looked_at_all.sums(seen).astype(np.float64)
    hits, total, best_behind = hits.copy(), np.zeros_like(hits), np.zeros_like(hits)
    size = max(1, _PIECE // hits.size)
    for end in range(part.rows, 0, -size):
        lists = slice(max(0, end - size) * thresholds, end * thresholds)
        right, looked_at = (
            bags.sums(values, lists).reshape(-1, thresholds, width).astype(np.float64)
            for bags, values in ((part.right, weights), (part.looked_at, seen))
        )
        hits -= right.sum(axis=0)
        looked -= looked_at.sum(axis=0)
        _accumulate(right, hits)
        # The smallest number there is beside 1, as in pycocotools: it shows in the sixteenth digit.
        _accumulate(looked_at, looked + np.spacing(1))
        best = _best_from(np.divide(right, looked_at, out=looked_at), best_behind)
        first = best[0].copy()
        total += np.einsum("kts,kts->ts", _points(right, objects), _steps(best, best_behind))
        best_behind = first
    # Recall 0 is reached by the first right detection: there, the best of all counts.
    return (total + best_behind) / len(RECALL_POINTS)


def _accumulate(increments: Floats, before: Floats) -> None:
    """Turn (K, T, S) increments into sums up to each row, in place."""
    increments[0] += before
    for row, last in zip(increments[1:], increments, strict=False):
        np.add(row, last, out=row)


def _best_from(precision: Floats, best_behind: Floats) -> Floats:
    """Turn (K, T, S) precision into the best from each row on, in place."""
    np.maximum(precision[-1], best_behind, out=precision[-1])
    for k in range(len(precision) - 2, -1, -1):
        np.maximum(precision[k], precision[k + 1], out=precision[k])
    return precision


def _steps(best: Floats, best_behind: Floats) -> Floats:
    """Turn (K, T, S) best precision into what it falls by behind each row, in place."""
    np.subtract(best[:-1], best[1:], out=best[:-1])
    best[-1] -= best_behind
    return best


_AFTER_ZERO = 100


def _points(right: Floats, objects: Floats) -> Floats:
    """Count the recall points after 0 that (..., S) right detections of (S,) objects reach.

    Recall is compared as a rounded quotient, as pycocotools does: 7 of 10 reaches 0.7 only if 7 / 10 does.
    """
    scale = _AFTER_ZERO / objects * (1 + 1e-12)  # so that an exact quotient is not rounded down
    points = right * scale
    np.floor(points, out=points)
    # 7 / 10 is less than the 0.7 among the points. The points for which this happens need a multiple of 10.
    exact = np.flatnonzero(objects % 10 == 0)
    if len(exact):
        count = np.take(right, exact, axis=-1)
        reached = np.floor(count * scale[exact])
        points[..., exact] = reached - (count / objects[exact] < RECALL_POINTS[reached.astype(np.int64)])
    return points
