"""The codes of FCOS and YOLOX against torchvision, their formulas, and what every codec must do."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxLinearCoder

from dethead.anchors import AnchorGrid
from dethead.boxes import BoxCodec, LTRBCodec, PointExpCodec

CODECS = [BoxCodec((10.0, 10.0, 5.0, 5.0)), LTRBCodec(), PointExpCodec()]
ANCHOR = torch.tensor([[0.0, 0.0, 10.0, 20.0]])

side = st.floats(4, 250, width=32)
place = st.floats(-500, 1000, width=32)
box = st.tuples(place, place, side, side).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
distance = st.floats(0, 300, width=32)


def random_boxes(count, dtype=torch.float32):
    corner = torch.rand(count, 2, dtype=dtype) * 300
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, dtype=dtype) * 200], dim=1)


def test_ltrb_by_hand():
    # the centre (5, 10) is 5, 8, 15 and 10 px from the sides; the anchor is 10 x 20
    box, code = torch.tensor([[0.0, 2.0, 20.0, 20.0]]), torch.tensor([[0.5, 0.4, 1.5, 0.5]])
    torch.testing.assert_close(LTRBCodec().encode(box, ANCHOR), code)
    torch.testing.assert_close(LTRBCodec().decode(code, ANCHOR), box)


def test_ltrb_is_the_code_of_torchvisions_fcos():
    boxes, anchors, peer = random_boxes(50), random_boxes(50), BoxLinearCoder(normalize_by_size=True)
    torch.testing.assert_close(LTRBCodec().encode(boxes, anchors), peer.encode(anchors, boxes))
    raw = torch.randn(50, 4, requires_grad=True)
    ours, theirs = LTRBCodec().decode(raw, anchors), peer.decode(raw.relu(), anchors)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(one.square().sum(), raw)[0] for one in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_ltrb_turns_no_box_inside_out():
    decoded = LTRBCodec().decode(torch.tensor([[-1.0, -2.0, 0.5, -3.0]]), ANCHOR)
    assert decoded.tolist() == [[5, 10, 10, 10]]


def test_a_box_beside_the_anchors_centre_has_a_code_with_a_negative_distance():
    assert LTRBCodec().encode(torch.tensor([[6.0, 0.0, 10.0, 20.0]]), ANCHOR)[0, 0].item() == pytest.approx(
        -0.1
    )


@given(st.tuples(distance, distance, distance, distance), box)
def test_ltrb_decode_inverts_encode_where_the_box_holds_the_anchors_centre(sides, anchor):
    anchor = torch.tensor([anchor], dtype=torch.float64)
    center = (anchor[:, :2] + anchor[:, 2:]) / 2
    left_top, right_bottom = torch.tensor([sides], dtype=torch.float64).chunk(2, dim=1)
    true = torch.cat([center - left_top, center + right_bottom], dim=1)
    back = LTRBCodec().decode(LTRBCodec().encode(true, anchor), anchor)
    torch.testing.assert_close(back, true, rtol=0, atol=1e-9)


def test_point_exp_by_hand():
    # column 2, row 1 of stride 8: centre ((0.25 + 2) * 8, (0.75 + 1) * 8) = (18, 14), size (16, 4)
    cell = torch.tensor([[16.0, 8.0, 24.0, 16.0]])
    code, box = torch.tensor([[0.25, 0.75, math.log(2), -math.log(2)]]), torch.tensor([[10.0, 12, 26, 16]])
    torch.testing.assert_close(PointExpCodec().decode(code, cell), box)
    torch.testing.assert_close(PointExpCodec().encode(box, cell), code)


def test_point_exp_is_the_formula_of_yolox_on_a_grid_of_strides():
    grid = AnchorGrid((8, 16), (((8.0, 8.0),), ((16.0, 16.0),))).place((32, 48))
    raw = torch.randn(len(grid.boxes), 4)
    wanted, start = [], 0
    for stride, (rows, columns) in zip(grid.strides, grid.cells, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        cell = torch.stack([x, y], dim=-1).reshape(-1, 2)
        level = raw[start : start + len(cell)]
        center, size = (level[:, :2] + cell) * stride, level[:, 2:].exp() * stride
        wanted.append(torch.cat([center - size / 2, center + size / 2], dim=1))
        start += len(cell)
    torch.testing.assert_close(
        PointExpCodec().decode(raw, grid.boxes), torch.cat(wanted), rtol=1e-5, atol=1e-4
    )


@given(box, box)
def test_point_exp_decode_inverts_encode(true, anchor):
    true, anchor = (torch.tensor([one], dtype=torch.float64) for one in (true, anchor))
    back = PointExpCodec().decode(PointExpCodec().encode(true, anchor), anchor)
    torch.testing.assert_close(back, true, rtol=0, atol=1e-9)


def test_an_8_px_cell_reaches_8000_px_at_most():
    cell = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    decoded = PointExpCodec().decode(torch.tensor([[0.5, 0.5, 1e4, 1e4]]), cell)[0]
    assert (decoded[2:] - decoded[:2]).tolist() == pytest.approx([8000, 8000], rel=1e-5)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
class TestEveryCodec:
    def test_the_code_of_the_anchor_itself_leads_back_to_it(self, codec):
        anchors = random_boxes(20)
        back = codec.decode(codec.encode(anchors, anchors), anchors)
        torch.testing.assert_close(back, anchors, rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize(
        ("given", "wanted"), [(torch.float16, torch.float32), (torch.float64, torch.float64)]
    )
    def test_boxes_and_codes_are_float32_at_least_and_float64_stays(self, codec, given, wanted):
        anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0]], dtype=given)
        assert codec.encode(anchors, anchors).dtype == wanted
        assert codec.decode(torch.zeros(1, 4, dtype=given), anchors).dtype == wanted

    def test_leading_dimensions_are_kept_and_anchors_broadcast(self, codec):
        anchors, deltas = random_boxes(5), torch.randn(3, 5, 4)
        decoded = codec.decode(deltas, anchors)
        assert torch.equal(decoded[1], codec.decode(deltas[1], anchors))
        assert codec.encode(decoded, anchors).shape == (3, 5, 4)

    def test_nothing_encodes_and_decodes_to_nothing(self, codec):
        none = torch.zeros(0, 4)
        assert codec.encode(none, none).shape == codec.decode(none, none).shape == (0, 4)

    def test_a_box_without_size_has_a_finite_code(self, codec):
        assert codec.encode(torch.tensor([[3.0, 4.0, 3.0, 4.0]]), ANCHOR).isfinite().all()

    def test_decode_has_the_gradient_of_its_definition(self, codec):
        anchors = random_boxes(3, torch.float64)
        deltas = (torch.rand(3, 4, dtype=torch.float64) + 0.1).requires_grad_()
        assert torch.autograd.gradcheck(lambda d: codec.decode(d, anchors), deltas)

    def test_extreme_codes_give_finite_boxes_and_gradients(self, codec):
        deltas = torch.tensor([[1e4, -1e4, 1e4, -1e4], [-1e4, 1e4, -1e4, 1e4]], requires_grad=True)
        decoded = codec.decode(deltas, ANCHOR)
        decoded.sum().backward()
        assert decoded.isfinite().all()
        assert deltas.grad.isfinite().all()


def test_a_limit_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="max_log_scale must be a number, got nan"):
        BoxCodec(max_log_scale=float("nan"))
