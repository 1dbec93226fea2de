"""SimOTA by hand; test_against_oracles.py compares it with plain loops."""

import math

import pytest
import torch

from dethead.anchors import AnchorGrid
from dethead.assigners import SimOTAAssigner
from dethead.structures import Anchors, GroundTruth, Predictions

CELLS = AnchorGrid((8,), (((8.0, 8.0),),)).place((8, 64))  # one row of centres: 4, 12, ... 60


def positives(assigner, boxes, seen, *, labels=None, classes=None, confidence=None, anchors=CELLS):
    """{anchor: box}; by default each prediction is sure of class 0 and half confident."""
    count = len(anchors.boxes)
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.tensor(labels)
    classes = torch.tensor([[1.0, 0.0]]).expand(count, -1) if classes is None else torch.tensor(classes)
    confidence = torch.full((count,), 0.5) if confidence is None else torch.tensor(confidence)
    predictions = Predictions(torch.as_tensor(seen)[None], classes[None], confidence[None])
    matched = assigner(anchors, [GroundTruth.from_labels(boxes, labels, 2)], predictions).matched[0]
    return {int(row): int(matched[row]) for row in (matched >= 0).nonzero()}


@pytest.fixture(params=["softmax", "sigmoid"])
def assigner(request):
    return SimOTAAssigner(request.param)


def test_k_is_the_sum_of_the_best_ious_rounded_down(assigner):
    box = [0.0, 0, 64, 8]
    halves = [[0.0, 0, 64, 4]] * 8  # 8 predictions of IoU 0.5
    assert len(positives(assigner, box, torch.tensor(halves))) == 4
    below = torch.tensor([*halves[:7], [0.0, 0, 64, 3.9]])
    assert len(positives(assigner, box, below)) == 3


def test_only_the_best_ious_are_summed(assigner):
    seen = torch.tensor([[0.0, 0, 64, 8]] * 8)
    narrow = SimOTAAssigner(assigner.class_cost, top_ious=3)
    assert len(positives(assigner, [0, 0, 64, 8], seen)) == 8
    assert len(positives(narrow, [0, 0, 64, 8], seen)) == 3


def test_a_box_that_no_prediction_meets_takes_one(assigner):
    taken = positives(assigner, [0, 0, 64, 8], torch.full((8, 4), 500.0))
    assert taken == {2: 0}  # the first of equal costs that is near the middle: 2.5 strides are 20 px


def test_confidence_and_class_lower_the_cost(assigner):
    seen = torch.full((8, 4), 500.0)  # IoU 0: one anchor is taken, by its class cost
    confidence = [0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 0.5]
    assert positives(assigner, [0, 0, 64, 8], seen, confidence=confidence) == {3: 0}
    classes = [[0.5, 0.5]] * 4 + [[0.9, 0.1]] + [[0.5, 0.5]] * 3
    assert positives(assigner, [0, 0, 64, 8], seen, classes=classes) == {4: 0}


def test_an_unknown_class_is_matched_by_overlap_alone(assigner):
    seen = CELLS.boxes + torch.tensor([0.0, 0, 0, 1])
    seen[3] = torch.tensor([16.0, 0, 40, 8])
    confidence = [0.9] * 3 + [0.01] + [0.9] * 4
    assert positives(assigner, [16, 0, 40, 8], seen, labels=[-100], confidence=confidence) == {3: 0}


def test_anchors_inside_the_box_and_near_its_middle_come_first_whatever_they_cost(assigner):
    # Anchor 0 predicts the box best, but its centre is 28 px from the middle: more than 2.5 strides.
    seen = torch.full((8, 4), 500.0)
    seen[0] = torch.tensor([0.0, 0, 64, 8])
    assert positives(assigner, [0, 0, 64, 8], seen) == {2: 0}
    assert positives(SimOTAAssigner(assigner.class_cost, center_radius=4.0), [0, 0, 64, 8], seen) == {0: 0}


def test_a_box_between_the_centres_takes_an_anchor_near_it(assigner):
    seen = CELLS.boxes.clone()
    seen[5] = torch.tensor([41.0, 1, 43, 3])
    assert positives(assigner, [41, 1, 43, 3], seen) == {5: 0}


def test_costs_of_anchors_that_are_not_central_keep_their_precision(assigner):
    # Adding 10^6 in float32 would make these two equal, and the first would be taken.
    seen = CELLS.boxes.clone()
    seen[4], seen[5] = torch.tensor([41.0, 1, 43, 2.99]), torch.tensor([41.0, 1, 43, 3])
    assert positives(assigner, [41, 1, 43, 3], seen) == {5: 0}


def test_anchors_that_two_boxes_take_are_shared_by_cost(assigner):
    # Both boxes want both anchors; each anchor is surer of one class.
    anchors = Anchors(CELLS.boxes[:2], (slice(0, 2),), (8,), ((1, 2),))
    box = [0.0, 0, 16, 8]
    taken = positives(
        assigner,
        [box, box],
        torch.tensor([box, box]),
        labels=[0, 1],
        classes=[[0.3, 0.7], [0.7, 0.3]],
        anchors=anchors,
    )
    assert taken == {0: 1, 1: 0}


def test_the_two_class_costs_may_choose_differently():
    # Surer of the true class, or less sure of the others: only the second cost looks at the others.
    seen = torch.full((8, 4), 500.0)
    classes = [[0.0, 0.0]] * 2 + [[0.5, 0.9], [0.45, 0.0]] + [[0.0, 0.0]] * 4
    assert positives(SimOTAAssigner("softmax"), [0, 0, 64, 8], seen, classes=classes) == {2: 0}
    assert positives(SimOTAAssigner("sigmoid"), [0, 0, 64, 8], seen, classes=classes) == {3: 0}


def test_quality_is_the_overlap_of_the_prediction(assigner):
    seen = torch.tensor([[[0.0, 0, 64, 4]] * 8])
    truth = GroundTruth.from_labels(torch.tensor([[0.0, 0, 64, 8]]), torch.tensor([0]), 2)
    got = assigner(CELLS, [truth], Predictions(seen, torch.rand(1, 8, 2), torch.rand(1, 8)))
    assert torch.equal(got.quality, got.overlaps)
    assert got.overlaps[got.matched == 0].tolist() == [0.5] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_cost": "hinge"}, "class_cost must be 'softmax' or 'sigmoid', got 'hinge'"),
        ({"center_radius": 0.0}, "center_radius must be above 0 and finite, got 0.0"),
        ({"center_radius": math.inf}, "center_radius must be above 0 and finite, got inf"),
        ({"iou_weight": -1.0}, "iou_weight must be at least 0 and finite, got -1.0"),
        ({"top_ious": 0}, "top_ious must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SimOTAAssigner(**{"class_cost": "softmax"} | settings)
