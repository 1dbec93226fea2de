"""Which detection finds which object: COCO's greedy matching, once, for every threshold and area range.

Every number, interval, error type and calibration curve reads the table made here; none looks at a box again.

How it is fast: only pairs that overlap enough for the lowest threshold are kept. Thresholds and area ranges
(10 x 4 in COCO) are the bits of one 64-bit word, so one pass over the pairs matches them all. The pairs of an
image and class must be taken one after the other, but the n-th pair of every image and class at once.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dethead.evaluation.arrays import Bools, EvaluationInput, Floats, Ints
from dethead.evaluation.order import best_first, ranges, run_starts, sort_stable
from dethead.evaluation.overlaps import Pairs, overlapping_pairs
from dethead.evaluation.rules import COCO_RULES, CocoRules

Words = NDArray[np.uint64]

_WORD = 64
_ALL = np.uint64(2**_WORD - 1)


class MatchTable(NamedTuple):
    """N detections that are looked at, M objects, R area ranges, T IoU thresholds, H hits.

    Detections are in the order in which precision is accumulated: by label, best score first, ties by image
    and then as given. Those beyond the largest limit per image and class are not in the table.
    """

    rules: CocoRules
    image_ids: Ints
    """(I,) ascending; those without objects or detections too."""
    class_names: tuple[str, ...]
    row: Ints
    """(N,) row of the detection among those given."""
    image: Ints
    """(N,) row in ``image_ids``."""
    label: Ints
    """(N,) in [0, C), ascending."""
    score: Floats
    """(N,)"""
    rank: Ints
    """(N,) place among the detections of its image and class; AR1 looks at rank < 1."""
    in_range: Bools
    """(R, N) the detection's area is in the range; one that is not and finds nothing is ignored."""
    object_image: Ints
    """(M,) row in ``image_ids``; objects are in the order given."""
    object_label: Ints
    """(M,) in [0, C)."""
    counted: Bools
    """(R, M) the object is to be found: no crowd, its area in the range. What finds another is ignored."""
    hit_detection: Ints
    """(H,) place in this table, ascending."""
    hit_object: Ints
    """(H,)"""
    hit_bits: Words
    """(ceil(R * T / 64), H) bit ``r * T + t``: this detection finds this object at threshold t in range r. In
    each of these settings a detection finds one object at most; an object, crowds apart, is found once."""

    def hits(self, area_range: int, threshold: int) -> Ints:
        """Give the (H',) hits that hold for one area range and one threshold, both by place in the rules."""
        word, bit = divmod(area_range * len(self.rules.iou_thresholds) + threshold, _WORD)
        found: Ints = np.flatnonzero(self.hit_bits[word] & np.uint64(1 << bit))
        return found

    def matched(self, area_range: int, threshold: int) -> Ints:
        """Give (N,) the object that each detection finds, or -1."""
        hits = self.hits(area_range, threshold)
        found = np.full(len(self.row), -1, dtype=np.int64)
        found[self.hit_detection[hits]] = self.hit_object[hits]
        return found

    def ignored(self, area_range: int, threshold: int) -> Bools:
        """Give (N,) True for detections that are neither right nor wrong."""
        found = self.matched(area_range, threshold)
        counts = self.counted[area_range]
        ignored: Bools = ~self.in_range[area_range] & (found < 0)
        ignored[found >= 0] = ~counts[found[found >= 0]]
        return ignored


def match(given: EvaluationInput, rules: CocoRules = COCO_RULES) -> MatchTable:
    """Match detections to objects.

    Within an image and class, detections choose in the order of their scores. Each takes, among the objects
    still free that overlap by the threshold or more, one that counts before one that is ignored, then the
    one that overlaps most, then the one listed last. Crowds are never used up.

    Source: pycocotools ``COCOeval.evaluateImg``, whose every decision this repeats.
    """
    truth, found = given.truth, given.detections
    ranking = _rank(given, rules.max_detections[-1])
    row = ranking.row
    pairs, group = _candidates(given, ranking, _least_overlaps(rules)[0])
    attempts = _attempts(pairs, group)
    counted = _in_ranges(truth.areas, rules) & ~truth.crowd
    words = _words(pairs, rules)
    hit_bits = np.stack([_choose(pairs, attempts, word, counted, truth.crowd) for word in words])
    hits = sort_stable(pairs.detection, np.flatnonzero(hit_bits.any(axis=0)))
    return MatchTable(
        rules=rules,
        image_ids=given.image_ids,
        class_names=given.class_names,
        row=row,
        image=found.image[row],
        label=found.label[row],
        score=found.scores[row],
        rank=ranking.rank,
        in_range=_in_ranges((found.boxes[:, 2] * found.boxes[:, 3])[row], rules),
        object_image=truth.image,
        object_label=truth.label,
        counted=counted,
        hit_detection=pairs.detection[hits],
        hit_object=pairs.object[hits],
        hit_bits=hit_bits[:, hits],
    )


class _Ranking(NamedTuple):
    """The detections that are looked at, and how they stand in their image and class, here called group."""

    row: Ints
    """(N,) row among those given, in the order of the table."""
    rank: Ints
    """(N,) in the order of the table."""
    by_group: Ints
    """(N,) places in the table, by image, then label, then rank."""
    group: Ints
    """(N,) number of the group at each of those places, ascending."""


def _rank(given: EvaluationInput, limit: int) -> _Ranking:
    """Order detections, and leave out those beyond the limit."""
    found = given.detections
    rows = np.arange(len(found.image))
    if (found.image[1:] < found.image[:-1]).any():
        rows = sort_stable(found.image, rows)
    row = sort_stable(found.label, rows[best_first(found.scores[rows])])
    by_group = sort_stable(found.image[row], np.arange(len(row)))
    group = (found.image * len(given.class_names) + found.label)[row[by_group]]
    starts = np.flatnonzero(run_starts(group))
    rank = np.empty(len(row), dtype=np.int64)
    rank[by_group] = np.arange(len(row)) - np.repeat(starts, np.diff(starts, append=len(row)))
    kept = rank < limit
    if kept.all():
        return _Ranking(row, rank, by_group, group)
    place = np.cumsum(kept) - 1
    kept_by_group = kept[by_group]
    return _Ranking(row[kept], rank[kept], place[by_group[kept_by_group]], group[kept_by_group])


def _candidates(given: EvaluationInput, ranking: _Ranking, least: float) -> tuple[Pairs, Ints]:
    """Find the pairs that can match.

    Returns:
        Pairs of places in the table with objects, group by group, detections by rank; and the (P,) group of
        each, ascending.
    """
    truth = given.truth
    objects = np.lexsort((truth.label, truth.image))
    object_group = (truth.image * len(given.class_names) + truth.label)[objects]
    object_starts = np.flatnonzero(run_starts(object_group))
    counts = np.diff(object_starts, append=len(objects))
    starts = np.flatnonzero(run_starts(ranking.group))
    sizes = np.diff(starts, append=len(ranking.group))
    # A group that no number reaches stands at the end, so that every search finds something.
    known = np.append(object_group[object_starts], np.iinfo(np.int64).max)
    place = np.searchsorted(known, ranking.group[starts])
    both = np.flatnonzero(known[place] == ranking.group[starts])
    detections = ranking.by_group[ranges(starts[both], sizes[both])]
    place = np.repeat(place[both], sizes[both])
    pairs = overlapping_pairs(
        given.detections.boxes[ranking.row[detections]],
        truth.boxes[objects],
        truth.crowd[objects],
        object_starts[place],
        counts[place],
        least,
    )
    group = known[place[pairs.detection]]
    return Pairs(detections[pairs.detection], objects[pairs.object], pairs.overlap), group


class _Attempts(NamedTuple):
    """Q attempts to match a pair, in steps: the attempts of one step have nothing to do with each other."""

    pair: Ints
    """(Q,) row of the pair."""
    kind: NDArray[np.uint8]
    """(Q,) _ANY, _COUNTED or _IGNORED: for which settings it is made, by what the object is there."""
    steps: Ints
    """(S + 1,) where each step begins."""


_ANY, _COUNTED, _IGNORED = range(3)


def _attempts(pairs: Pairs, group: Ints) -> _Attempts:
    """Order the attempts: a detection tries all objects that count, best first, then all that are ignored.

    One with a single candidate needs one attempt only. That is most of them.
    """
    new = run_starts(pairs.detection)
    starts = np.flatnonzero(new)
    run = np.cumsum(new) - 1
    size = np.diff(starts, append=len(new))[run]  # candidates of this pair's detection
    several = np.flatnonzero(size > 1)
    order = np.arange(len(new))
    # The last key counts most: within a detection the largest overlap first, of equal ones the last object.
    best = np.lexsort((-pairs.object[several], -pairs.overlap[several], run[several]))
    order[several] = several[best]
    tries = np.where(size > 1, 2, 1)
    first = (np.cumsum(tries) - tries)[starts]  # the first attempt of each detection
    place = first[run] + np.arange(len(new)) - starts[run]
    pair = np.empty(int(tries.sum()), dtype=np.int64)
    kind = np.full(len(pair), _COUNTED, dtype=np.uint8)
    pair[place] = order
    kind[place[size == 1]] = _ANY
    second = place[several] + size[several]
    pair[second], kind[second] = order[several], _IGNORED
    turn = _turns(group[pair])
    by_turn = sort_stable(turn, np.arange(len(pair)))
    steps = np.concatenate([[0], np.cumsum(np.bincount(turn))])
    return _Attempts(pair[by_turn], kind[by_turn], steps)


def _turns(group: Ints) -> Ints:
    """Count 0, 1, 2, ... within every run of equal numbers."""
    new = run_starts(group)
    starts = np.flatnonzero(new)
    turns: Ints = np.arange(len(group)) - starts[np.cumsum(new) - 1] if len(group) else group
    return turns


class _Word(NamedTuple):
    """Up to 64 settings (area range, threshold), a bit each."""

    ranges: Words
    """(R,) the settings of each area range."""
    reached: Words
    """(P,) the settings whose threshold the pair reaches."""


def _words(pairs: Pairs, rules: CocoRules) -> Iterator[_Word]:
    thresholds = _least_overlaps(rules)
    reached = np.searchsorted(thresholds, pairs.overlap, side="right")
    settings = [(r, t) for r in range(len(rules.area_ranges)) for t in range(len(thresholds))]
    for first in range(0, len(settings), _WORD):
        bits = [(1 << bit, *setting) for bit, setting in enumerate(settings[first : first + _WORD])]
        of_range = [sum(bit for bit, r, _ in bits if r == wanted) for wanted in range(len(rules.area_ranges))]
        of_count = [sum(bit for bit, _, t in bits if t < count) for count in range(len(thresholds) + 1)]
        yield _Word(np.array(of_range, dtype=np.uint64), np.array(of_count, dtype=np.uint64)[reached])


def _choose(pairs: Pairs, attempts: _Attempts, word: _Word, counted: Bools, crowd: Bools) -> Words:
    """Make all attempts; give (P,) the settings in which each pair is matched."""
    detection, objects = pairs.detection[attempts.pair], pairs.object[attempts.pair]
    counts = np.bitwise_or.reduce(np.where(counted, word.ranges[:, None], np.uint64(0)), axis=0)[objects]
    asked = np.where(attempts.kind == _COUNTED, counts, np.where(attempts.kind == _IGNORED, ~counts, _ALL))
    allowed = word.reached[attempts.pair] & asked
    used_up = np.where(crowd, np.uint64(0), _ALL)[objects]
    # A bit of 1: this detection has found nothing yet, this object can still be found, in that setting.
    looking = np.full(int(detection.max(initial=-1)) + 1, _ALL)
    free = np.full(len(crowd), _ALL)
    matched = np.zeros(len(pairs.detection), dtype=np.uint64)
    for start, end in itertools.pairwise(attempts.steps.tolist()):
        step = slice(start, end)
        hit = looking[detection[step]] & free[objects[step]] & allowed[step]
        looking[detection[step]] ^= hit
        free[objects[step]] ^= hit & used_up[step]
        matched[attempts.pair[step]] |= hit
    return matched


def _least_overlaps(rules: CocoRules) -> Floats:
    # pycocotools: an IoU that rounding left a little below 1 reaches the threshold 1.
    return np.minimum(rules.iou_thresholds, 1 - 1e-10)


def _in_ranges(areas: Floats, rules: CocoRules) -> Bools:
    return np.stack([(areas >= low) & (areas <= high) for _, low, high in rules.area_ranges])
