"""Groups of anchors: each anchor is in one, and no bound is below an IoU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dethead.assigners.groups import GROUP, Groups
from dethead.boxes import iou


def random_boxes(count, seed, *, size=300.0, dtype=torch.float32):
    """(count, 4) boxes of a hundredth of ``size`` to ``size``, at most 8 : 1, some in one place."""
    generator = torch.Generator().manual_seed(seed)
    corner = (torch.rand(count, 2, generator=generator) * size).round()
    sides = size * 10 ** -(2 * torch.rand(count, 1, generator=generator)) * torch.ones(1, 2)
    sides = sides * 8 ** (torch.rand(count, 2, generator=generator) - 0.5)
    return torch.cat([corner, corner + sides], dim=1).to(dtype)


@pytest.mark.parametrize("count", [0, 1, GROUP - 1, GROUP, GROUP + 1, 1000])
def test_every_anchor_is_in_one_group(count):
    anchors = random_boxes(count, 0)
    groups = Groups.of(anchors)
    has_area = (groups.boxes[2:] > groups.boxes[:2]).all(dim=0)
    assert groups.rows[has_area].sort().values.tolist() == list(range(count))
    assert torch.equal(groups.boxes.movedim(0, -1)[has_area], anchors[groups.rows[has_area]])


TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 400),
    size=st.sampled_from([0.5, 300.0, 20000.0]),
    anchor_type=st.sampled_from(TYPES),
    box_type=st.sampled_from(TYPES),
)
def test_no_iou_is_above_the_bound_of_its_group(seed, count, size, anchor_type, box_type):
    anchors = random_boxes(count, seed, size=size, dtype=anchor_type)
    boxes = torch.cat([random_boxes(20, seed + 1, size=size, dtype=box_type), anchors[:20].to(box_type)])
    groups = Groups.of(anchors)
    overlaps = iou(boxes[:, None, None], groups.boxes.movedim(0, -1)).amax(dim=2)
    assert (groups._bounds(boxes) >= overlaps.nan_to_num(0)).all()  # areas overflow float16


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 400),
    lowest=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    pairs=st.sampled_from([1, 200, 10**6]),
)
def test_all_pairs_from_the_lowest_on_are_found_and_the_best_of_each_box(seed, count, lowest, pairs):
    anchors = random_boxes(count, seed)
    boxes = torch.cat([random_boxes(15, seed + 1), anchors[:5]])
    all_pairs = iou(boxes[:, None], anchors)
    limits = all_pairs.amax(dim=1, keepdim=True).clamp(max=lowest)
    found = torch.full_like(all_pairs, -1.0)
    for box, rows, values in Groups.of(anchors).above(boxes, lowest, and_best=True, pairs=pairs):
        assert (found[box, rows] == -1).all()
        found[box, rows] = values
    wanted = (all_pairs >= limits) & (all_pairs > 0)
    assert torch.equal(found[wanted], all_pairs[wanted])
    assert torch.equal(found[found >= 0], all_pairs[found >= 0])


def test_only_the_groups_near_a_box_are_looked_at(monkeypatch):
    anchors = torch.tensor(
        [[8.0 * x, 8.0 * y, 8.0 * x + 32, 8.0 * y + 32] for y in range(64) for x in range(64)]
    )
    looked = []
    compare = Groups._overlaps
    monkeypatch.setattr(Groups, "_overlaps", lambda *args: looked.append(len(args[2])) or compare(*args))
    list(Groups.of(anchors).above(anchors[2000:2001], 0.4, and_best=True, pairs=2**16))
    assert sum(looked) <= 1 + 4  # the likeliest, and no more than meet at a corner; there are 64


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 1, 2, 3, slice(None)])
@pytest.mark.parametrize("count", [10, 100])
def test_an_anchor_that_is_no_number_hides_no_other(count, place, value):
    anchors = torch.tensor([[0.0, 0, 20, 20]]).repeat(count, 1)
    anchors[3, place] = value
    box = torch.tensor([[0.0, 0, 20, 20]])
    pieces = Groups.of(anchors).above(box, 0.9, and_best=True, pairs=100)
    found = {int(row) for _, rows, values in pieces for row in rows[values > 0.9]}
    assert found == {*range(count)} - {3}
