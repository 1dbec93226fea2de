"""Box losses on encoded deltas and on decoded boxes, by hand, against PyTorch and torchvision."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from dethead.boxes import BoxCodec, LTRBCodec, PointExpCodec
from dethead.losses.regression import ciou_loss, diou_loss, giou_loss, iou_squared_loss, l1, mse, smooth_l1

ANCHOR = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
OVERLAP_LOSSES = [iou_squared_loss, giou_loss, diou_loss, ciou_loss]
LOSSES = [partial(smooth_l1, beta=0.1), partial(smooth_l1, beta=0.0), l1, mse, *OVERLAP_LOSSES]
CODECS = [BoxCodec((10.0, 10.0, 5.0, 5.0)), LTRBCodec(), PointExpCodec()]


def random_boxes(count, dtype=torch.float32):
    corner = torch.rand(count, 2, dtype=dtype) * 50
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, dtype=dtype) * 30], dim=1)


def near(boxes):
    """Boxes that overlap the given ones, with no side in common."""
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + 0.2 * size * (torch.rand_like(boxes) - 0.5)


def at_anchor(deltas, beta):
    """The loss where the truth is the anchor, so that the differences are the deltas."""
    deltas = torch.tensor([deltas], requires_grad=True)
    loss = smooth_l1(deltas, ANCHOR, ANCHOR, BoxCodec(), beta=beta)
    loss.sum().backward()
    return loss.tolist(), deltas.grad[0].tolist()


@pytest.mark.parametrize(
    ("beta", "loss", "gradient"),
    [
        # square below beta: d^2 / (2 beta); line above: |d| - beta / 2
        (1.0, 1.5 + 0.125 + 0.005, [1, -0.5, 0.1, 0]),
        (0.25, 1.875 + 0.375 + 0.02, [1, -1, 0.4, 0]),
        (0.0, 2 + 0.5 + 0.1, [1, -1, 1, 0]),
    ],
)
def test_loss_and_gradient_by_hand(beta, loss, gradient):
    value, grad = at_anchor([2.0, -0.5, 0.1, 0.0], beta)
    assert value == pytest.approx([loss], rel=1e-6)
    assert grad == pytest.approx(gradient)


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_zero_loss_and_zero_gradient_at_the_target(beta, weights):
    boxes, codec = ANCHOR + torch.tensor([[1.0, 2.0, 4.0, 3.0]]), BoxCodec(weights)
    deltas = codec.encode(boxes, ANCHOR).requires_grad_()
    loss = smooth_l1(deltas, boxes, ANCHOR, codec, beta=beta)
    loss.sum().backward()
    assert loss.item() == 0
    assert not deltas.grad.any()


def test_it_is_pytorchs_on_encoded_boxes():
    boxes = random_boxes(20)
    anchors, deltas, codec = boxes.flip(0), torch.randn(20, 4), BoxCodec((10.0, 10.0, 5.0, 5.0))
    theirs = F.smooth_l1_loss(deltas, codec.encode(boxes, anchors), beta=1 / 9, reduction="none").sum(1)
    torch.testing.assert_close(smooth_l1(deltas, boxes, anchors, codec, beta=1 / 9), theirs)


def test_it_is_hubers_loss_over_beta():
    deltas = torch.tensor([[3.0, 0.1, -0.2, 0.0]])
    ours = smooth_l1(deltas, ANCHOR, ANCHOR, BoxCodec(), beta=0.25)
    huber = F.huber_loss(deltas, torch.zeros(1, 4), delta=0.25, reduction="none").sum(dim=1)
    torch.testing.assert_close(ours, huber / 0.25)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_no_positives_are_no_loss_attached_to_the_graph(beta):
    deltas = torch.zeros(0, 4, requires_grad=True)
    loss = smooth_l1(deltas, torch.zeros(0, 4), torch.zeros(0, 4), BoxCodec(), beta=beta)
    assert loss.shape == (0,)
    loss.sum().backward()


def test_the_gradient_is_the_derivative():
    deltas = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    loss = partial(smooth_l1, beta=0.5)
    boxes = (ANCHOR + 1).double().expand(5, 4)
    assert torch.autograd.gradcheck(lambda d: loss(d, boxes, ANCHOR.expand(5, 4), BoxCodec()), deltas)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_loss_is_float32_at_least_and_finite_far_away(dtype):
    deltas = torch.full((1, 4), 1e4, dtype=dtype, requires_grad=True)
    loss = smooth_l1(deltas, ANCHOR, ANCHOR, BoxCodec(), beta=0.1)
    loss.sum().backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(4 * (float(deltas[0, 0].detach()) - 0.05), rel=1e-6)
    assert deltas.grad.tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize("beta", [-0.1, float("nan")])
def test_a_negative_beta_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be at least 0"):
        smooth_l1(ANCHOR, ANCHOR, ANCHOR, BoxCodec(), beta=beta)


@pytest.mark.parametrize(
    "shapes", [[(2, 4), (1, 4), (2, 4)], [(2, 4), (2, 4), (1, 4)], [(1, 4), (2, 4), (2, 4)]]
)
def test_rows_that_do_not_fit_are_refused_rather_than_broadcast(shapes):
    deltas, boxes, anchors = (ANCHOR.expand(shape) for shape in shapes)
    with pytest.raises(ValueError, match="deltas, boxes and anchors must be of one shape"):
        smooth_l1(deltas, boxes, anchors, BoxCodec(), beta=1.0)


def test_l1_and_mse_by_hand():
    deltas = torch.tensor([[2.0, -0.5, 0.1, 0.0]])
    assert l1(deltas, ANCHOR, ANCHOR, BoxCodec()).tolist() == pytest.approx([2.6])
    assert mse(deltas, ANCHOR, ANCHOR, BoxCodec()).tolist() == pytest.approx([4 + 0.25 + 0.01])


def test_mse_is_pytorchs_on_encoded_boxes():
    boxes, deltas, codec = random_boxes(20), torch.randn(20, 4), LTRBCodec()
    anchors = boxes.flip(0)
    theirs = F.mse_loss(deltas, codec.encode(boxes, anchors), reduction="none").sum(dim=1)
    torch.testing.assert_close(mse(deltas, boxes, anchors, codec), theirs)


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        # the prediction is the anchor moved right by half: IoU 5 / 15, the boxes fill what encloses them
        (iou_squared_loss, 1 - (5 / 15) ** 2),
        (giou_loss, 1 - 5 / 15),
        # centres 5 apart in an enclosing box of 15 x 10
        (diou_loss, 1 - 5 / 15 + 25 / (15**2 + 10**2)),
        # and of the same shape
        (ciou_loss, 1 - 5 / 15 + 25 / (15**2 + 10**2)),
    ],
)
def test_overlap_losses_by_hand(loss, wanted):
    value = loss(torch.tensor([[0.5, 0.0, 0.0, 0.0]]), ANCHOR, ANCHOR, BoxCodec())
    assert value.tolist() == pytest.approx([wanted])


def test_the_complete_iou_alone_punishes_another_shape():
    # a box twice as wide and half as high around the same centre: IoU 50 / 150
    deltas = torch.tensor([[0.0, 0.0, math.log(2), -math.log(2)]])
    v = 4 / math.pi**2 * (math.atan(4) - math.atan(1)) ** 2
    wanted = 2 / 3 + v * v / (2 / 3 + v)
    assert diou_loss(deltas, ANCHOR, ANCHOR, BoxCodec()).item() == pytest.approx(2 / 3)
    assert ciou_loss(deltas, ANCHOR, ANCHOR, BoxCodec()).item() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (giou_loss, generalized_box_iou_loss),
        (diou_loss, distance_box_iou_loss),
        (ciou_loss, complete_box_iou_loss),
    ],
)
@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_overlap_losses_are_torchvisions_on_decoded_boxes_value_and_gradient(ours, theirs, codec):
    boxes = random_boxes(40, torch.float64)
    anchors = near(boxes)
    predicted = torch.cat([near(boxes[:20]), boxes[20:].flip(0)])
    deltas = codec.encode(predicted, anchors).requires_grad_()
    values = ours(deltas, boxes, anchors, codec), theirs(codec.decode(deltas, anchors), boxes)
    # torchvision adds 1e-7 to its divisors
    torch.testing.assert_close(*values, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        *(torch.autograd.grad(value.sum(), deltas)[0] for value in values), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("codec", CODECS, ids=repr)
class TestEveryLossWithEveryCodec:
    def test_it_is_0_at_the_target(self, loss, codec):
        boxes = random_boxes(20)
        anchors = near(boxes)
        # float32 resolves 4e-6 px at 80 px, on boxes of 1 px and more
        value = loss(codec.encode(boxes, anchors), boxes, anchors, codec)
        torch.testing.assert_close(value, torch.zeros(20), rtol=0, atol=1e-4)

    def test_it_falls_on_the_way_to_the_target(self, loss, codec):
        # from the anchor 80 px to the left, which does not even touch the truth; it holds the anchor's centre
        boxes, start = torch.tensor([[20.0, 20.0, 60.0, 60.0]]), torch.tensor([[0.0, 20.0, 10.0, 60.0]])
        anchors = torch.tensor([[0.0, 20.0, 40.0, 60.0]])
        ends = codec.encode(start, anchors), codec.encode(boxes, anchors)
        values = [
            loss(torch.lerp(*ends, share), boxes, anchors, codec).item()
            for share in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
        assert values == sorted(values, reverse=True)

    def test_no_positives_are_no_loss_attached_to_the_graph(self, loss, codec):
        deltas = torch.zeros(0, 4, requires_grad=True)
        value = loss(deltas, torch.zeros(0, 4), torch.zeros(0, 4), codec)
        assert value.shape == (0,)
        value.sum().backward()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
    def test_it_is_finite_with_a_finite_gradient_for_any_box_and_any_prediction(self, loss, codec, dtype):
        truths = [[0, 0, 10, 10], [5, 5, 5, 5], [5, 0, 5, 10], [1e4, 1e4, 1e4 + 1, 2e4], [5, 5, 5 + 1e-6, 5]]
        rows = [[0, 0, 0, 0], [1e4, -1e4, 1e4, -1e4], [-1e4, 1e4, -1e4, 1e4], [0.5, 0.5, -100, -100]]
        rows += [[1e-7, 1e-7, 1e-7, 1e-7], [0, 0, -1e4, 0.5], [1e-3, 1e-3, -16, -16]]
        boxes = torch.tensor(truths).repeat_interleave(len(rows), dim=0)
        deltas = torch.tensor(rows).repeat(len(truths), 1).to(dtype).requires_grad_()
        value = loss(deltas, boxes, ANCHOR.expand_as(boxes), codec)
        value.sum().backward()
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert value.isfinite().all()
        assert deltas.grad.isfinite().all()

    def test_each_box_has_its_own_loss(self, loss, codec):
        boxes = random_boxes(6)
        anchors, deltas = near(boxes), torch.rand(6, 4)
        alone = [loss(deltas[i : i + 1], boxes[i : i + 1], anchors[i : i + 1], codec) for i in range(6)]
        torch.testing.assert_close(loss(deltas, boxes, anchors, codec), torch.cat(alone))


@pytest.mark.parametrize("loss", [mse, iou_squared_loss, giou_loss, diou_loss])
@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_the_gradient_of_every_smooth_loss_is_the_derivative(loss, codec):
    boxes = random_boxes(6, torch.float64)
    anchors = near(boxes)
    deltas = codec.encode(near(boxes), anchors).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: loss(d, boxes, anchors, codec), deltas)


def test_the_gradient_of_ciou_is_the_derivative_with_alpha_held():
    boxes = random_boxes(6, torch.float64)
    anchors, codec = near(boxes), BoxCodec()
    deltas = codec.encode(near(boxes) * torch.tensor([1, 1, 1.3, 1.0]), anchors).requires_grad_()
    ciou_loss(deltas, boxes, anchors, codec).sum().backward()
    angle = lambda b: torch.atan((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1]))  # noqa: E731

    def v(d):
        return 4 / math.pi**2 * (angle(boxes) - angle(codec.decode(d, anchors))) ** 2

    with torch.no_grad():
        shape_term = ciou_loss(deltas, boxes, anchors, codec) - diou_loss(deltas, boxes, anchors, codec)
        alpha, steps = shape_term / v(deltas), 1e-6 * torch.eye(4, dtype=torch.float64)

        def held(d):
            return diou_loss(d, boxes, anchors, codec) + alpha * v(d)

        slopes = [(held(deltas + step) - held(deltas - step)) / 2e-6 for step in steps]
    torch.testing.assert_close(deltas.grad, torch.stack(slopes, dim=1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
def test_overlap_losses_refuse_rows_that_would_broadcast(loss):
    with pytest.raises(ValueError, match="deltas, boxes and anchors must be of one shape"):
        loss(ANCHOR.expand(2, 4), ANCHOR, ANCHOR, BoxCodec())


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
def test_areas_of_float16_boxes_do_not_overflow(loss):
    boxes = torch.tensor([[0.0, 0.0, 300.0, 300.0]], dtype=torch.float16)  # 90000 px^2, float16 ends at 65504
    deltas = torch.zeros(1, 4, dtype=torch.float16)
    assert loss(deltas, boxes, boxes, BoxCodec()).item() == pytest.approx(0, abs=1e-6)
