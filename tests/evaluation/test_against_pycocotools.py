"""The engine on drawn sets; the truth of every number here is pycocotools, run on the same set."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dethead.evaluation.arrays import DetectionArrays, EvaluationInput, TruthArrays
from dethead.evaluation.coco import coco_curves, coco_metrics, hits_needed
from dethead.evaluation.matches import match
from dethead.evaluation.official import official_curves, official_metrics, run_pycocotools
from dethead.evaluation.rules import COCO_RULES, RECALL_POINTS, CocoRules

# Few values, so that ties, equal boxes, IoUs of exactly 0.5 and 0.75 and zero sizes are common.
SIDES = st.sampled_from([0.0, 8.0, 16.0, 24.0, 32.0, 96.0])
PLACES = st.sampled_from([0.0, 4.0, 8.0, 16.0, 50.0])
BOUNDARY_AREAS = st.sampled_from([0.0, 1023.9999999999999, 1024.0, 9216.0, 9216.000000000002, 1e10, 2e10])
SCORES = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0]) | st.floats(-1, 1) | st.floats(0, 1, width=32)


def boxes_of(places, sides):
    return st.tuples(places, places, sides, sides)


BOXES = boxes_of(PLACES, SIDES) | boxes_of(st.floats(0, 60), st.floats(0, 120))


@st.composite
def evaluations(draw):
    """Any set of up to 4 images and 3 classes; of some images more than 100 detections of a class."""
    images, classes = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    pair = st.tuples(st.integers(0, max(images - 1, 0)), st.integers(0, classes - 1))
    objects = draw(st.lists(st.tuples(pair, BOXES, st.none() | BOUNDARY_AREAS, st.booleans()), max_size=10))
    found = draw(st.lists(st.tuples(pair, BOXES, SCORES), max_size=14))
    if objects:  # detections on or near objects
        near = st.tuples(
            st.sampled_from(objects), boxes_of(*[st.sampled_from([0.0, 0.0, 1.0, 8.0])] * 2), SCORES
        )
        for (place, box, _, _), shift, score in draw(st.lists(near, max_size=14)):
            found.append((place, tuple(np.add(box, shift)), score))
    found = found * draw(st.sampled_from([1, 1, 1, 60])) if images else []
    objects = objects if images else []
    if draw(st.booleans()):
        found = [(place, tuple(np.float32(value) for value in box), score) for place, box, score in found]
    return arrays(images, classes, objects, found)


def arrays(images, classes, objects, found):
    objects = sorted(objects, key=lambda entry: entry[0][0])
    boxes = np.array([box for _, box, _, _ in objects], dtype=np.float64).reshape(-1, 4)
    areas = [w * h if area is None else area for (_, (_, _, w, h), area, _) in objects]
    truth = TruthArrays(
        np.array([place[0] for place, *_ in objects], dtype=np.int64),
        np.array([place[1] for place, *_ in objects], dtype=np.int64),
        boxes,
        np.array(areas, dtype=np.float64),
        np.array([crowd for *_, crowd in objects], dtype=bool),
    )
    detections = DetectionArrays(
        np.array([place[0] for place, *_ in found], dtype=np.int64),
        np.array([place[1] for place, *_ in found], dtype=np.int64),
        np.array([box for _, box, _ in found], dtype=np.float64).reshape(-1, 4),
        np.array([score for *_, score in found], dtype=np.float64),
    )
    names = tuple(f"class {label}" for label in range(classes))
    return EvaluationInput(np.arange(images, dtype=np.int64) * 7 + 3, names, truth, detections)


def drawn(examples):
    """No deadline: pycocotools is slow. Derandomised: the suite gives the same answer every time."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[*HealthCheck],
        database=None,
    )


def assert_same_curves(given_set, rules):
    ours, theirs = coco_curves(match(given_set, rules)), official_curves(given_set, rules)
    np.testing.assert_allclose(ours.precision, theirs.precision, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.recall, theirs.recall, rtol=0, atol=1e-12)


@drawn(300)
@given(evaluations())
def test_all_12_numbers_and_all_arrays_are_pycocotools(given_set):
    assert_same_curves(given_set, COCO_RULES)
    ours, theirs = coco_metrics(given_set), official_metrics(given_set)
    assert ours.numbers() == pytest.approx(theirs.numbers(), abs=1e-12, rel=0, nan_ok=True)
    for one, other in zip(ours.per_class, theirs.per_class, strict=True):
        assert one.numbers() == pytest.approx(other.numbers(), abs=1e-12, rel=0, nan_ok=True)
        assert (one.name, one.objects) == (other.name, other.objects)


OTHER_RULES = [
    CocoRules(iou_thresholds=(0.3, 0.5, 1.0)),
    CocoRules(max_detections=(2,)),
    CocoRules(max_detections=(1, 3, 300)),
    CocoRules(area_ranges=(("tiny", 0.0, 256.0), ("rest", 256.0, 1e4))),
    # 3 x 30 settings need two words of 64 bits
    CocoRules(
        iou_thresholds=tuple(np.linspace(0.05, 0.95, 30).tolist()),
        area_ranges=(("all", 0.0, 1e10), ("small", 0.0, 1024.0), ("other", 1024.0, 1e10)),
    ),
]


@pytest.mark.parametrize(
    "rules", OTHER_RULES, ids=["thresholds", "one limit", "limits", "areas", "two words"]
)
@drawn(25)
@given(given_set=evaluations())
def test_other_rules_are_pycocotools_too(rules, given_set):
    assert_same_curves(given_set, rules)


@drawn(60)
@given(evaluations())
def test_every_single_match_is_pycocotools(given_set):
    """Which object each detection finds, and whether it is ignored, at all thresholds and area ranges."""
    table = match(given_set)
    for place, entry in official_matches(given_set, table):
        for r in range(4):
            for t in range(10):
                matched, ignored = entry[r]["dtMatches"][t], entry[r]["dtIgnore"][t]
                # ids in pycocotools begin at 1, and 0 is no match
                assert (table.matched(r, t)[place] + 1).tolist() == matched.tolist()
                assert table.ignored(r, t)[place].tolist() == ignored.astype(bool).tolist()


def official_matches(given_set, table):
    """Give, for each image and class with detections, places in the table by rank and 4 of evalImgs."""
    judge = run_pycocotools(given_set, COCO_RULES)
    images = len(given_set.image_ids)
    for label in range(len(given_set.class_names)):
        for image in range(images):
            place = np.flatnonzero((table.label == label) & (table.image == image))
            entry = [judge.evalImgs[(label * 4 + r) * images + image] for r in range(4)]
            if len(place):
                yield place[np.argsort(table.rank[place])], entry


def test_recall_is_compared_as_a_rounded_quotient():
    # 0.55 * 20 is 11.000000000000002, yet 11 / 20 reaches 0.55; the search is the one pycocotools makes
    counts = np.arange(1, 2000)
    needed = hits_needed(counts)
    assert needed[20 - 1, 55] == 11
    for count, row in zip(counts, needed, strict=True):
        recall = np.arange(1, count + 1) / count
        assert (row == 1 + np.searchsorted(recall, RECALL_POINTS)).all(), count


def test_annotation_ids_play_no_part():
    # pycocotools takes a match with annotation id 0 for none; ours knows no ids
    box = (10.0, 10.0, 40.0, 40.0)
    given_set = arrays(1, 1, [((0, 0), box, None, False)], [((0, 0), box, 0.5)])
    assert pytest.approx(1.0, abs=1e-12) == coco_metrics(given_set).AP


def test_a_number_that_the_rules_do_not_ask_for_is_nan():
    box = (10.0, 10.0, 40.0, 40.0)
    given_set = arrays(1, 1, [((0, 0), box, None, False)], [((0, 0), box, 0.5)])
    rules = CocoRules(iou_thresholds=(0.5,), max_detections=(10,), area_ranges=(("all", 0.0, 1e10),))
    metrics = coco_metrics(given_set, rules).as_dict()
    assert [name for name, value in metrics.items() if value is None] == [
        *("AP75", "APs", "APm", "APl", "AR1", "AR100", "ARs", "ARm", "ARl")
    ]


def test_the_threshold_1_is_reached_by_an_overlap_that_rounding_left_below_it():
    box = (50.1, 10.0, 0.3, 40.0)  # 50.1 + 0.3 - 50.1 is 0.29999999999999716: the IoU of equal boxes is not 1
    given_set = arrays(1, 1, [((0, 0), box, None, False)], [((0, 0), box, 0.5)])
    rules = CocoRules(iou_thresholds=(1.0,))
    assert_same_curves(given_set, rules)
    assert coco_curves(match(given_set, rules)).recall[0, 0, 0, 0] == 1.0


def test_a_large_drawn_set_is_pycocotools():
    """Dense enough for the pairs to come in several pieces and for long chains of attempts."""
    draw = np.random.default_rng(5)
    objects, found = 1500, 3000
    boxes = np.concatenate([draw.uniform(0, 150, (objects, 2)), draw.uniform(20, 60, (objects, 2))], axis=1)
    image = np.sort(draw.integers(0, 12, objects))
    near = draw.integers(0, objects, found)
    truth = TruthArrays(
        image, draw.integers(0, 2, objects), boxes, boxes[:, 2] * boxes[:, 3], draw.random(objects) < 0.02
    )
    detections = DetectionArrays(
        image[near],
        truth.label[near],
        boxes[near] + draw.normal(0, 3, (found, 4)),
        draw.random(found).round(2),
    )
    given_set = EvaluationInput(np.arange(12), ("a", "b"), truth, detections)
    assert_same_curves(given_set, COCO_RULES)
