"""Centre sampling against torchvision's FCOS and by hand; test_against_oracles.py has plain loops."""

import math
from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection.fcos import FCOS

from dethead.anchors import AnchorGrid
from dethead.assigners import CenterAssigner
from dethead.structures import GroundTruth

STRIDES = (8, 16, 32, 64, 128)
PYRAMID = AnchorGrid.from_sizes(STRIDES, STRIDES).place((256, 320))  # FCOS: a cell is its anchor
CELLS = AnchorGrid((8,), (((8.0, 8.0),),)).place((24, 40))  # centres at 4, 12, 20, ...


def as_truth(boxes):
    boxes = torch.as_tensor(boxes, dtype=PYRAMID.boxes.dtype).reshape(-1, 4)
    return GroundTruth.from_labels(boxes, torch.zeros(len(boxes), dtype=torch.int64), 1)


def positives(assigner, boxes, anchors=CELLS):
    matched = assigner(anchors, [as_truth(boxes)]).matched[0]
    return {int(row): int(matched[row]) for row in (matched >= 0).nonzero()}


def fcos_matches(boxes, radius):
    """torchvision matches inside compute_loss: hand it a head that gives the matches back."""
    head = SimpleNamespace(compute_loss=lambda targets, outputs, anchors, matched: matched)
    fcos = SimpleNamespace(center_sampling_radius=radius, head=head)
    rows = [level.stop - level.start for level in PYRAMID.levels]
    # In float64: it takes the smallest area as the largest 1e8 - area, which float32 rounds to 8 px^2.
    return FCOS.compute_loss(fcos, [{"boxes": boxes.double()}], {}, [PYRAMID.boxes.double()], rows)[0]


@pytest.mark.parametrize("radius", [1.5, 0.8, 3.0])
def test_matches_are_those_of_torchvisions_fcos(radius):
    found = 0
    for count in range(20):
        corner = torch.rand(count, 2) * torch.tensor([260.0, 200.0])
        boxes = torch.cat([corner, corner + 3 + torch.rand(count, 2).square() * 300], dim=1)
        wanted = fcos_matches(boxes, radius)
        assert torch.equal(CenterAssigner(radius)(PYRAMID, [as_truth(boxes)]).matched[0], wanted)
        found += int((wanted >= 0).sum())
    assert found > 100


def test_quality_is_the_centerness_of_the_anchors_centre():
    # From the centre (4, 4) of cell 0: 2 left, 6 right, 3 up, 3 down.
    assignment = CenterAssigner(radius=None)(CELLS, [as_truth([2, 1, 10, 7])])
    assert assignment.matched[0, 0] == 0
    assert assignment.quality[0, 0] == pytest.approx(math.sqrt(2 / 6))
    assert assignment.quality[0, 1:].sum() == 0


def test_overlaps_are_those_of_the_anchor_with_its_box():
    assignment = CenterAssigner()(CELLS, [as_truth([0, 0, 8, 4.5])])
    assert assignment.overlaps[0, 0] == pytest.approx(4.5 / 8)


def test_without_a_radius_the_whole_box_counts():
    box = [0, 0, 40, 8]  # its row of five centres
    assert positives(CenterAssigner(radius=None), box).keys() == {0, 1, 2, 3, 4}
    assert positives(CenterAssigner(radius=1.5), box).keys() == {1, 2, 3}
    assert positives(CenterAssigner(radius=1.0), box).keys() == {2}  # 8 px away is not less than 8 px


def test_a_radius_does_not_reach_out_of_the_box():
    assert positives(CenterAssigner(radius=3.0), [8, 8, 16, 16]).keys() == {6}


def test_both_ends_of_a_size_range_are_in_it():
    anchors = AnchorGrid.from_sizes([8, 16], [8, 16]).place((16, 16))
    box = [0, 0, 8, 8]  # from the centre (4, 4) of the fine cell 0: 4 px to every side
    for sizes in [(0, 4), (4, 9)]:
        ranges = ((sizes[0], sizes[1]), (100, 200))
        assert positives(CenterAssigner(size_ranges=ranges), box, anchors) == {0: 0}
    assert positives(CenterAssigner(size_ranges=((5, 9), (100, 200))), box, anchors) == {}
    assert positives(CenterAssigner(size_ranges=((0, 3), (100, 200))), box, anchors) == {}


def test_an_object_between_two_levels_trains_both():
    # 64 px to the farthest side from centres of both levels: torchvision has it on neither.
    anchors = AnchorGrid.from_sizes([8, 16], [8, 16]).place((16, 128))
    fine = positives(CenterAssigner(radius=None), [-60, -60, 64, 64], anchors)
    assert 0 in fine  # centre (4, 4): 64 px to the left
    coarse = positives(CenterAssigner(radius=None), [-56, -56, 64, 64], anchors)
    assert anchors.levels[1].start in coarse  # centre (8, 8): 64 px to the left


def test_levels_of_any_strides_leave_no_size_out():
    anchors = AnchorGrid.from_sizes([4, 32], [4, 32]).place((256, 256))
    for side in range(8, 200, 8):
        middle = 128.3
        box = [middle - side / 2, middle - side / 2, middle + side / 2, middle + side / 2]
        assert positives(CenterAssigner(radius=None), box, anchors), side


def test_the_smallest_box_keeps_an_anchor_and_the_first_of_equals():
    large, small = [0, 0, 24, 24], [8, 8, 18, 18]
    assert positives(CenterAssigner(), [large, small])[6] == 1
    assert positives(CenterAssigner(), [small, large])[6] == 0
    assert positives(CenterAssigner(), [[8, 8, 18, 18], [7, 7, 17, 17]])[6] == 0


def test_a_box_between_the_centres_gets_no_anchor():
    assert positives(CenterAssigner(), [5, 5, 11, 11]) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 0.0}, "radius must be above 0 and finite, or None, got 0.0"),
        ({"radius": math.inf}, "radius must be above 0 and finite, or None, got inf"),
        ({"size_ranges": ((0, 64), (64, 64))}, r"0 <= low < high, got \(64, 64\)"),
        ({"size_ranges": ((-1, 64),)}, r"0 <= low < high, got \(-1, 64\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CenterAssigner(**settings)


def test_every_level_needs_a_size_range():
    with pytest.raises(ValueError, match="2 size_ranges for 1 levels of anchors"):
        CenterAssigner(size_ranges=((0, 64), (64, math.inf)))(CELLS, [as_truth([0, 0, 8, 8])])
