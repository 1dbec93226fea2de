"""The detector: pixels are normalised once, and its output lists the anchors it names."""

import re

import pytest
import torch
from torch import nn

from dethead.anchors import AnchorGrid
from dethead.detector import Detector
from dethead.enlarging import seen_strides
from dethead.heads import DetectionHead
from dethead.schemes import SoftmaxCE
from dethead.structures import HeadOutput

GRID = AnchorGrid.from_sizes([4, 8], [8, 16], ratios=[0.5, 2.0])


class MeanPixels(nn.Module):
    """A pyramid that averages pixels, so that its maps can be told by hand."""

    strides = (4, 8)
    channels = (3, 3)
    pixel_mean = (10.0, 20.0, 30.0)
    pixel_std = (2.0, 4.0, 5.0)

    def forward(self, images):
        self.seen = images
        return [nn.functional.avg_pool2d(images, stride) for stride in self.strides]


@pytest.fixture
def detector():
    return Detector(MeanPixels(), DetectionHead(3, 2, 3, SoftmaxCE(), depth=0), GRID)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_the_backbone_sees_normalised_pixels_whatever_their_type(detector, dtype):
    images = torch.tensor([12, 16, 30], dtype=dtype).reshape(1, 3, 1, 1).expand(2, 3, 8, 16)
    detector(images)
    # by hand: (12 - 10) / 2, (16 - 20) / 4, (30 - 30) / 5
    assert detector.backbone.seen[1, :, 7, 15].tolist() == [1, -1, 0]
    assert detector.backbone.seen.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixels_are_normalised_in_their_place_and_given_images_stay_as_they_are(detector, dtype, layout):
    images = (255 * torch.rand(2, 3, 8, 24)).to(dtype).contiguous(memory_format=layout)
    given = images.clone()
    detector(images)
    mean, std = torch.tensor([[10.0, 20.0, 30.0], [2.0, 4.0, 5.0]])[:, :, None, None]
    assert torch.equal(detector.backbone.seen, (given.float() - mean) / std)
    assert detector.backbone.seen.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, given)


@pytest.mark.parametrize("shape", [(3, 8, 16), (2, 1, 8, 16)])
def test_images_of_another_shape_are_refused(detector, shape):
    with pytest.raises(ValueError, match=rf"images must be \(B, 3, H, W\), got {re.escape(str(shape))}"):
        detector(torch.zeros(shape))


def test_training_and_evaluation_give_the_same_kind_of_output(detector):
    images = torch.randint(256, (2, 3, 16, 24), dtype=torch.uint8)
    trained, evaluated = detector.train()(images), detector.eval()(images)
    assert isinstance(trained, HeadOutput)
    torch.testing.assert_close(trained.raw, evaluated.raw)


def test_there_is_one_row_for_each_anchor(detector):
    images = torch.zeros(2, 3, 16, 24, dtype=torch.uint8)
    anchors = detector.anchors(images.shape[-2:])
    assert detector(images).raw.shape == (2, len(anchors.boxes), 8)
    assert len(anchors.boxes) == 2 * (4 * 6 + 2 * 3)


def test_rows_follow_the_anchors_they_belong_to(detector):
    # One bright cell of the fine level, row 2, column 5: its two anchors alone answer differently.
    images = torch.zeros(1, 3, 16, 24)
    images[..., 8:12, 20:24] = 255
    changed = (detector(images).raw != detector(torch.zeros_like(images)).raw).any(dim=2)[0]
    anchors = detector.anchors((16, 24))
    fine = anchors.boxes[anchors.levels[0]][changed[anchors.levels[0]]]
    assert ((fine[:, :2] + fine[:, 2:]) / 2).tolist() == [[22, 10], [22, 10]]


def test_the_means_belong_to_the_backbone_and_not_to_the_saved_state(detector):
    assert not [name for name in detector.state_dict() if "pixel" in name]


def test_the_means_move_with_the_detector(detector):
    moved = detector.to("meta")
    assert moved.pixel_mean.device.type == moved.pixel_std.device.type == "meta"


def test_strides_that_are_not_the_backbones_are_refused():
    with pytest.raises(ValueError, match=r"strides \(4, 8\), the anchors \(8, 16\)"):
        Detector(MeanPixels(), nn.Identity(), AnchorGrid.from_sizes([8, 16], [8, 16]))


# --- enlarged images


@pytest.fixture
def enlarging():
    grid = AnchorGrid.from_sizes([3.2, 6.4], [8, 16], ratios=[0.5, 2.0])
    return Detector(MeanPixels(), DetectionHead(3, 2, 3, SoftmaxCE(), depth=0), grid, enlarge=1.25)


def test_the_backbone_sees_the_enlarged_image_and_anchors_stay_on_the_image_as_it_is(enlarging):
    images = torch.randint(256, (2, 3, 32, 64), dtype=torch.uint8)
    output = enlarging(images)
    assert enlarging.backbone.seen.shape == (2, 3, 40, 80)
    anchors = enlarging.anchors((32, 64))
    assert anchors.cells == ((10, 20), (5, 10))
    assert output.raw.shape[1] == len(anchors.boxes) == 2 * (200 + 50)
    centers = (anchors.boxes[:, :2] + anchors.boxes[:, 2:]) / 2
    assert centers.amax(dim=0).tolist() == pytest.approx([64 - 1.6, 32 - 1.6])


def test_rows_of_an_enlarging_detector_follow_the_places_of_their_anchors(enlarging):
    images = torch.zeros(1, 3, 32, 64)
    images[..., 16:, 48:] = 255  # the last quarter of the width, the lower half
    changed = (enlarging(images).raw != enlarging(torch.zeros_like(images)).raw).any(dim=2)[0]
    boxes = enlarging.anchors((32, 64)).boxes
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).unbind(1)
    # a cell on the border sees a part of it, and bilinear pixels half a one further
    assert changed[(x > 48) & (y > 16)].all()
    assert not changed[(x < 48 - 3.2 - 1) | (y < 16 - 3.2 - 1)].any()


@pytest.mark.parametrize("side", [63, 64, 65, 77, 90])
@pytest.mark.parametrize("factor", [1.1, 1.25, 4 / 3, 1.3333, 1.6, 1.7])
def test_started_cells_of_an_enlarged_image_count(side, factor):
    class RoundingUp(MeanPixels):
        def forward(self, images):
            self.seen = images
            return [nn.functional.avg_pool2d(images, s, ceil_mode=True) for s in self.strides]

    grid = AnchorGrid.from_sizes(seen_strides((4, 8), factor), [8, 16], ratios=[0.5, 2.0])
    detector = Detector(RoundingUp(), DetectionHead(3, 2, 3, SoftmaxCE(), depth=0), grid, enlarge=factor)
    rows = detector(torch.zeros(1, 3, side, side)).raw.shape[1]
    assert rows == len(detector.anchors((side, side)).boxes)


def test_enlarging_is_pytorchs_bilinear_interpolation(enlarging):
    images = torch.randint(256, (1, 3, 32, 64), dtype=torch.uint8)
    enlarging(images)
    plain = (images - torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1)) / torch.tensor([2.0, 4.0, 5.0]).view(
        3, 1, 1
    )
    wanted = nn.functional.interpolate(plain, scale_factor=1.25, mode="bilinear")
    torch.testing.assert_close(enlarging.backbone.seen, wanted)


def test_an_enlarging_detector_is_compiled_as_a_whole(enlarging):
    images = torch.randint(256, (1, 3, 32, 64), dtype=torch.uint8)
    compiled = torch.compile(enlarging, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images).raw, enlarging(images).raw)


def test_the_copy_for_detection_enlarges_as_well(enlarging):
    images = torch.randint(256, (1, 3, 32, 64), dtype=torch.uint8)
    copy = enlarging.for_detection((32, 64))
    torch.testing.assert_close(copy(images).raw, enlarging.eval()(images).raw)


@pytest.mark.parametrize("factor", [0.5, 0.0, -1.0, float("inf"), float("nan")])
def test_a_factor_below_1_is_refused(factor):
    with pytest.raises(ValueError, match="enlarge must be at least 1, got"):
        Detector(MeanPixels(), nn.Identity(), GRID, enlarge=factor)


def test_anchors_on_the_strides_of_the_enlarged_image_are_refused():
    with pytest.raises(ValueError, match=r"strides \(3.2, 6.4\), the anchors \(4, 8\)"):
        Detector(MeanPixels(), nn.Identity(), GRID, enlarge=1.25)


# --- the copy for detection


@pytest.fixture
def normalising():
    head = DetectionHead(3, 2, 3, SoftmaxCE(), depth=1, norm="batch")
    norm = head.tower[0][1]
    torch.nn.init.normal_(norm.running_mean)
    torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    return Detector(MeanPixels(), head, GRID).eval()


def test_the_copy_for_detection_has_no_normalisation_and_the_same_output(normalising):
    images = torch.randint(256, (2, 3, 16, 24), dtype=torch.uint8)
    copy = normalising.for_detection((16, 24))
    assert isinstance(copy.head.tower[0][1], nn.Identity)
    torch.testing.assert_close(copy(images).raw, normalising(images).raw)


def test_the_copy_for_detection_places_the_same_anchors(normalising):
    found, wanted = normalising.for_detection((16, 24)).anchors((16, 24)), normalising.anchors((16, 24))
    assert torch.equal(found.boxes, wanted.boxes)


def test_the_copy_for_detection_is_without_what_a_training_wraps_around_the_detector(normalising):
    images = torch.randint(256, (1, 3, 16, 24), dtype=torch.uint8)
    wanted = normalising(images).raw
    normalising.forward = lambda images: pytest.fail("the copy still calls the detector in training")
    torch.testing.assert_close(normalising.for_detection((16, 24))(images).raw, wanted)


def test_the_copy_for_detection_keeps_the_precision_of_the_detector(normalising):
    images = torch.randint(256, (1, 3, 16, 24), dtype=torch.uint8)
    assert normalising.double().for_detection((16, 24))(images).raw.dtype == torch.float64
