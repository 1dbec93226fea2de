"""The parts that YOLOv3 alone has: a code that stays in its cell, and the cells that answer for a box."""

import pytest
import torch

from dethead.boxes import anchor_code, iou
from dethead.presets.yolov3 import GRID, CellAssigner, CellCodec, cell_box_loss
from dethead.structures import BACKGROUND, IGNORE, GroundTruth

CODEC = CellCodec(GRID)
# On stride 16, column 2, row 1: the cell from (32, 16) to (48, 32), with an anchor of 30 x 61
ANCHOR = torch.tensor([[40.0 - 15, 24 - 30.5, 40 + 15, 24 + 30.5]])


def boxes_around(x, y, width, height):
    return torch.tensor([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])


def truth_of(boxes):
    return GroundTruth.from_labels(boxes, torch.zeros(len(boxes), dtype=torch.int64), num_classes=1)


def test_decoding_by_hand():
    # sigmoid(ln 3) = 3/4 of the cell in x, 1/2 in y; twice as wide, as high
    found = CODEC.decode(torch.tensor([[3.0, 1.0, 2.0, 1.0]]).log(), ANCHOR)
    torch.testing.assert_close(found, boxes_around(32 + 12, 16 + 8, 60, 61))


def test_a_box_with_its_centre_in_the_cell_comes_back_from_its_code():
    for x, y in [(33.0, 17.0), (47.5, 24.0), (40.0, 31.0)]:
        box = boxes_around(x, y, 21, 90)
        torch.testing.assert_close(CODEC.decode(CODEC.encode(box, ANCHOR), ANCHOR), box, rtol=0, atol=1e-3)


def test_a_centre_outside_the_cell_is_moved_to_its_side():
    found = CODEC.decode(CODEC.encode(boxes_around(100.0, 24.0, 30, 61), ANCHOR), ANCHOR)
    torch.testing.assert_close(found, boxes_around(48.0, 24.0, 30, 61), rtol=0, atol=1e-3)


def test_every_anchor_finds_its_own_stride():
    anchors = GRID.place((64, 96))
    far = CODEC.decode(torch.tensor([50.0, 50, 0, 0]).expand_as(anchors.boxes), anchors.boxes)
    moved = ((far - anchors.boxes) * 2).mean(dim=1)
    for level, stride in zip(anchors.levels, anchors.strides, strict=True):
        torch.testing.assert_close(moved[level], torch.full_like(moved[level], stride), rtol=0, atol=1e-3)


def test_an_anchor_is_its_own_code_at_zero():
    assert anchor_code(CODEC) == pytest.approx((0, 0, 0, 0), abs=1e-6)
    assert CODEC.encode(ANCHOR, ANCHOR).tolist() == [pytest.approx([0, 0, 0, 0], abs=1e-6)]


def test_the_box_loss_is_least_at_the_target():
    box = boxes_around(44.0, 20.0, 50, 50)
    wanted = CODEC.encode(box, ANCHOR)
    best = cell_box_loss(wanted, box, ANCHOR, CODEC)
    for step in 0.1 * torch.cat([torch.eye(4), -torch.eye(4)]):
        assert cell_box_loss(wanted + step, box, ANCHOR, CODEC) > best


def plain_assignment(anchors, strides, boxes):
    """One image, by loops: MMDetection's GridAssigner with all thresholds at 0.5."""
    overlaps = iou(boxes[:, None], anchors)
    centers = [[((a[0] + a[2]) / 2).item(), ((a[1] + a[3]) / 2).item()] for a in anchors]
    matched = [IGNORE if overlaps[:, a].max() > 0.5 else BACKGROUND for a in range(len(anchors))]
    allowed = [[False] * len(anchors) for _ in boxes]
    for m, box in enumerate(boxes):
        x, y = ((box[0] + box[2]) / 2).item(), ((box[1] + box[3]) / 2).item()
        for a, (ax, ay) in enumerate(centers):
            stride = strides[a]
            allowed[m][a] = int(x / stride) == int(ax / stride) and int(y / stride) == int(ay / stride)
    for a in range(len(anchors)):
        own = [m for m in range(len(boxes)) if allowed[m][a]]
        if own and max(overlaps[m, a] for m in own) > 0.5:
            matched[a] = max(own, key=lambda m: overlaps[m, a].item())
    for m in range(len(boxes)):
        own = [a for a in range(len(anchors)) if allowed[m][a]]
        best = max(overlaps[m, a] for a in own)
        for a in own:
            if overlaps[m, a] == best:
                matched[a] = m
    return matched


@pytest.mark.parametrize("seed", range(3))
def test_anchors_of_the_cells_that_hold_a_centre_answer(seed):
    torch.manual_seed(seed)
    anchors = GRID.place((64, 64))
    strides = [
        s for level, s in zip(anchors.levels, anchors.strides, strict=True) for _ in anchors.boxes[level]
    ]
    corner = torch.rand(8, 2) * 30
    boxes = torch.cat([corner, corner + 8 + torch.rand(8, 2) * 24], dim=1)
    boxes = torch.cat([boxes, boxes[:1] + 0.25])  # shares its anchors with the first
    found = CellAssigner()(anchors, [truth_of(boxes)])
    wanted = plain_assignment(anchors.boxes, strides, boxes)
    assert found.matched[0].tolist() == wanted
    assert {BACKGROUND, IGNORE, 8} <= set(wanted)
    positive = found.matched[0] >= 0
    torch.testing.assert_close(
        found.overlaps[0, positive], iou(anchors.boxes[positive], boxes[found.matched[0, positive]])
    )


def test_every_level_may_answer_for_one_box():
    anchors = GRID.place((64, 64))
    box = boxes_around(20.0, 20.0, 31, 42)  # overlaps 33 x 23 and 30 x 61 by more than half
    matched = CellAssigner()(anchors, [truth_of(box)]).matched[0]
    assert [int((matched[level] >= 0).sum()) for level in anchors.levels] == [1, 1, 0]


def test_an_ignore_region_of_no_share_is_refused():
    with pytest.raises(ValueError, match=r"ignore_overlap must be in \(0, 1\], got 0"):
        CellAssigner(ignore_overlap=0)


def test_a_box_with_its_centre_outside_the_image_gets_no_anchor():
    matched = CellAssigner()(GRID.place((64, 64)), [truth_of(boxes_around(70.0, 20.0, 31, 42))]).matched
    assert (matched < 0).all()
