"""Error types and what they cost, against the paper by hand, a plain oracle, and TIDE's own package."""

import contextlib
import sys
import types
from typing import Any

import numpy as np
import pytest
from evaluation_cases import found, objects
from noisy_sets import noisy_set

from dethead.evaluation import neighbours as neighbours_module
from dethead.evaluation.arrays import EvaluationInput
from dethead.evaluation.coco import coco_metrics
from dethead.evaluation.errors import ERROR_TYPES, IGNORED, RIGHT, ErrorTypes, error_types
from dethead.evaluation.evaluator import CocoEvaluator
from dethead.evaluation.matches import match
from dethead.evaluation.neighbours import neighbours
from dethead.evaluation.rules import CocoRules


def of(given: EvaluationInput) -> ErrorTypes:
    return error_types(given, match(given))


def one_image(truth: Any, detections: Any, names: Any = ("car", "truck")) -> ErrorTypes:
    evaluator = CocoEvaluator(names)
    evaluator.update([detections], [truth])
    return of(evaluator.arrays())


def counts(errors: ErrorTypes) -> dict[str, int]:
    return {name: int(count.sum()) for name, count in zip(ERROR_TYPES, errors.counts, strict=True)}


# One car of 40 x 40 in the corner; a box shifted by x has IoU (40 - x) / (40 + x).
@pytest.mark.parametrize(
    ("box", "label", "expected"),
    [
        ((0, 0, 40, 40), 1, "classification"),
        ((20, 0, 60, 40), 0, "localisation"),  # 1 / 3
        ((20, 0, 60, 40), 1, "both"),
        ((200, 0, 240, 40), 0, "background"),
        ((38, 0, 78, 40), 1, "background"),  # 1 / 39
    ],
)
def test_a_wrong_detection_is_one_error_of_its_type(box, label, expected):
    errors = one_image(objects(1, [[0, 0, 40, 40]]), found([box], [0.9], [label]))
    wrong = {name: count for name, count in counts(errors).items() if name != "missed" and count}
    assert wrong == {expected: 1}


def test_a_second_detection_of_a_found_object_is_a_duplicate():
    boxes = [[0, 0, 40, 40], [2, 0, 42, 40]]
    errors = one_image(objects(1, [[0, 0, 40, 40]]), found(boxes, [0.9, 0.8]))
    assert errors.kind.tolist() == [RIGHT, ERROR_TYPES.index("duplicate")]


def test_a_second_detection_of_a_car_that_is_a_vehicle_too_is_a_duplicate_of_both():
    truth = objects(1, [[0, 0, 40, 40], [0, 0, 40, 40]], [0, 2])
    boxes = [[0, 0, 40, 40], [2, 0, 42, 40]]
    detections = found([*boxes, *boxes, boxes[0]], [0.9, 0.8, 0.9, 0.8, 0.7], [0, 0, 2, 2, 1])
    errors = one_image(truth, detections, ("car", "truck", "vehicle"))
    wrong = {name: count.tolist() for name, count in zip(ERROR_TYPES, errors.counts, strict=True)}
    assert wrong["duplicate"] == [1, 0, 1]
    assert wrong["classification"] == [0, 1, 0]  # a truck it is not


def test_a_poor_box_at_exactly_half_overlap_on_a_found_object_is_a_localisation_error():
    # 40 x 20 in 40 x 40: IoU 1 / 2, to which the paper's interval reaches.
    boxes = [[0, 0, 40, 40], [0, 0, 40, 20]]
    errors = one_image(objects(1, [[0, 0, 40, 40]]), found(boxes, [0.9, 0.8]))
    assert errors.kind.tolist() == [RIGHT, ERROR_TYPES.index("localisation")]


def test_an_object_that_an_error_stands_for_is_not_missed():
    truth = objects(1, [[0, 0, 40, 40], [100, 0, 40, 40]])
    errors = one_image(truth, found([[20, 0, 60, 40]], [0.9]))
    assert errors.missed.tolist() == [False, True]


def test_each_cost_is_the_ap50_that_putting_this_error_right_brings():
    # Car A is found; car B has a poor box; the truck is taken for a car; truck 2 is missed.
    truth = objects(1, [[0, 0, 40, 40], [100, 0, 40, 40], [200, 0, 40, 40], [300, 0, 40, 40]], [0, 0, 1, 1])
    detections = found([[0, 0, 40, 40], [120, 0, 160, 40], [200, 0, 240, 40]], [0.7, 0.8, 0.9], [0, 0, 0])
    errors = one_image(truth, detections)
    third, half = 51 / 101 / 3, 51 / 101 / 2  # recall 1 / 2 reaches 51 of 101 points
    now = third / 2  # trucks: 0
    assert abs(errors.AP50 - now) < 1e-12
    # The cars become wrong, right, right: precision 2 / 3 everywhere.
    assert errors.costs["localisation"] == pytest.approx((2 / 3) / 2 - now)
    # The cars become wrong, right; one of two trucks is found at once.
    assert errors.costs["classification"] == pytest.approx((half + 51 / 101) / 2 - now)
    # No detection is left in trucks, and one object: still 0.
    assert errors.costs["missed"] == pytest.approx(0)
    assert errors.false_positive_cost == pytest.approx(51 / 101 / 2 - now)
    # Cars: one of one after two wrong ones. Trucks: neither objects nor detections, left out.
    assert errors.false_negative_cost == pytest.approx(1 / 3 - now)


def test_of_several_errors_that_mean_an_object_the_best_score_is_put_right():
    # Both cars mean the same object; put right, the first is right and the second is gone.
    boxes = [[20, 0, 60, 40], [0, 20, 40, 60]]
    errors = one_image(objects(1, [[0, 0, 40, 40]]), found(boxes, [0.9, 0.8]), ["car"])
    assert errors.costs["localisation"] == pytest.approx(1.0)


def test_a_class_left_without_objects_counts_zero_if_it_has_detections_and_is_left_out_else():
    truth = objects(1, [[0, 0, 40, 40], [100, 0, 40, 40]], [0, 1])
    with_wrong = one_image(truth, found([[100, 0, 140, 40], [300, 0, 340, 40]], [0.9, 0.8], [1, 0]))
    without = one_image(truth, found([[100, 0, 140, 40]], [0.9], [1]))
    assert (with_wrong.costs["missed"], with_wrong.false_negative_cost) == (0.0, 0.0)
    assert (without.costs["missed"], without.false_negative_cost) == pytest.approx((0.5, 0.5))


def test_what_a_crowd_absorbs_is_no_error():
    truth = objects(1, [[0, 0, 100, 100], [200, 0, 40, 40]], crowd=[True, False])
    errors = one_image(truth, found([[0, 0, 40, 40], [200, 0, 240, 40]], [0.9, 0.8]))
    assert errors.kind.tolist() == [IGNORED, RIGHT]
    assert not errors.counts.any()
    assert errors.costs == dict.fromkeys(ERROR_TYPES, 0.0)


def test_errors_are_counted_by_the_class_detected_and_missed_objects_by_their_own():
    errors = one_image(objects(1, [[0, 0, 40, 40]], [1]), found([[200, 0, 240, 40]], [0.9], [0]))
    assert errors.counts[ERROR_TYPES.index("background")].tolist() == [1, 0]
    assert errors.counts[ERROR_TYPES.index("missed")].tolist() == [0, 1]


def test_nothing_at_all_is_undefined():
    errors = one_image(objects(1), found())
    assert np.isnan([errors.AP50, *errors.costs.values()]).all()
    assert errors.as_dict()["AP50"] is None


def test_ap50_is_cocos():
    given = noisy_set(3, classes=4, crowds=0.2)
    assert abs(of(given).AP50 - coco_metrics(given).AP50) < 1e-12


def test_a_table_without_iou_one_half_is_refused():
    given = noisy_set(0)
    with pytest.raises(ValueError, match=r"IoU threshold 0.5 is not among \(0.75,\)"):
        error_types(given, match(given, CocoRules(iou_thresholds=(0.75,))))


def test_neighbours_of_another_set_are_refused():
    given = noisy_set(0)
    with pytest.raises(ValueError, match="match that input first"):
        neighbours(given, match(noisy_set(1)))


def test_neighbours_do_not_depend_on_how_the_work_is_cut(monkeypatch):
    given = noisy_set(5)
    table = match(given)
    whole = neighbours(given, table)
    monkeypatch.setattr(neighbours_module, "_COMPARISONS_AT_ONCE", 3)
    for one, other in zip(whole, neighbours(given, table), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(12))
def test_types_and_costs_are_those_of_a_plain_oracle(seed):
    given = noisy_set(seed, classes=1 + seed % 4, crowds=0.2 * (seed % 2))
    # The last class has detections only: it is left out of every mean.
    given = given._replace(class_names=(*given.class_names, "nowhere"))
    given.detections.label[::7] = len(given.class_names) - 1
    errors, oracle = of(given), Oracle(given)
    assert counts(errors) == oracle.counts()
    for name, fixed in oracle.fixed().items():
        assert errors.costs[name] == pytest.approx(max(fixed - errors.AP50, 0), abs=1e-12), name


@pytest.mark.parametrize("seed", range(12))
def test_types_and_costs_are_those_of_tidecv(seed, tidecv):
    given = noisy_set(seed, images=6 + seed, classes=1 + seed % 4, crowds=0.2 * (seed % 2))
    table = match(given)
    errors = error_types(given, table)
    # tidecv sorts ignored detections among the errors; ours are those of the set without them.
    run = _tidecv_run(tidecv, given, {*table.row[table.ignored(0, 0)].tolist()})
    names = dict(zip(("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), ERROR_TYPES, strict=True))
    main, special = run.fix_main_errors(), run.fix_special_errors()
    assert run.ap / 100 == pytest.approx(errors.AP50, abs=1e-12)
    assert {names[kind.short_name]: count for kind, count in run.count_errors().items()} == counts(errors)
    costs = {names[kind.short_name]: cost / 100 for kind, cost in main.items()}
    assert costs == pytest.approx(errors.costs, abs=1e-12)
    totals = {kind.short_name: cost / 100 for kind, cost in special.items()}
    ours = {"FalsePos": errors.false_positive_cost, "FalseNeg": errors.false_negative_cost}
    assert totals == pytest.approx(ours, abs=1e-12)


@pytest.fixture
def tidecv(monkeypatch) -> Any:
    """The package of the paper. What it needs for pictures only may be absent."""
    for name in ("cv2", "seaborn", "pandas"):
        try:
            __import__(name)
        except ImportError:
            monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(FONT_HERSHEY_SIMPLEX=0))
    package = pytest.importorskip("tidecv")
    # Its recall points are k / 100, COCO's are linspace's: they differ in the last digit, which decides
    # whether a recall of 7 / 20 reaches 0.35.
    points = np.linspace(0, 1, 101)
    monkeypatch.setattr(
        sys.modules["tidecv.ap"],
        "np",
        types.SimpleNamespace(
            array=np.array, searchsorted=lambda recalls, _, side: np.searchsorted(recalls, points, side)
        ),
    )
    return package


def _tidecv_run(tidecv: Any, given: EvaluationInput, dropped: set[int]) -> Any:
    truth, detections = tidecv.Data("truth"), tidecv.Data("detections")
    for image in range(len(given.image_ids)):
        truth.add_image(image, str(image))
    for image, label, box, _, crowd in zip(*(column.tolist() for column in given.truth), strict=True):
        (truth.add_ignore_region if crowd else truth.add_ground_truth)(image, label, box)
    for row in range(len(given.detections.label)):
        if row not in dropped:
            image, label, box, score = (column[row].tolist() for column in given.detections[:4])
            detections.add_detection(image, label, score, box)
    with contextlib.redirect_stdout(None):
        return tidecv.TIDERun(truth, detections, 0.5, 0.1, "bbox", 100)


class Oracle:
    """Section 2 of the paper, one image and one detection after the other, for scores that all differ."""

    def __init__(self, given: EvaluationInput) -> None:
        truth, self.given = given.truth, given
        self.objects = [row for row in range(len(truth.label)) if not truth.crowd[row]]
        self.crowds = [row for row in range(len(truth.label)) if truth.crowd[row]]
        order = np.argsort(-given.detections.scores)
        self.finder: dict[int, int] = {}
        self.wrong: list[int] = []
        self.right: list[int] = []
        for row in order.tolist():
            self._match(row)
        self.kind = {row: self._kind(row) for row in self.wrong}
        self.claims: dict[int, int] = {}  # object -> the best detection that means it
        for row, (kind, target) in self.kind.items():
            if kind in ("classification", "localisation") and target not in self.finder:
                self.claims.setdefault(target, row)

    def _iou(self, detection: int, row: int) -> float:
        x, y, w, h = self.given.detections.boxes[detection]
        a, b, c, d = self.given.truth.boxes[row]
        width, height = min(x + w, a + c) - max(x, a), min(y + h, b + d) - max(y, b)
        if self.given.detections.image[detection] != self.given.truth.image[row] or width <= 0 or height <= 0:
            return 0.0
        whole = w * h if self.given.truth.crowd[row] else w * h + c * d - width * height
        return width * height / whole

    def _same(self, detection: int, row: int) -> bool:
        return bool(self.given.detections.label[detection] == self.given.truth.label[row])

    def _match(self, detection: int) -> None:
        def best(rows: list[int]) -> int | None:
            reached = [row for row in rows if self._same(detection, row) and self._iou(detection, row) >= 0.5]
            return max(reached, key=lambda row: self._iou(detection, row), default=None)

        target = best([row for row in self.objects if row not in self.finder])
        if target is not None:
            self.finder[target] = detection
            self.right.append(detection)
        elif best(self.crowds) is None:
            self.wrong.append(detection)

    def _kind(self, detection: int) -> tuple[str, int]:
        overlaps = {row: self._iou(detection, row) for row in self.objects}
        same = {row: overlap for row, overlap in overlaps.items() if self._same(detection, row)}
        rest = {row: overlap for row, overlap in overlaps.items() if row not in same}
        own, other = max(same.values(), default=0), max(rest.values(), default=0)
        if 0.1 <= own <= 0.5:
            return "localisation", max(same, key=lambda row: same[row])
        if other >= 0.5:
            return "classification", max(rest, key=lambda row: rest[row])
        if own >= 0.5:
            return "duplicate", -1
        return ("background" if other <= 0.1 else "both"), -1

    def _missed(self) -> list[int]:
        return [row for row in self.objects if row not in self.finder and row not in self.claims]

    def counts(self) -> dict[str, int]:
        kinds = [kind for kind, _ in self.kind.values()]
        return {name: kinds.count(name) for name in ERROR_TYPES} | {"missed": len(self._missed())}

    def fixed(self) -> dict[str, float]:
        fixed = {"missed": self._ap(None, {*self._missed()})}
        for error in ERROR_TYPES[:-1]:
            fixed[error] = self._ap(error, set())
        return fixed

    def _ap(self, error: str | None, gone: set[int]) -> float:
        labels = self.given.detections.label
        points = [(labels[row], row, True) for row in self.right]
        for row, (kind, target) in self.kind.items():
            if kind != error:
                points.append((labels[row], row, False))
            elif self.claims.get(target) == row:
                points.append((self.given.truth.label[target], row, True))
        means = []
        for label in {int(self.given.truth.label[row]) for row in self.objects}:
            total = sum(self.given.truth.label[row] == label and row not in gone for row in self.objects)
            scored = sorted(
                (-self.given.detections.scores[row], right) for c, row, right in points if c == label
            )
            if total or scored:
                means.append(_interpolated([right for _, right in scored], int(total)))
        return float(np.mean(means))


def _interpolated(right: list[bool], total: int) -> float:
    if total == 0:
        return 0.0
    hits = np.cumsum(right)
    recall, precision = hits / total, hits / np.arange(1, len(right) + 1)
    reached = [precision[recall >= point] for point in np.linspace(0, 1, 101)]
    return float(np.mean([values.max(initial=0) for values in reached]))
