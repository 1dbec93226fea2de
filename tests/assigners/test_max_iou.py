"""Assignment by overlap against torchvision's Matcher, hand-made scenes, and its memory bound."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from dethead import devices
from dethead.anchors import AnchorGrid
from dethead.assigners import MaxIoUAssigner, all_pairs, grid_pairs, ignoring, overlapping
from dethead.structures import BACKGROUND, IGNORE, Anchors, GroundTruth

GRID = AnchorGrid.from_sizes([8, 16], [16, 32], ratios=[0.5, 1, 2]).place((64, 96))
NOTHING = torch.zeros(0, 4)


@pytest.fixture(scope="module", params=[(), ("cpu",)], ids=["asked", "behind"], autouse=True)
def _device(request):
    """Every test twice: with a CPU that is asked which pairs overlap, and as where nobody waits for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "BEHIND", request.param)
        yield


def as_anchors(boxes):
    boxes = torch.as_tensor(boxes, dtype=torch.float32)
    return Anchors(boxes, (slice(0, len(boxes)),), (1,), ((1, len(boxes)),))


def as_truth(boxes, ignore_boxes=NOTHING):
    boxes = torch.as_tensor(boxes, dtype=torch.float32)
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return GroundTruth.from_labels(boxes, labels, 1, torch.as_tensor(ignore_boxes, dtype=torch.float32))


def random_boxes(count, whole=False, generator=None):
    """Boxes that touch the 64 x 96 image; whole pixels make equal overlaps common."""
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([80.0, 50.0])
    boxes = torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 40], dim=1)
    return (boxes / 8).round() * 8 + torch.tensor([0.0, 0, 8, 8]) if whole else boxes


def peer(boxes, anchors, positive, negative, low_quality):
    return Matcher(positive, negative, low_quality)(box_iou(boxes, anchors))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 12),
    whole=st.booleans(),
    limits=st.sampled_from([(0.5, 0.4), (0.7, 0.3), (0.5, 0.5), (0.6, 0.1), (0.95, 0.9)]),
    low_quality=st.booleans(),
)
def test_matches_are_torchvisions_with_and_without_ties(seed, count, whole, limits, low_quality):
    boxes = random_boxes(count, whole, torch.Generator().manual_seed(seed))
    boxes = torch.cat([boxes, boxes[:1]])  # the first box twice: all of its overlaps tie
    assignment = MaxIoUAssigner(*limits, low_quality)(GRID, [as_truth(boxes)])
    assert torch.equal(assignment.matched[0], peer(boxes, GRID.boxes, *limits, low_quality))


def test_thresholds_by_hand():
    # IoU with a 10 x 10 box of the same corner and width h: h / 10 exactly
    anchors = as_anchors([[0, 0, 10, 4], [0, 0, 10, 3.9], [0, 0, 10, 5], [0, 0, 10, 10], [50, 50, 60, 60]])
    assignment = MaxIoUAssigner(0.5, 0.4)(anchors, [as_truth([[0, 0, 10, 10]])])
    assert assignment.matched.tolist() == [[IGNORE, BACKGROUND, 0, 0, BACKGROUND]]
    assert assignment.overlaps[0].tolist() == pytest.approx([0, 0, 0.5, 1, 0])


def test_a_box_that_no_anchor_fits_gets_all_its_best_anchors():
    anchors = as_anchors([[0, 0, 10, 10], [20, 0, 30, 10], [100, 100, 110, 110]])
    boxes = [[9, 0, 21, 10]]  # one column of each of the first two anchors
    assert MaxIoUAssigner()(anchors, [as_truth(boxes)]).matched.tolist() == [[0, 0, BACKGROUND]]
    plain = MaxIoUAssigner(low_quality=False)(anchors, [as_truth(boxes)])
    assert plain.matched.tolist() == [[BACKGROUND] * 3]


def test_the_best_anchor_of_a_box_answers_for_the_anchors_own_best_box():
    # Box 1 has but anchor 0, which overlaps box 0 more: it answers for box 0, as in torchvision.
    anchors = as_anchors([[0, 0, 10, 10]])
    boxes = [[0, 0, 10, 9], [0, 8, 10, 18]]
    assert MaxIoUAssigner()(anchors, [as_truth(boxes)]).matched.tolist() == [[0]]


def test_a_box_that_no_anchor_touches_gets_none():
    anchors = as_anchors([[0, 0, 10, 10], [10, 0, 20, 10]])
    assert MaxIoUAssigner()(anchors, [as_truth([[50, 50, 60, 60]])]).matched.tolist() == [[BACKGROUND] * 2]


def test_overlaps_are_those_with_the_matched_box_and_zero_elsewhere():
    boxes = random_boxes(6)
    assignment = MaxIoUAssigner()(GRID, [as_truth(boxes)])
    matched, overlaps = assignment.matched[0], assignment.overlaps[0]
    positive = matched >= 0
    wanted = box_iou(boxes, GRID.boxes)[matched[positive], positive.nonzero()[:, 0]]
    torch.testing.assert_close(overlaps[positive], wanted)
    assert positive.any()
    assert not overlaps[~positive].any()


def test_each_image_has_its_own_truth():
    boxes = [random_boxes(3), NOTHING, random_boxes(5)]
    together = MaxIoUAssigner()(GRID, [as_truth(some) for some in boxes])
    for row, some in enumerate(boxes):
        alone = MaxIoUAssigner()(GRID, [as_truth(some)])
        assert torch.equal(together.matched[row], alone.matched[0])


REGION = [[0, 0, 40, 10]]
ANCHORS = as_anchors(
    [
        [0, 0, 10, 10],  # inside
        [38, 0, 42, 10],  # half inside
        [39, 0, 43, 10],  # a quarter inside
        [0, 0, 40, 40],  # holds the region; a quarter of its area is inside
        [60, 0, 70, 10],
    ]
)
INSIDE = [IGNORE, IGNORE, BACKGROUND, BACKGROUND, BACKGROUND]


def test_ignore_regions_are_measured_by_the_anchors_area_also_where_nothing_else_is():
    assert MaxIoUAssigner()(ANCHORS, [as_truth(NOTHING, REGION)]).matched.tolist() == [INSIDE]


def test_the_share_that_ignores_an_anchor_is_a_setting():
    strict = MaxIoUAssigner(ignore_overlap=0.9)(ANCHORS, [as_truth(NOTHING, REGION)])
    assert strict.matched.tolist() == [[IGNORE] + [BACKGROUND] * 4]
    loose = MaxIoUAssigner(ignore_overlap=0.25)(ANCHORS, [as_truth(NOTHING, REGION)])
    assert loose.matched.tolist() == [[IGNORE] * 4 + [BACKGROUND]]


def test_each_region_counts_alone():
    # Two regions cover 40 % each: none of them has half of the anchor.
    regions = [[0, 0, 4, 10], [6, 0, 10, 10]]
    anchors = as_anchors([[0, 0, 10, 10]])
    assert MaxIoUAssigner()(anchors, [as_truth(NOTHING, regions)]).matched.tolist() == [[BACKGROUND]]


def test_positives_inside_a_region_stay_positive():
    truth = as_truth([[0, 0, 10, 10]], REGION)
    assert MaxIoUAssigner()(ANCHORS, [truth]).matched.tolist() == [[0, *INSIDE[1:]]]


def test_low_quality_positives_inside_a_region_stay_positive():
    truth = as_truth([[1, 1, 4, 4]], REGION)  # 9 % of the first anchor
    assert MaxIoUAssigner()(ANCHORS, [truth]).matched[0, 0] == 0


def test_regions_of_one_image_do_not_reach_another():
    truth = [as_truth(NOTHING, REGION), as_truth(NOTHING)]
    assert MaxIoUAssigner()(ANCHORS, truth).matched.tolist() == [INSIDE, [BACKGROUND] * 5]


def test_an_image_without_anything_is_background():
    assignment = MaxIoUAssigner()(GRID, [as_truth(NOTHING)])
    assert (assignment.matched == BACKGROUND).all()
    assert not assignment.overlaps.any()


def test_matches_are_int64_overlaps_float32_and_there_is_no_quality():
    for boxes in (NOTHING, random_boxes(3)):
        assignment = MaxIoUAssigner()(GRID, [as_truth(boxes)])
        assert assignment.matched.dtype == torch.int64
        assert assignment.overlaps.dtype == torch.float32
        assert assignment.quality is None


def test_there_is_no_gradient():
    boxes = random_boxes(3).requires_grad_()
    truth = as_truth(random_boxes(3))._replace(boxes=boxes)
    assert not MaxIoUAssigner()(GRID, [truth]).overlaps.requires_grad


@pytest.mark.parametrize("pairs", [1, 3 * len(GRID.boxes)])
@pytest.mark.parametrize("anchors", [GRID, as_anchors(GRID.boxes)], ids=["grid", "list"])
def test_looking_in_chunks_changes_nothing(monkeypatch, pairs, anchors):
    boxes = random_boxes(10, whole=True)
    truth = as_truth(torch.cat([boxes, boxes]), random_boxes(7))
    whole = MaxIoUAssigner()(anchors, [truth])
    for module in (ignoring, grid_pairs, overlapping, all_pairs):
        monkeypatch.setattr(module, "CHUNK_PAIRS", pairs)
    parts = MaxIoUAssigner()(anchors, [truth])
    assert torch.equal(whole.matched, parts.matched)
    assert torch.equal(whole.overlaps, parts.overlaps)


MEMORY = """
import resource, sys, torch
from dethead import devices
from dethead.assigners import MaxIoUAssigner
from dethead.structures import Anchors, GroundTruth

def boxes(count):
    corner = torch.rand(count, 2) * 1000
    return torch.cat([corner, corner + 50], dim=1)

def match(count):
    labels = torch.zeros(count, dtype=torch.int64)
    MaxIoUAssigner()(anchors, [GroundTruth.from_labels(boxes(count), labels, 1, boxes(count // 5))])

devices.BEHIND = sys.argv[1:]
torch.set_num_threads(1)
anchors = Anchors(boxes(120_000), (slice(0, 120_000),), (1,), ((1, 120_000),))
match(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
match(500)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_500_boxes_and_120_000_anchors_stay_within_300_mb():
    # All pairs in float32 would be 240 MB for one matrix, and IoU needs several.
    command = [sys.executable, "-c", MEMORY, *devices.BEHIND]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) / 1024 < 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positive_iou": 0.3}, "negative_iou 0.4, positive_iou 0.3"),
        ({"positive_iou": 1.1}, "positive_iou 1.1"),
        ({"negative_iou": -0.1}, "negative_iou -0.1"),
        ({"ignore_overlap": 0.0}, r"ignore_overlap must be in \(0, 1\], got 0.0"),
        ({"ignore_overlap": 1.5}, r"ignore_overlap must be in \(0, 1\], got 1.5"),
    ],
)
def test_limits_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MaxIoUAssigner(**options)
