"""Calibration: what each branch is judged by, bins and errors by hand, temperatures against a search."""

import json
import math

import numpy as np
import pytest
import torch
from evaluation_cases import objects

from dethead.evaluation import CocoEvaluator
from dethead.evaluation.calibration import calibration, save_reliability
from dethead.evaluation.halves import fitting_images
from dethead.evaluation.judgements import Judged, judge
from dethead.evaluation.matches import match
from dethead.evaluation.reliability import equal_mass, equal_width
from dethead.evaluation.temperature import fit_temperature, scaled
from dethead.structures import Detections

CAR, TRUCK = 0, 1
BOX, ON_IT = [10.0, 10.0, 40.0, 40.0], [10.0, 10.0, 50.0, 50.0]  # the same, as xywh and as xyxy
GRAZING = [34.0, 10.0, 74.0, 50.0]  # 24 px to the right: IoU 16 / 64
AWAY = [200.0, 200.0, 240.0, 240.0]


def found(*rows):
    """Detections of one image: (xyxy, label, class probability, confidence), the score their product."""
    boxes, labels, classes, confidence = zip(*rows, strict=True) if rows else ((), (), (), ())
    classes, confidence = (torch.tensor(values, dtype=torch.float64) for values in (classes, confidence))
    return Detections(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        classes * confidence,
        torch.tensor(labels, dtype=torch.int64),
        classes,
        confidence,
    )


def collect(*images):
    evaluator = CocoEvaluator(["car", "truck"])
    for detections, truth in images:
        evaluator.update([detections], [truth])
    return evaluator.arrays()


def judged(*images):
    given = collect(*images)
    return judge(given, match(given))


def answers(claims):
    """{(label, predicted): right}"""
    keys = zip(claims.label.tolist(), claims.predicted.tolist(), strict=True)
    return dict(zip(keys, claims.right.tolist(), strict=True))


def claims_of(predicted, right, image=None):
    count = len(predicted)
    image = np.zeros(count, np.int64) if image is None else image
    label = np.zeros(count, np.int64)
    return Judged(image, label, np.asarray(predicted), np.asarray(right), np.ones(count, np.bool_))


def random_images(images=40, seed=0):
    """Images with up to 4 objects and 12 detections, many of which lie on one."""
    generator = np.random.default_rng(seed)
    made = []
    for image_id in range(images):
        count = int(generator.integers(0, 5))
        corners = generator.uniform(0, 100, (count, 2))
        boxes = np.concatenate([corners, generator.uniform(10, 60, (count, 2))], axis=1)
        truth = objects(image_id, boxes.tolist(), generator.integers(0, 2, count).tolist())
        rows = []
        for _ in range(12):
            x, y, w, h = boxes[generator.integers(count)] if count else (5, 5, 20, 20)
            dx, dy = generator.normal(0, 8, 2)
            box = [x + dx, y + dy, x + dx + w, y + dy + h]
            rows.append((box, int(generator.integers(2)), *generator.uniform(0.01, 0.99, 2).tolist()))
        made.append((found(*rows), truth))
    return made


def naive_iou(a, b):
    """Of xyxy and xywh."""
    bx2, by2 = b[0] + b[2], b[1] + b[3]
    inner = max(0, min(a[2], bx2) - max(a[0], b[0])) * max(0, min(a[3], by2) - max(a[1], b[1]))
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + b[2] * b[3] - inner)


def test_the_class_is_judged_on_objects_alone_and_right_by_the_class_of_the_object():
    detections = found((ON_IT, CAR, 0.9, 0.8), (ON_IT, TRUCK, 0.1, 0.8), (AWAY, CAR, 0.7, 0.3))
    claims = judged((detections, objects(1, [BOX], [CAR]))).class_probability
    assert answers(claims) == {(CAR, 0.9): True, (TRUCK, 0.1): False}


def test_the_class_of_the_object_that_overlaps_most_is_the_right_one():
    # both objects overlap the box by 0.5 or more; the truck is closer
    nearly = [10.0, 10.0, 40.0, 50.0]
    claims = judged(
        (found((ON_IT, CAR, 0.9, 0.8)), objects(1, [nearly, BOX], [CAR, TRUCK]))
    ).class_probability
    assert answers(claims) == {(CAR, 0.9): False}


def test_each_label_of_an_object_with_several_is_right():
    detections = found((ON_IT, CAR, 0.9, 0.8), (ON_IT, TRUCK, 0.4, 0.8))
    claims = judged((detections, objects(1, [BOX, BOX], [CAR, TRUCK]))).class_probability
    assert answers(claims) == {(CAR, 0.9): True, (TRUCK, 0.4): True}


def test_the_confidence_is_right_on_any_object_of_whatever_class():
    detections = found((ON_IT, TRUCK, 0.1, 0.8), (GRAZING, CAR, 0.5, 0.4), (AWAY, CAR, 0.7, 0.3))
    claims = judged((detections, objects(1, [BOX], [CAR]))).confidence
    assert answers(claims) == {(TRUCK, 0.8): True, (CAR, 0.4): False, (CAR, 0.3): False}


def test_the_confidence_of_a_box_with_two_labels_counts_once_over_all_classes_and_once_in_each():
    detections = found((ON_IT, CAR, 0.9, 0.8), (ON_IT, TRUCK, 0.1, 0.8), (AWAY, CAR, 0.7, 0.8))
    given = collect((detections, objects(1, [BOX], [CAR])))
    confidence = calibration(given, match(given)).confidence
    assert confidence.together.claims == 2
    assert [one.claims for one in confidence.per_class] == [2, 1]


def test_equal_boxes_of_two_images_are_two_claims():
    image = found((ON_IT, CAR, 0.9, 0.8))
    claims = judged((image, objects(1, [BOX])), (image, objects(2, [BOX]))).confidence
    assert claims.first.tolist() == [True, True]


def test_a_box_inside_a_crowd_is_not_asked_for_confidence():
    # the crowd holds all of GRAZING, and of ON_IT 16 of 40 columns
    crowd = [34.0, 0.0, 200.0, 100.0]
    detections = found((ON_IT, CAR, 0.9, 0.8), (GRAZING, CAR, 0.5, 0.4))
    claims = judged((detections, objects(1, [crowd], [TRUCK], crowd=[True]))).confidence
    assert answers(claims) == {(CAR, 0.8): False}


def test_an_object_inside_a_crowd_is_an_object_all_the_same():
    truth = objects(1, [[0.0, 0.0, 90.0, 90.0], BOX], [CAR, CAR], crowd=[True, False])
    claims = judged((found((ON_IT, CAR, 0.9, 0.8)), truth)).confidence
    assert answers(claims) == {(CAR, 0.8): True}


def test_the_score_is_judged_by_cocos_matching_a_duplicate_is_wrong_and_an_ignored_one_left_out():
    crowd = [190.0, 190.0, 100.0, 100.0]
    detections = found((ON_IT, CAR, 1.0, 0.9), (ON_IT, CAR, 1.0, 0.8), (AWAY, CAR, 1.0, 0.7))
    claims = judged((detections, objects(1, [BOX, crowd], [CAR, CAR], crowd=[False, True]))).score
    assert answers(claims) == {(CAR, 0.9): True, (CAR, 0.8): False}


def test_class_and_confidence_agree_with_plain_loops_on_random_images():
    images = random_images()
    claims = judged(*images)
    wanted_class, wanted_confidence = {}, {}
    for detections, truth in images:
        columns = (detections.boxes, detections.labels, detections.class_probabilities, detections.confidence)
        for box, label, probability, confidence in zip(*(c.tolist() for c in columns), strict=True):
            overlaps = [naive_iou(box, other) for other in truth.boxes.tolist()]
            best = max(overlaps, default=0.0)
            wanted_confidence[label, confidence] = best >= 0.5
            if best >= 0.5:
                same = truth.labels.tolist()[overlaps.index(best)] == label
                wanted_class[label, probability] = same
    assert sum(wanted_class.values()) > 50
    assert answers(claims.class_probability) == wanted_class
    assert answers(claims.confidence) == wanted_confidence


def test_detections_without_branches_are_judged_by_their_scores_alone():
    given = collect((found((ON_IT, CAR, 0.9, 0.8)), objects(1, [BOX])))
    plain = given._replace(detections=given.detections._replace(class_probabilities=None, confidence=None))
    unknown = np.full(1, np.nan)
    read = given._replace(
        detections=given.detections._replace(class_probabilities=unknown, confidence=unknown)
    )
    for one in (plain, read):
        claims = judge(one, match(one))
        assert claims.class_probability is None
        assert claims.confidence is None
        assert claims.score.right.tolist() == [True]


def test_branches_of_another_number_of_detections_are_refused():
    detections = found((ON_IT, CAR, 0.9, 0.8))._replace(confidence=torch.ones(2))
    with pytest.raises(
        ValueError, match="image 4, detections: 1 scores, but 1 class probabilities and 2 conf"
    ):
        collect((detections, objects(4, [BOX])))


def test_a_score_that_is_no_probability_is_named_by_image_and_value():
    given = collect((found(), objects(5)), (found((ON_IT, CAR, 30.0, 1.0)), objects(7, [BOX])))
    given = given._replace(detections=given.detections._replace(class_probabilities=None))
    with pytest.raises(ValueError, match=r"image 7: score 30.0 is not in \[0, 1\]"):
        calibration(given, match(given))


def test_the_calibration_error_by_hand():
    # bins of a half: (0.1 + 0.3) / 2 = 0.2 against 1 of 2, and 0.9 against 1 of 1: 2/3 * 0.3 + 1/3 * 0.1
    diagram = equal_width(np.array([0.1, 0.3, 0.9]), np.array([True, False, True]), bins=2)
    assert diagram.predicted.tolist() == pytest.approx([0.2, 0.9])
    assert diagram.right.tolist() == [0.5, 1.0]
    assert diagram.ece == pytest.approx(2 / 3 * 0.3 + 1 / 3 * 0.1)


def test_a_value_on_an_edge_belongs_to_the_bin_above_and_one_to_the_last():
    diagram = equal_width(np.array([0.0, 0.5, 1.0]), np.ones(3, np.bool_), bins=2)
    assert diagram.claims.tolist() == [1, 2]


def test_bins_of_equal_mass_hold_equally_many():
    predicted = np.random.default_rng(0).uniform(0, 0.01, 1000)
    assert equal_mass(predicted, predicted > 0, bins=10).claims.tolist() == [100] * 10


def test_equal_values_are_in_one_bin_in_whatever_order_they_come():
    predicted = np.array([0.2] * 7 + [0.6] * 3)
    right = np.array([True] * 4 + [False] * 6)
    one, other = equal_mass(predicted, right, bins=5), equal_mass(predicted[::-1], right[::-1], bins=5)
    assert one.edges.tolist() == [0.0, 0.2, 0.6, 1.0]
    assert one.claims.tolist() == [0, 7, 3]
    assert one.ece == pytest.approx(other.ece) == pytest.approx(0.7 * (4 / 7 - 0.2) + 0.3 * 0.6)


@pytest.mark.parametrize("make", [equal_width, equal_mass])
def test_without_a_claim_the_error_is_undefined(make):
    diagram = make(np.zeros(0), np.zeros(0, np.bool_), bins=4)
    assert math.isnan(diagram.ece)


@pytest.mark.parametrize("make", [equal_width, equal_mass])
def test_what_is_calibrated_has_no_error_but_chance(make):
    generator = np.random.default_rng(1)
    predicted = generator.uniform(size=40_000)
    assert make(predicted, generator.uniform(size=40_000) < predicted, bins=10).ece < 0.01


def overconfident(temperature, count=20_000, images=100):
    """Claims that would be calibrated if their logits were divided by ``temperature``."""
    generator = np.random.default_rng(2)
    honest = generator.normal(0, 2, count)
    right = generator.uniform(size=count) < 1 / (1 + np.exp(-honest))
    return claims_of(1 / (1 + np.exp(-honest * temperature)), right, generator.integers(0, images, count))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoilt_the_claims_is_found_and_mends_the_other_half(temperature):
    fitted = fit_temperature(overconfident(temperature), fitting_images(100, 0), 15)
    assert fitted.temperature == pytest.approx(temperature, rel=0.05)
    assert fitted.ece_after < 0.02
    if temperature != 1.0:
        assert fitted.ece_before > 0.05
        assert fitted.nll_after < fitted.nll_before


def test_the_temperature_is_the_best_of_a_fine_search_with_torch():
    claims = overconfident(1.7, count=500)
    fitting = fitting_images(100, 3)
    chosen = torch.from_numpy(fitting[claims.image])
    logits = torch.from_numpy(claims.predicted).logit()
    right = torch.from_numpy(claims.right).double()
    grid = torch.linspace(-1, 1.5, 2501, dtype=torch.float64).exp()
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    tried = logits[chosen] / grid[:, None]
    losses = loss(tried, right[chosen].expand_as(tried), reduction="none").mean(dim=1)
    fitted = fit_temperature(claims, fitting, 15)
    assert fitted.temperature == pytest.approx(float(grid[losses.argmin()]), rel=1e-3)
    held_out = float(loss(logits[~chosen] / fitted.temperature, right[~chosen]))
    assert fitted.nll_after == pytest.approx(held_out)
    assert fitted.nll_before == pytest.approx(float(loss(logits[~chosen], right[~chosen])))
    assert (fitted.fitted_on, fitted.judged_on) == (int(chosen.sum()), int((~chosen).sum()))


def test_probabilities_of_exactly_0_and_1_stay_finite():
    claims = claims_of([0.0, 1.0, 0.0, 1.0], [True, True, False, False], np.array([0, 0, 1, 1]))
    fitted = fit_temperature(claims, np.array([True, False]), 15)
    assert all(map(math.isfinite, fitted.as_dict().values()))
    assert np.isfinite(scaled(np.array([0.0, 1.0]), 0.01)).all()


def test_a_half_without_claims_has_no_temperature():
    fitted = fit_temperature(claims_of([0.5], [True]), np.array([False]), 15)
    assert fitted.as_dict()["temperature"] is None


def test_all_values_are_plain_json_with_null_where_undefined():
    given = collect((found((ON_IT, CAR, 0.9, 0.8)), objects(1, [BOX])))
    content = json.loads(json.dumps(calibration(given, match(given)).as_dict(), allow_nan=False))
    assert [*content] == ["class_probability", "confidence", "score"]
    assert content["score"]["all"]["ece_equal_width"] == pytest.approx(0.28)
    assert content["confidence"]["per_class"][TRUCK]["ece_equal_width"] is None
    assert content["score"]["temperature"] is None


def test_no_detections_at_all_is_nothing_to_judge_and_no_error():
    given = collect((found(), objects(1, [BOX])))
    measured = calibration(given, match(given))
    assert [branch.together.claims for branch in measured.branches().values()] == [0, 0, 0]


def test_no_bins_are_refused():
    given = collect((found(), objects(1, [BOX])))
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        calibration(given, match(given), bins=0)


def test_a_picture_is_drawn_for_every_branch_there_is(tmp_path):
    given = collect(*random_images())
    save_reliability(calibration(given, match(given)), tmp_path / "all.png")
    plain = given._replace(detections=given.detections._replace(class_probabilities=None, confidence=None))
    save_reliability(calibration(plain, match(plain)), tmp_path / "score.png")
    sizes = [(tmp_path / name).read_bytes()[16:24] for name in ("all.png", "score.png")]
    widths = [int.from_bytes(size[:4], "big") for size in sizes]
    assert widths[0] > 2 * widths[1]
