"""Which anchors are taken for a grid, and that no pair is missed in one."""

import gc
import itertools
import weakref

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from dethead.anchors import AnchorGrid
from dethead.assigners import grid_pairs
from dethead.assigners.geometry import find_centers
from dethead.assigners.grid_pairs import find_grid
from dethead.boxes import box_areas, intersections, iou
from dethead.structures import Anchors

ANCHORS = AnchorGrid.from_sizes([8, 16], [20, 36], ratios=[0.5, 1, 2]).place((70, 101))
GRID = find_grid(ANCHORS)


def copied(anchors=ANCHORS):
    return anchors._replace(boxes=anchors.boxes.clone())


def random_boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 120 - 10
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 60], dim=1)


def lattice_of_every_anchor():
    return GRID.numbers(torch.arange(len(ANCHORS.boxes)))[0]


def test_a_grid_has_a_lattice_for_each_level_and_shape():
    sizes = torch.tensor([shape for level in (20.0, 36.0) for shape in _shapes(level)])
    torch.testing.assert_close(GRID.size, sizes)
    assert GRID.cells.tolist() == [[13, 9]] * 3 + [[7, 5]] * 3
    torch.testing.assert_close(GRID.center, torch.tensor([[4.0, 4.0]] * 3 + [[8.0, 8.0]] * 3))
    assert GRID.first.tolist() == [0, 1, 2, 351, 352, 353]


def _shapes(size):
    return [(size / ratio**0.5, size * ratio**0.5) for ratio in (0.5, 1, 2)]


def test_torchvisions_anchors_are_recognised_though_they_stand_on_corners():
    generator = AnchorGenerator(((32, 40), (64, 80)), ((0.5, 1.0, 2.0),) * 2)
    maps = [torch.zeros(1, 1, 8, 12), torch.zeros(1, 1, 4, 6)]
    boxes = generator(ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)]), maps)[0]
    levels = (slice(0, 576), slice(576, 720))
    grid = find_grid(Anchors(boxes, levels, (8, 16), ((8, 12), (4, 6))))
    assert grid is not None
    assert not grid.center.any()


def _one_moved(anchors):
    anchors.boxes[77] += 0.01
    return anchors


def _one_wider(anchors):
    anchors.boxes[77, 2] += 0.01
    return anchors


def _all_flat(anchors):
    anchors.boxes[:, 3] = anchors.boxes[:, 1]
    return anchors


@pytest.mark.parametrize(
    "change",
    [
        _one_moved,
        _one_wider,
        _all_flat,
        lambda a: a._replace(strides=(8, 15)),
        lambda a: a._replace(cells=((13, 9), a.cells[1])),
        lambda a: a._replace(levels=a.levels[::-1]),
        lambda a: a._replace(boxes=torch.cat([a.boxes, a.boxes[-1:]])),
        lambda a: a._replace(boxes=a.boxes.half()),
        lambda a: a._replace(boxes=a.boxes + 1e7),
        lambda a: Anchors(a.boxes[:0], (slice(0, 0),), (8,), ((0, 0),)),
        lambda a: Anchors(a.boxes[:0], (), (), ()),
    ],
)
def test_anything_else_is_no_grid(change):
    assert find_grid(change(copied())) is None


def test_anchors_that_are_written_to_are_looked_at_anew():
    anchors = copied()
    assert find_grid(anchors) is not None
    anchors.boxes[5, 0] += 3
    assert find_grid(anchors) is None


def test_anchors_are_looked_at_once_and_forgotten_with_their_tensor():
    anchors = copied()
    for find in (find_grid, find_centers):
        assert find(anchors) is find(anchors)
    boxes = weakref.ref(anchors.boxes)
    del anchors
    gc.collect()
    assert boxes() is None


def test_numbers_count_anchors_lattice_by_lattice_row_by_row():
    lattice, number = GRID.numbers(torch.arange(len(ANCHORS.boxes)))
    assert sorted(number.tolist()) == list(range(len(ANCHORS.boxes)))
    assert (lattice[number.argsort()].diff() >= 0).all()
    assert number[torch.tensor([0, 3, 39, 1, 351])].tolist() == [0, 1, 13, 117, 351]


def test_no_anchor_of_its_lattice_overlaps_a_box_more_than_the_nearest():
    boxes = random_boxes(50)
    nearest = GRID.nearest(boxes)
    assert torch.equal(lattice_of_every_anchor()[nearest], torch.arange(6).expand(50, 6))
    overlaps, lattice = iou(boxes[:, None], ANCHORS.boxes), lattice_of_every_anchor()
    best = torch.stack([overlaps[:, lattice == one].amax(dim=1) for one in range(6)], dim=1)
    torch.testing.assert_close(overlaps.gather(1, nearest), best)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.4])
def test_blocks_hold_every_pair_with_its_share_and_few_others(share):
    boxes = random_boxes(60)
    areas = box_areas(boxes)
    wanted = intersections(boxes[:, None], ANCHORS.boxes)
    wanted = (wanted > 0) & (wanted >= share * (areas[:, None] + box_areas(ANCHORS.boxes)))
    found = torch.zeros_like(wanted)
    for blocks in GRID.blocks(boxes, torch.full((60, 6), share), areas):
        found[GRID.anchors(blocks)] = True
    assert wanted.any()
    assert not (wanted & ~found).any()
    assert found.sum() < 2.5 * wanted.sum()


def test_members_are_the_anchors_of_a_block_that_are_listed():
    boxes, areas = random_boxes(20), random_boxes(20)[:, 0] * 0
    listed = torch.randperm(len(ANCHORS.boxes))[:100]
    number = GRID.numbers(listed)[1]
    listed = listed[number.argsort()]
    for blocks in GRID.blocks(boxes, torch.full((20, 6), 0.2), areas):
        box, anchors = GRID.anchors(blocks)
        some = torch.isin(anchors, listed)
        wanted = set(zip(box[some].tolist(), anchors[some].tolist(), strict=True))
        box, rows = GRID.members(blocks, blocks.box * 0, number.sort().values)
        assert set(zip(box.tolist(), listed[rows].tolist(), strict=True)) == wanted
        assert wanted


@pytest.mark.parametrize("most", [1, 40, 10**6])
def test_blocks_come_in_pieces_of_whole_boxes(monkeypatch, most):
    monkeypatch.setattr(grid_pairs, "CHUNK_PAIRS", most)
    boxes = random_boxes(30)
    shares = torch.full((30, 6), 0.3)
    pieces = [GRID.anchors(blocks)[0] for blocks in GRID.blocks(boxes, shares, box_areas(boxes))]
    together = torch.cat(pieces)
    assert (together.diff() >= 0).all()
    for piece, following in itertools.pairwise(pieces):
        assert not torch.isin(piece, following).any()
    largest_box = int(together.bincount().max())
    assert max(map(len, pieces)) <= max(most, largest_box)
