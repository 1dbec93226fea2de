"""Max-IoU assignment by place, to the bit against all pairs at once, and how little it holds at a time."""

import math
import random

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from dethead import devices
from dethead.anchors import AnchorGrid
from dethead.assigners import MaxIoUAssigner, grid_pairs, ignoring, overlapping
from dethead.assigners import all_pairs as in_pieces
from dethead.boxes import box_areas, intersections, iou
from dethead.structures import BACKGROUND, IGNORE, Anchors, GroundTruth

RATIOS = ((1.0,), (0.5, 1.0, 2.0), (0.1, 3.7))
SCALES = ((1.0,), (1.0, 2 ** (1 / 3), 2 ** (2 / 3)))
THRESHOLDS = (0.0, 0.01, 0.1, 0.3, 0.4, 0.5, 0.7, 1.0)


def as_list(anchors):
    """The same anchors, but nobody can know that they stand in a grid."""
    count = len(anchors.boxes)
    return Anchors(anchors.boxes.clone(), (slice(0, count),), (1,), ((1, count),))


def all_pairs(anchors, truth, options):
    """The rule from the (M, A) matrix of one image, as it is written down."""
    boxes, regions = truth.boxes, truth.ignore_boxes
    best, box = torch.zeros(len(anchors)), torch.full((len(anchors),), BACKGROUND)
    positive = torch.zeros(len(anchors), dtype=torch.bool)
    if len(boxes):
        overlaps = iou(boxes[:, None], anchors)
        best = overlaps.amax(dim=0)
        box = (overlaps == best).to(torch.int8).argmax(dim=0)  # the first of equals
        positive = best >= options["positive_iou"]
        if options["low_quality"]:
            highest = overlaps.amax(dim=1, keepdim=True)
            positive |= ((overlaps == highest) & (highest > 0)).any(dim=0)
    covered = intersections(regions[:, None], anchors) / box_areas(anchors)
    ignored = (best >= options["negative_iou"]) | (covered >= options["ignore_overlap"]).any(dim=0)
    matched = torch.where(positive, box, torch.where(ignored, IGNORE, BACKGROUND))
    return matched, torch.where(positive, best, 0.0)


def draw_boxes(generator, count, height, width, kind):
    """Boxes inside, across and outside the image, of half a pixel to twice its size."""
    center = (torch.rand(count, 2, generator=generator) * 1.4 - 0.2) * torch.tensor([width, height])
    size = 0.5 * torch.exp(torch.rand(count, 2, generator=generator) * math.log(4 * max(height, width)))
    boxes = torch.cat([center - size / 2, center + size / 2], dim=1)
    if kind == "cells":  # many overlaps tie, some boxes are empty
        boxes = (boxes / 8).round() * 8
    if kind == "twice":
        boxes = torch.cat([boxes, boxes])
    if kind == "far":  # tiny ones at the origin, huge ones, ones that are far out
        boxes = boxes * 10.0 ** torch.randint(-3, 5, (count, 1), generator=generator)
    return boxes


def draw_scene(seed):
    """Anchors of some levels, a batch of images, and the assigner's options."""
    generator, choose = torch.Generator().manual_seed(seed), random.Random(seed)
    strides = sorted(choose.sample([4, 5, 7, 8, 16, 32, 64], choose.randint(1, 4)))
    sizes = [stride * choose.choice([0.3, 1, 2, 4, 4.3]) for stride in strides]
    ratios, scales = choose.choice(RATIOS), choose.choice(SCALES)
    height, width = choose.randint(20, 150), choose.randint(20, 150)
    anchors = AnchorGrid.from_sizes(strides, sizes, ratios=ratios, scales=scales).place((height, width))
    truth = []
    for _ in range(choose.randint(1, 3)):
        boxes, regions = (
            draw_boxes(generator, count, height, width, choose.choice(["plain", "cells", "twice", "far"]))
            for count in (choose.choice([0, 1, 2, 5, 20, 40]), choose.choice([0, 0, 1, 4]))
        )
        truth.append(GroundTruth.from_labels(boxes, torch.zeros(len(boxes), dtype=torch.int64), 1, regions))
    negative, positive = sorted(choose.choice([*THRESHOLDS, choose.random()]) for _ in range(2))
    options = {
        "positive_iou": positive,
        "negative_iou": negative,
        "low_quality": choose.random() < 0.7,
        "ignore_overlap": choose.choice([0.01, 0.5, 0.9, 1.0]),
    }
    return anchors, truth, options


def assert_exact(anchors, truth, options):
    found = MaxIoUAssigner(**options)(anchors, truth)
    for row, one in enumerate(truth):
        matched, overlaps = all_pairs(anchors.boxes, one, options)
        assert torch.equal(found.matched[row], matched)
        assert torch.equal(found.overlaps[row], overlaps)


@settings(max_examples=150)
@given(seed=st.integers(0, 10**6))
def test_a_grid_is_matched_as_if_all_pairs_were_compared(seed):
    anchors, truth, options = draw_scene(seed)
    assert grid_pairs.find_grid(anchors) is not None
    assert_exact(anchors, truth, options)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6))
def test_a_list_is_matched_as_if_all_pairs_were_compared(seed):
    anchors, truth, options = draw_scene(seed)
    assert_exact(as_list(anchors), truth, options)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), pairs=st.sampled_from([1, 10, 300]))
@example(seed=0, pairs=1)
def test_small_pieces_keep_every_match(seed, pairs):
    anchors, truth, options = draw_scene(seed)
    with pytest.MonkeyPatch.context() as patch:
        for module in (grid_pairs, overlapping, ignoring):
            patch.setattr(module, "CHUNK_PAIRS", pairs)
        assert_exact(anchors, truth, options)


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), pairs=st.sampled_from([10**4, 2**22]))
def test_where_nothing_waits_for_the_device_the_matches_are_the_same(seed, pairs):
    anchors, truth, options = draw_scene(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "BEHIND", ("cpu",))
        patch.setattr(in_pieces, "CHUNK_PAIRS", pairs)
        assert_exact(anchors, truth, options)


CELLS = AnchorGrid((16,), (((16.0, 16.0),),)).place((64, 64))


@pytest.mark.parametrize("anchors", [CELLS, as_list(CELLS)], ids=["grid", "list"])
def test_the_best_anchor_of_a_tiny_box_answers_for_the_large_box_that_it_overlaps_more(anchors):
    # Of 256 px^2 of the first anchor, the tiny box has 16: IoU 1/16. The large one has all: 256 / 2304 = 1/9.
    tiny, large = [4.0, 4, 8, 8], [0.0, 0, 48, 48]
    truth = GroundTruth.from_labels(torch.tensor([tiny, large]), torch.tensor([0, 0]), 1)
    found = MaxIoUAssigner(0.5, 0.4)(anchors, [truth])
    assert found.matched[0, 0] == 1
    assert found.overlaps[0, 0] == torch.tensor(256 / 2304)


@pytest.mark.parametrize("anchors", [CELLS, as_list(CELLS)], ids=["grid", "list"])
def test_of_boxes_that_overlap_a_low_anchor_equally_the_first_has_it(anchors):
    # Both have IoU 1/8 with the first anchor: 64 / 512, beside 0.8 with the second one, and 32 / 256.
    boxes = torch.tensor([[12.0, 0, 32, 16], [0.0, 0, 8, 4]])
    truth = GroundTruth.from_labels(boxes, torch.tensor([0, 0]), 1)
    assert MaxIoUAssigner(0.5, 0.4)(anchors, [truth]).matched[0, :2].tolist() == [0, 0]


@pytest.mark.parametrize("anchors", [CELLS, as_list(CELLS)], ids=["grid", "list"])
def test_without_thresholds_the_first_box_has_all_that_none_overlaps_and_no_box_has_none(anchors):
    box, none = torch.tensor([[0.0, 0, 16, 16]]), torch.zeros(0, 4)
    truth = [GroundTruth.from_labels(some, torch.zeros(len(some)).long(), 1) for some in (box, none)]
    found = MaxIoUAssigner(0.0, 0.0)(anchors, truth)
    assert (found.matched[0] == 0).all()
    assert (found.matched[1] == IGNORE).all()


@pytest.mark.parametrize("behind", [(), ("cpu",)])
def test_a_box_that_is_no_number_gets_nothing_and_disturbs_no_other(behind, monkeypatch):
    monkeypatch.setattr(devices, "BEHIND", behind)
    boxes = torch.tensor([[0.0, 0, 16, 16], [math.nan] * 4, [16.0, 0, 32, 16]])
    truth = GroundTruth.from_labels(boxes.nan_to_num(), torch.tensor([0, 0, 0]), 1)._replace(boxes=boxes)
    for anchors in (CELLS, as_list(CELLS)):
        matched = MaxIoUAssigner()(anchors, [truth]).matched[0]
        assert matched[:3].tolist() == [0, 2, BACKGROUND]


@pytest.mark.parametrize("anchors", [CELLS, as_list(CELLS)], ids=["grid", "list"])
@pytest.mark.parametrize("behind", [(), ("cpu",)])
def test_float64_stays_float64(behind, anchors, monkeypatch):
    monkeypatch.setattr(devices, "BEHIND", behind)
    anchors = anchors._replace(boxes=anchors.boxes.double())
    truth = GroundTruth.from_labels(torch.tensor([[0.1, 0, 16, 16]]).double(), torch.tensor([0]), 1)
    found = MaxIoUAssigner()(anchors, [truth]).overlaps[0]
    assert found.dtype == torch.float64
    assert torch.equal(found[0], iou(truth.boxes[0], anchors.boxes[0]))


class Largest(TorchDispatchMode):
    """Notes the most bytes in a tensor that anything gave."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor):
                self.bytes = max(self.bytes, one.untyped_storage().nbytes())
        return result


def test_no_tensor_is_larger_than_a_piece_or_a_number_for_each_anchor():
    # 300 boxes and 24 000 anchors are 7 million pairs, of which no tensor holds a fiftieth.
    grid = AnchorGrid.from_sizes([8, 16], [16, 64], ratios=RATIOS[1], scales=SCALES[1]).place((360, 360))
    boxes = draw_boxes(torch.Generator().manual_seed(0), 300, 360, 360, "plain")
    truth = GroundTruth.from_labels(boxes, torch.zeros(300, dtype=torch.int64), 1, boxes[:5])
    with Largest() as largest:
        MaxIoUAssigner()(grid, [truth])
    coordinates, numbers = 16 * grid_pairs.CHUNK_PAIRS, 8 * (len(grid.boxes) + 1)
    assert largest.bytes <= max(coordinates, numbers)
    assert max(coordinates, numbers) < 4 * len(boxes) * len(grid.boxes) / 50


def test_where_nothing_waits_no_tensor_is_larger_than_a_piece_or_a_number_for_each_anchor(monkeypatch):
    monkeypatch.setattr(devices, "BEHIND", ("cpu",))
    for module in (in_pieces, ignoring):
        monkeypatch.setattr(module, "CHUNK_PAIRS", 2**17)
    grid = AnchorGrid.from_sizes([8, 16], [16, 64], ratios=RATIOS[1], scales=SCALES[1]).place((360, 360))
    boxes = draw_boxes(torch.Generator().manual_seed(0), 300, 360, 360, "plain")
    truth = GroundTruth.from_labels(boxes, torch.zeros(300, dtype=torch.int64), 1, boxes[:5])
    with Largest() as largest:
        MaxIoUAssigner()(grid, [truth])
    corners, coordinates = 8 * 2**17, 16 * len(grid.boxes)
    assert largest.bytes <= max(corners, coordinates)
    assert max(corners, coordinates) < 4 * len(boxes) * len(grid.boxes) / 25
