"""Task alignment by hand; test_against_oracles.py compares it with plain loops."""

import math

import pytest
import torch

from dethead.anchors import AnchorGrid
from dethead.assigners import TaskAlignedAssigner
from dethead.structures import GroundTruth, Predictions

CELLS = AnchorGrid((8,), (((8.0, 8.0),),)).place((8, 32))  # one row of centres: 4, 12, 20, 28
BOX = [0.0, 0.0, 32.0, 8.0]


def overlapping(*ious):
    """Predictions of the wanted IoUs with BOX."""
    return torch.tensor([[0.0, 0.0, 32.0, 8 * iou] for iou in ious])


def assign(assigner, seen, confidence, *, boxes=(BOX,), targets=((1.0, 0.0),), known=True, classes=None):
    boxes = torch.tensor(boxes)
    truth = GroundTruth(boxes, torch.tensor(targets), torch.zeros(0, 4), torch.full((len(boxes),), known))
    classes = torch.tensor([[1.0, 0.0]] * 4 if classes is None else classes)
    return assigner(CELLS, [truth], Predictions(seen[None], classes[None], torch.tensor([confidence])))


def test_the_best_aligned_are_taken_and_quality_is_their_metric_scaled_to_the_best_iou():
    # t = s * u^2: 0.18, 0.16, 0.25 and 0.05; the highest t stands for the highest IoU, 0.8
    assigner = TaskAlignedAssigner(top_k=3, alpha=1.0, beta=2.0)
    got = assign(assigner, overlapping(0.6, 0.8, 0.5, 0.5), [0.5, 0.25, 1.0, 0.2])
    assert got.matched.tolist() == [[0, 0, 0, -1]]
    assert got.overlaps[0].tolist() == pytest.approx([0.6, 0.8, 0.5, 0])
    assert got.quality[0].tolist() == pytest.approx([0.18 / 0.25 * 0.8, 0.16 / 0.25 * 0.8, 0.8, 0])


def test_exponents_weigh_the_score_against_the_overlap():
    seen, confidence = overlapping(0.9, 0.6, 0.1, 0.1), [0.3, 0.9, 0.1, 0.1]
    by_overlap = assign(TaskAlignedAssigner(top_k=1, alpha=1.0, beta=6.0), seen, confidence)
    by_score = assign(TaskAlignedAssigner(top_k=1, alpha=6.0, beta=1.0), seen, confidence)
    assert by_overlap.matched.tolist() == [[0, -1, -1, -1]]
    assert by_score.matched.tolist() == [[-1, 0, -1, -1]]


def test_an_exponent_of_0_leaves_its_factor_out():
    got = assign(
        TaskAlignedAssigner(top_k=1, alpha=0.0), overlapping(0.5, 0.7, 0.6, 0.1), [1.0, 0.0, 1.0, 1.0]
    )
    assert got.matched.tolist() == [[-1, 0, -1, -1]]


def test_a_beta_of_0_ranks_predictions_off_the_box_by_their_score_too():
    seen = overlapping(0.5, 0.7, 0.6, 0.1)
    seen[3] += 500
    got = assign(TaskAlignedAssigner(top_k=2, beta=0.0), seen, [0.3, 0.1, 0.5, 0.9])
    assert got.matched.tolist() == [[-1, -1, 0, 0]]


def test_the_score_is_of_the_boxs_class():
    classes = [[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.5, 0.5]]
    even = overlapping(0.5, 0.5, 0.5, 0.5)
    for row, targets in enumerate([(1.0, 0.0), (0.0, 1.0)]):
        got = assign(TaskAlignedAssigner(1), even, [0.5] * 4, targets=(targets,), classes=classes)
        assert got.matched[0].tolist().index(0) == row


def test_the_score_of_several_labels_is_their_mean():
    classes = [[0.9, 0.0], [0.4, 0.6], [0.5, 0.45], [0.0, 0.9]]
    even = overlapping(0.5, 0.5, 0.5, 0.5)
    got = assign(TaskAlignedAssigner(2), even, [0.5] * 4, targets=((1.0, 1.0),), classes=classes)
    assert got.matched.tolist() == [[-1, 0, 0, -1]]
    assert got.quality[0].tolist() == pytest.approx([0, 0.5, 0.475 / 0.5 * 0.5, 0])


def test_the_score_of_an_unknown_class_is_the_confidence_alone():
    classes = [[1.0, 0.0], [0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]
    even = overlapping(0.5, 0.5, 0.5, 0.5)
    confidence = [0.4, 0.8, 0.2, 0.1]
    got = assign(
        TaskAlignedAssigner(2), even, confidence, targets=((0.0, 0.0),), known=False, classes=classes
    )
    assert got.matched.tolist() == [[0, 0, -1, -1]]
    assert got.quality[0].tolist() == pytest.approx([0.25, 0.5, 0, 0])


def test_only_anchors_centred_inside_the_box_are_taken():
    got = assign(TaskAlignedAssigner(), overlapping(1, 1, 1, 1), [0.5] * 4, boxes=([4.0, 0, 20.5, 8],))
    assert got.matched.tolist() == [[-1, 0, 0, -1]]  # the first centre is on the box's side


def test_a_prediction_off_the_box_is_not_taken():
    seen = overlapping(0.5, 0.5, 0.5, 0.5)
    seen[1:] += 500
    assert assign(TaskAlignedAssigner(), seen, [0.5] * 4).matched.tolist() == [[0, -1, -1, -1]]


def test_the_smallest_scores_and_overlaps_are_still_compared():
    # t is 10^-42 and less: 0 in float32
    got = assign(TaskAlignedAssigner(2), overlapping(1e-3, 1e-2, 1e-3, 1e-3), [1e-20, 1e-30, 1e-25, 1e-24])
    assert got.matched.tolist() == [[0, 0, -1, -1]]
    assert got.quality[0].tolist() == pytest.approx([0.01, 1e-4 * 0.01, 0, 0], rel=1e-3)


def test_an_anchor_that_two_boxes_take_answers_for_the_one_its_prediction_overlaps_more():
    boxes = ([0.0, 0, 32, 6], [0.0, 0, 32, 8])
    seen = overlapping(0.7, 0.75, 0.9, 1.0)  # the first two nearer to the first box
    got = assign(TaskAlignedAssigner(), seen, [0.5] * 4, boxes=boxes, targets=((1.0, 0.0),) * 2)
    assert got.matched.tolist() == [[0, 0, 1, 1]]
    assert got.quality[0].tolist()[1::2] == pytest.approx([1.0, 1.0])  # the best of each box


def test_a_box_between_the_centres_gets_no_anchor():
    got = assign(TaskAlignedAssigner(), overlapping(1, 1, 1, 1), [0.5] * 4, boxes=([5.0, 0, 11, 8],))
    assert got.matched.tolist() == [[-1, -1, -1, -1]]


@pytest.mark.parametrize(
    ("min_side", "matched"),
    [
        (0.99, [-1, -1, -1, -1]),
        (1.01, [0, 0, -1, -1]),  # 8.08 px: from 3.96 to 12.04
        (3.1, [0, 0, 0, -1]),  # 24.8 px: from -4.4 to 20.4
    ],
)
def test_a_small_box_looks_for_anchors_as_if_it_were_larger_and_is_matched_as_it_is(min_side, matched):
    seen = torch.tensor([[0.0, 0, 32, 8]] * 4)
    got = assign(TaskAlignedAssigner(min_side=min_side), seen, [0.5] * 4, boxes=([7.0, 0, 9, 8],))
    assert got.matched.tolist() == [matched]
    assert got.overlaps[0].tolist() == [2 / 32 if row == 0 else 0 for row in matched]


def test_a_box_with_an_anchor_inside_is_looked_for_as_it_is_however_small():
    seen = torch.tensor([[0.0, 0, 32, 8]] * 4)
    boxes = ([11.0, 0, 13, 8], [21.0, 0, 23, 8])  # the first around the second centre, the other between two
    got = assign(TaskAlignedAssigner(min_side=1.1), seen, [0.5] * 4, boxes=boxes, targets=((1.0, 0.0),) * 2)
    assert got.matched.tolist() == [[-1, 0, 1, -1]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"min_side": -1.0}, "min_side must be at least 0 and finite, got -1.0"),
        ({"alpha": -0.5}, "alpha must be at least 0 and finite, got -0.5"),
        ({"beta": math.inf}, "beta must be at least 0 and finite, got inf"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TaskAlignedAssigner(**settings)
