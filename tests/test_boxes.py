"""Box arithmetic against hand-made numbers and torchvision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou, complete_box_iou, distance_box_iou, generalized_box_iou

from dethead.boxes import BoxCodec, at_least_float32, box_areas, ciou, diou, giou, intersections, iou

R_CNN = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count, dtype=torch.float32):
    corner = torch.rand(count, 2, dtype=dtype) * 300
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, dtype=dtype) * 200], dim=1)


side = st.floats(4, 250, width=32)
place = st.floats(-500, 1000, width=32)
box = st.tuples(place, place, side, side).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


def test_area_is_width_times_height():
    assert box_areas(torch.tensor([[1.0, 2.0, 4.0, 7.0], [3.0, 3.0, 3.0, 9.0]])).tolist() == [15, 0]


def test_boxes_that_only_touch_or_lie_apart_do_not_intersect():
    one = torch.tensor([0.0, 0.0, 2.0, 2.0])
    others = torch.tensor([[2.0, 0, 4, 2], [5.0, 5, 6, 6], [1.0, 1.0, 3.0, 3.0]])
    assert intersections(one, others).tolist() == [0, 0, 1]


def test_a_box_shifted_by_9_of_its_40_px_overlaps_by_31_of_49():
    one = torch.tensor([0.0, 0.0, 40.0, 40.0])
    assert iou(one, one + torch.tensor([9.0, 0, 9, 0])).item() == pytest.approx(31 / 49)


def test_all_pairs_have_the_iou_of_torchvision():
    first, second = random_boxes(20), random_boxes(30)
    torch.testing.assert_close(iou(first[:, None], second), box_iou(first, second), rtol=1e-6, atol=1e-7)


def test_two_boxes_without_area_have_iou_zero_and_not_nan():
    point = torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert iou(point, point).item() == 0


@pytest.mark.parametrize(
    ("ours", "theirs"), [(giou, generalized_box_iou), (diou, distance_box_iou), (ciou, complete_box_iou)]
)
def test_the_refined_overlaps_of_all_pairs_are_those_of_torchvision(ours, theirs):
    first, second = random_boxes(20, torch.float64), random_boxes(30, torch.float64)
    # torchvision adds 1e-7 to its divisors
    torch.testing.assert_close(ours(first[:, None], second), theirs(first, second), rtol=0, atol=1e-7)


def test_giou_by_hand():
    # side by side with a gap of 2: the enclosing box has area 4 and is half empty
    apart = torch.tensor([[0.0, 0, 1, 1], [3.0, 0, 4, 1]])
    # the inner box covers a quarter of the outer, which is the enclosing box: IoU alone
    nested = torch.tensor([[0.0, 0, 4, 4], [1.0, 1, 3, 3]])
    assert giou(*apart).item() == -0.5
    assert giou(*nested).item() == 0.25


def test_diou_by_hand():
    # IoU 31 / 49; centres 9 apart; the enclosing box is 49 x 40
    one = torch.tensor([0.0, 0.0, 40.0, 40.0])
    other = one + torch.tensor([9.0, 0, 9, 0])
    assert diou(one, other).item() == pytest.approx(31 / 49 - 81 / (49**2 + 40**2))


def test_ciou_by_hand():
    # 4 x 2 and 2 x 4 around one centre: IoU 4 / 12, no distance, atan(2) against atan(1/2)
    lying, standing = torch.tensor([-2.0, -1, 2, 1]), torch.tensor([-1.0, -2, 1, 2])
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
    assert ciou(lying, standing).item() == pytest.approx(1 / 3 - v * v / (1 - 1 / 3 + v), rel=1e-6)


@pytest.mark.parametrize("overlap", [iou, giou, diou, ciou])
def test_every_overlap_of_a_box_with_itself_is_exactly_1(overlap):
    boxes = random_boxes(50)
    assert overlap(boxes, boxes).tolist() == [1] * 50


@pytest.mark.parametrize("overlap", [giou, diou, ciou])
def test_a_box_farther_away_overlaps_less_though_the_iou_is_0(overlap):
    one = torch.tensor([0.0, 0.0, 10.0, 10.0])
    near, far = (overlap(one, one + shift).item() for shift in (20, 200))
    assert -1 < far < near < 0


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4)])
def test_no_boxes_have_no_overlaps(shape):
    assert iou(torch.zeros(shape), torch.zeros(4)).shape == shape[:-1]


def test_encode_by_hand():
    # centre (5, 5) to (10, 10) in units of 10; width doubles, height stays; times the weights
    anchor = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    wanted = torch.tensor([[5.0, 5.0, 5 * math.log(2), 0.0]])
    torch.testing.assert_close(BoxCodec(R_CNN).encode(torch.tensor([[0.0, 5.0, 20.0, 15.0]]), anchor), wanted)


def test_decode_by_hand():
    anchor = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    deltas = torch.tensor([[0.5, -0.25, math.log(2), 0.0]])
    torch.testing.assert_close(BoxCodec().decode(deltas, anchor), torch.tensor([[0.0, -5.0, 20.0, 15.0]]))


@settings(max_examples=60, deadline=None)
@given(box, box)
def test_decode_inverts_encode(true, anchor):
    true, anchor = torch.tensor([true]), torch.tensor([anchor])
    codec = BoxCodec(R_CNN, max_log_scale=math.log(1000))
    # 1e-5 of the largest coordinate: float32 itself resolves 1e-4 px at 1000 px
    scale = float(torch.cat([true, anchor]).abs().max())
    back = codec.decode(codec.encode(true, anchor), anchor)
    torch.testing.assert_close(back, true, rtol=0, atol=1e-5 * scale)
    exact = codec.decode(codec.encode(true.double(), anchor.double()), anchor.double())
    torch.testing.assert_close(exact, true.double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), R_CNN])
def test_codec_agrees_with_torchvision(weights):
    boxes, anchors = random_boxes(50), random_boxes(50)
    deltas = torch.randn(50, 4) * 3
    peer = BoxCoder(weights)
    codec = BoxCodec(weights)
    torch.testing.assert_close(
        codec.encode(boxes, anchors), peer.encode_single(boxes, anchors), rtol=1e-5, atol=1e-5
    )
    decoded = peer.decode_single(deltas, anchors)
    torch.testing.assert_close(codec.decode(deltas, anchors), decoded, rtol=1e-5, atol=1e-3)  # px


def test_a_16_px_anchor_grows_to_1000_px_at_most():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    decoded = BoxCodec().decode(torch.tensor([[0.0, 0.0, 1e4, 1e4]]), anchor)[0]
    assert (decoded[2] - decoded[0]).item() == pytest.approx(1000, rel=1e-5)
    assert (decoded[3] - decoded[1]).item() == pytest.approx(1000, rel=1e-5)


def test_shrinking_is_not_clamped():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    decoded = BoxCodec().decode(torch.tensor([[0.0, 0.0, -8.0, -8.0]]), anchor)[0]
    assert (decoded[2] - decoded[0]).item() == pytest.approx(16 * math.exp(-8), rel=1e-2)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_boxes_are_float32_at_least_and_float64_stays(given, wanted):
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]], dtype=given)
    assert at_least_float32(boxes).dtype == wanted
    assert BoxCodec().encode(boxes, boxes).dtype == wanted
    assert BoxCodec().decode(torch.zeros(1, 4, dtype=given), boxes).dtype == wanted


def test_a_box_without_width_has_a_finite_code():
    anchor = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    deltas = BoxCodec().encode(torch.tensor([[5.0, 0.0, 5.0, 10.0]]), anchor)
    torch.testing.assert_close(deltas, torch.tensor([[0.0, 0.0, math.log(1e-6), 0.0]]))


def test_nothing_encodes_and_decodes_to_nothing():
    none = torch.zeros(0, 4)
    assert BoxCodec().encode(none, none).shape == BoxCodec().decode(none, none).shape == (0, 4)


def test_decode_has_the_gradient_of_its_definition():
    anchors = random_boxes(3, torch.float64)
    deltas = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: BoxCodec(R_CNN).decode(d, anchors), deltas)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 1.0, 0.0, 1.0), (1.0, 1.0, 1.0, math.inf)])
def test_weights_that_cannot_be_divided_by_are_refused(weights):
    with pytest.raises(ValueError, match="codec weights must be 4 finite numbers above 0"):
        BoxCodec(weights)
