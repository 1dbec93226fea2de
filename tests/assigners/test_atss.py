"""ATSS by hand; test_against_oracles.py compares it with plain loops."""

import pytest
import torch

from dethead.anchors import AnchorGrid
from dethead.assigners import ATSSAssigner
from dethead.structures import Anchors, GroundTruth


def on_one_level(boxes):
    boxes = torch.as_tensor(boxes, dtype=torch.float32)
    return Anchors(boxes, (slice(0, len(boxes)),), (1,), ((1, len(boxes)),))


def matches(assigner, anchors, boxes):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    truth = GroundTruth.from_labels(boxes, torch.zeros(len(boxes), dtype=torch.int64), 1)
    return assigner(anchors, [truth]).matched[0].tolist()


def test_the_threshold_is_mean_plus_unbiased_standard_deviation():
    # IoUs 1, 0.5 and 0: mean 0.5, deviation 0.5 (biased: 0.41), so the first reaches the threshold exactly.
    anchors = on_one_level([[0, 0, 8, 8], [0, 2, 8, 6], [20, 0, 28, 8]])
    assert matches(ATSSAssigner(), anchors, [0, 0, 8, 8]) == [0, -1, -1]
    # IoUs 1 and 0.5: mean 0.75 + deviation 0.35 (biased: 0.25) is above both.
    assert matches(ATSSAssigner(), on_one_level(anchors.boxes[:2]), [0, 0, 8, 8]) == [-1, -1]


def test_equal_overlaps_reach_their_own_mean_whatever_the_rounding():
    # The box holds the 9 candidates; in float32 the mean of 9 equal numbers need not be that number.
    anchors = AnchorGrid((8,), (((8.0, 8.0),),)).place((24, 24))
    for extent in torch.linspace(0.1, 7.0, 50).tolist():
        box = [-extent, -extent / 3, 24 + extent / 2, 24 + extent]
        assert matches(ATSSAssigner(), anchors, box) == [0] * 9


def test_a_single_candidate_has_no_deviation():
    assert matches(ATSSAssigner(1), on_one_level([[0, 0, 8, 8], [8, 0, 16, 8]]), [1, 0, 9, 8]) == [0, -1]


def test_of_equally_near_anchors_the_first_is_the_candidate():
    anchors = on_one_level([[0, 0, 8, 8], [8, 0, 16, 8]])
    assert matches(ATSSAssigner(1), anchors, [0, 0, 16, 8]) == [0, -1]
    assert matches(ATSSAssigner(1), on_one_level(anchors.boxes.flip(0)), [0, 0, 16, 8]) == [0, -1]


def test_an_anchor_centred_on_or_outside_a_side_is_not_positive():
    anchors = on_one_level([[0, 0, 4, 8]])
    assert matches(ATSSAssigner(), anchors, [2, 0, 6, 8]) == [-1]
    assert matches(ATSSAssigner(), anchors, [1.9, 0, 6, 8]) == [0]


def test_a_box_between_the_centres_gets_no_anchor():
    anchors = AnchorGrid((8,), (((8.0, 8.0),),)).place((24, 24))
    assert matches(ATSSAssigner(), anchors, [5, 5, 11, 11]) == [-1] * 9


def test_an_anchor_that_two_boxes_take_answers_for_the_one_it_overlaps_more():
    anchors = on_one_level([[0, 0, 8, 8]])
    assert matches(ATSSAssigner(), anchors, [[0, 0, 8, 6], [0, 0, 8, 7]]) == [1]


def test_every_level_gives_candidates():
    # On each level the two nearest: with one list for both levels the coarse anchors would be too far.
    fine, coarse = [[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]], [[0, 0, 16, 16]]
    boxes = torch.tensor(fine + coarse, dtype=torch.float32)
    anchors = Anchors(boxes, (slice(0, 4), slice(4, 5)), (8, 16), ((2, 2), (1, 1)))
    # IoUs 0.25, 0.25 and 1: mean 0.5 + deviation 0.43
    assert matches(ATSSAssigner(2), anchors, [0, 0, 16, 16]) == [-1, -1, -1, -1, 0]


def test_fewer_than_one_candidate_is_refused():
    with pytest.raises(ValueError, match="candidates_per_level must be at least 1, got 0"):
        ATSSAssigner(candidates_per_level=0)
