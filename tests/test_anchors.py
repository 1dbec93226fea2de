"""Where anchors stand, and in which order they are listed."""

import math

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from dethead.anchors import AnchorGrid

TWO_LEVELS = AnchorGrid((4, 8), (((4.0, 2.0), (2.0, 4.0)), ((8.0, 8.0), (16.0, 4.0))))


def centers(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def test_anchors_by_hand_run_level_row_column_shape():
    anchors = TWO_LEVELS.place((8, 8))
    fine = [
        [[0, 1, 4, 3], [1, 0, 3, 4]],  # row 0, column 0: centre (2, 2)
        [[4, 1, 8, 3], [5, 0, 7, 4]],  # row 0, column 1: centre (6, 2)
        [[0, 5, 4, 7], [1, 4, 3, 8]],  # row 1, column 0: centre (2, 6)
        [[4, 5, 8, 7], [5, 4, 7, 8]],
    ]
    coarse = [[0, 0, 8, 8], [-4, 2, 12, 6]]  # not clipped to the image
    assert anchors.boxes.tolist() == [box for cell in fine for box in cell] + coarse


def test_levels_strides_and_cells_describe_the_list():
    anchors = TWO_LEVELS.place((8, 16))
    assert anchors.cells == ((2, 4), (1, 2))
    assert anchors.strides == (4, 8)
    assert anchors.levels == (slice(0, 16), slice(16, 20))
    assert anchors.boxes.shape == (20, 4)


def test_a_started_cell_counts():
    assert AnchorGrid((8,), (((8.0, 8.0),),)).cells((17, 8)) == ((3, 1),)


@pytest.mark.parametrize("stride", [8, 16, 32, 64])
@pytest.mark.parametrize("tenths", range(11, 40))
def test_strides_that_are_not_whole_fill_the_side_that_they_divide(stride, tenths):
    # tenths * stride px, enlarged by 1 / tenths of ten: 10 cells in whole numbers, whatever floats make of it
    grid = AnchorGrid((stride / (tenths / 10),), (((4.0, 4.0),),))
    for cells in range(tenths, 60 * tenths, tenths):  # sides that are whole
        side = cells * stride * 10 // tenths
        assert grid.cells((side, side)) == ((cells, cells),)
        assert grid.cells((side + 1, side - 1)) == ((cells + 1, cells),)


def test_one_shape_per_cell_is_one_anchor_per_cell():
    grid = AnchorGrid.from_sizes([8, 16], [32, 64])
    assert grid.anchors_per_cell == 1
    anchors = grid.place((32, 48))
    assert len(anchors.boxes) == 4 * 6 + 2 * 3
    wanted = [[x, y] for y in (8, 24) for x in (8, 24, 40)]
    assert centers(anchors.boxes[anchors.levels[1]]).tolist() == wanted


def test_from_sizes_runs_scale_then_ratio_and_ratio_is_height_over_width():
    grid = AnchorGrid.from_sizes([8], [32], ratios=[0.25, 4.0], scales=[1, 2])
    assert grid.shapes == (((64, 16), (16, 64), (128, 32), (32, 128)),)


def test_the_size_is_the_root_of_the_area_whatever_the_ratio():
    scales, ratios = [1, 2 ** (1 / 3), 2 ** (2 / 3)], [0.5, 1, 2]
    shapes = AnchorGrid.from_sizes([8], [32], ratios=ratios, scales=scales).shapes[0]
    sizes = [math.sqrt(width * height) for width, height in shapes]
    assert sizes == pytest.approx([32 * scale for scale in scales for _ in ratios])


def test_a_retinanet_grid_is_torchvisions_half_a_cell_further():
    # Known differences: torchvision centres on the cell's corner, rounds to whole pixels (0.5 px at
    # most) and lists ratio before scale; its RetinaNet truncates sizes, hence 40 and 50.
    sizes, ratios, strides = [32, 40, 50], [0.5, 1.0, 2.0], (8, 16)
    peer = AnchorGenerator(tuple(tuple(s * k for s in sizes) for k in (1, 2)), (tuple(ratios),) * 2)
    height, width = 32, 64
    maps = [torch.zeros(1, 1, height // s, width // s) for s in strides]
    theirs = peer(ImageList(torch.zeros(1, 3, height, width), [(height, width)]), maps)[0]
    theirs = theirs.reshape(-1, 3, 3, 4).transpose(1, 2).reshape(-1, 4)
    grid = AnchorGrid.from_sizes(strides, [32, 64], ratios=ratios, scales=[s / 32 for s in sizes])
    ours = grid.place((height, width))
    half_a_cell = torch.cat(
        [
            torch.full((s.stop - s.start, 1), stride / 2)
            for s, stride in zip(ours.levels, strides, strict=True)
        ]
    )
    torch.testing.assert_close(ours.boxes - half_a_cell, theirs, rtol=0, atol=0.501)


def test_square_even_anchors_are_exactly_torchvisions_half_a_cell_further():
    peer = AnchorGenerator(((16,),), ((1.0,),))
    theirs = peer(ImageList(torch.zeros(1, 3, 24, 40), [(24, 40)]), [torch.zeros(1, 1, 3, 5)])[0]
    assert torch.equal(AnchorGrid.from_sizes([8], [16]).place((24, 40)).boxes - 4, theirs)


def test_asking_again_gives_the_same_tensor():
    assert TWO_LEVELS.place((16, 16)).boxes is TWO_LEVELS.place((16, 16)).boxes


def test_anchors_first_placed_in_inference_mode_can_be_trained_with():
    grid = AnchorGrid((8,), (((5.0, 5.0),),))
    with torch.inference_mode():
        grid.place((8, 8))
    factor = torch.ones(1, 4, requires_grad=True)
    (factor * grid.place((8, 8)).boxes).sum().backward()
    assert factor.grad.tolist() == [[1.5, 1.5, 6.5, 6.5]]


@pytest.mark.parametrize(
    ("strides", "shapes", "message"),
    [
        ((8,), (), "1 strides for 0 levels"),
        ((), (), "0 strides for 0 levels"),
        ((8, 16), (((1.0, 1.0),), ((1.0, 1.0), (2.0, 2.0))), r"levels differ .* \[1, 2\]"),
        ((8,), ((),), r"levels differ .* \[0\]"),
        ((8,), (((1.0, 0.0),),), r"above 0, got \(1.0, 0.0\)"),
        ((8,), (((math.inf, 1.0),),), r"above 0, got \(inf, 1.0\)"),
    ],
)
def test_grids_that_make_no_sense_are_refused(strides, shapes, message):
    with pytest.raises(ValueError, match=message):
        AnchorGrid(strides, shapes)


@pytest.mark.parametrize("stride", [0, -8])
def test_a_stride_below_a_pixel_is_refused(stride):
    with pytest.raises(ValueError, match=f"a stride must be at least 1 px, got {stride}"):
        AnchorGrid((stride,), (((1.0, 1.0),),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [0]}, "a size of anchors must be finite and above 0, got 0"),
        ({"sizes": [32], "ratios": [1.0, 0.0]}, "a ratio of anchors must be finite and above 0, got 0.0"),
        ({"sizes": [32], "ratios": [-1.0]}, "a ratio .* got -1.0"),
        ({"sizes": [32], "scales": [math.nan]}, "a scale .* got nan"),
    ],
)
def test_sizes_that_make_no_anchors_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AnchorGrid.from_sizes([8], **options)


def test_an_image_size_may_be_a_list():
    grid = AnchorGrid((8,), (((4.0, 2.0),),))
    assert grid.place([8, 16]) is grid.place((8, 16))
