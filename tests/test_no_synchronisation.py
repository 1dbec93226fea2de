"""On a GPU neither the max-IoU assigner nor the criterion waits for it: shown without a GPU, and with one.

Fake tensors have a shape and a device, and no values. Whatever would have to wait for values, to know a
number or a shape, cannot be done with them and raises; and a copy between host and device is seen by
``NoCopies``. Fake CUDA tensors go forward alone where there is no GPU: autograd asks for it. So backward goes
with fake tensors of a CPU that is treated like a GPU.
"""

from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

from dethead import devices
from dethead.anchors import AnchorGrid
from dethead.assigners import ATSSAssigner, CenterAssigner, MaxIoUAssigner
from dethead.boxes import BoxCodec, PointExpCodec
from dethead.criterion import DetectionLoss, Term
from dethead.losses import confidence_bce, giou_loss, one_pass, smooth_l1
from dethead.normalisers import Constant, by_anchors, by_positives_per_image, count
from dethead.schemes import GHM, Focal, Seesaw, SigmoidBCE, SoftmaxCE
from dethead.structures import GroundTruth, HeadOutput

C = 3
GRID = AnchorGrid.from_sizes([8, 16], [16, 32], ratios=[0.5, 1, 2]).place((64, 96))
L1 = partial(smooth_l1, beta=0.1)
FOCAL = Focal(alpha=0.25, gamma=2.0)
WEIGHTED = SigmoidBCE(class_weights=[1.0, 2, 3], pos_weight=[1.0, 1, 2], neg_weight=[2.0, 1, 1])
HARD = {"hard_negatives": 3.0, "confidence_loss": partial(confidence_bce, pos_weight=2.0)}
TERMS = {
    "class_term": Term(2.0, by_positives_per_image),
    "confidence_term": Term(1.0, by_anchors),
    "box_term": Term(1.0, Constant(7)),
}
SETTINGS = {
    "softmax": (SoftmaxCE(class_weights=[1.0, 2, 3]), {}),
    "softmax, observed": (Seesaw(), {"observe": True}),
    "BCE of positives, hard negatives": (SigmoidBCE(), HARD),
    "BCE of all": (WEIGHTED, {"class_on": "all", "confidence_target": "iou"}),
    "focal of all": (FOCAL, {"class_on": "all", "observe": True, "box_loss": giou_loss}),
    "focal of all, other divisors": (FOCAL, {"class_on": "all", "codec": PointExpCodec(), **TERMS}),
    "focal of all by autograd": (FOCAL, {"class_on": "all", "one_pass": False, "confidence_target": "iou"}),
    "GHM of all": (GHM(), {"class_on": "all", "confidence_on": "positives"}),
}
every_setting = pytest.mark.parametrize(("scheme", "options"), SETTINGS.values(), ids=SETTINGS)


class NoCopies(TorchDispatchMode):
    """Refuses what copies from the host's memory to a device, or back."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [one for one in [*args, result] if isinstance(one, torch.Tensor)]
        # Every tensor that is made of Python's numbers is lifted: those that kernels are called with are not.
        if func is torch.ops.aten.lift_fresh.default or len({one.device.type for one in tensors}) > 1:
            raise AssertionError(f"{func} copies between the host and a device")
        return result


def draw(device, requires_grad=False):
    """Anchors, truth and output of three images."""

    def some(*shape):
        return torch.rand(*shape, device=device)

    anchors, truth = GRID._replace(boxes=some(len(GRID.boxes), 4)), []
    for number in (3, 0, 5):
        corners = 60 * some(number, 2)
        targets = torch.zeros(number, C, device=device)
        targets[:, :1].fill_(1)
        weights = some(number) if number == 5 else None
        place = torch.cat([corners, corners + 8 + 20 * some(number, 2)], dim=1)
        truth.append(GroundTruth(place, targets, 90 * some(number % 3, 4), targets[:, 0] > 0, weights))
    raw = some(3, len(anchors.boxes), C + 5)
    return anchors, truth, raw.requires_grad_(requires_grad)


def step(scheme, options, device, backward, max_positives=100):
    """Assign, and compute the loss."""
    chosen = {"box_loss": L1, "codec": BoxCodec(weights=(10.0, 10.0, 5.0, 5.0)), **options}
    criterion = DetectionLoss(scheme, **chosen, max_positives=max_positives)
    anchors, truth, raw = draw(device, backward)
    with NoCopies():
        assignment = MaxIoUAssigner()(anchors, truth)
        terms = criterion(HeadOutput(raw), assignment, truth, anchors)
        if backward:
            terms.total.backward()
    return terms, raw


@pytest.fixture
def behind(monkeypatch):
    """A CPU that is treated like a GPU."""
    monkeypatch.setattr(devices, "BEHIND", ("cpu",))
    # The backward pass asks a CPU, and no GPU, whether a factor is 1.
    monkeypatch.setattr(one_pass, "_scale", lambda gradient, factor: gradient[..., :-5].mul_(factor))


@every_setting
def test_assigner_and_criterion_ask_a_gpu_nothing(scheme, options):
    with FakeTensorMode():
        terms, _ = step(scheme, options, "cuda", backward=False)
    assert terms.total.device.type == "cuda"


@every_setting
def test_nor_does_the_backward_pass(scheme, options, behind):
    with FakeTensorMode():
        _, raw = step(scheme, options, "cpu", backward=True)
    assert raw.grad.shape == raw.shape


def test_nor_do_the_counts_of_a_larger_step():
    with FakeTensorMode(), NoCopies():
        matched = torch.zeros(2, 5, dtype=torch.int64, device="cuda")
        assert count(MaxIoUAssigner()(*draw("cuda")[:2])._replace(matched=matched)).images.shape == ()


def test_without_max_positives_their_number_is_waited_for():
    with FakeTensorMode(), pytest.raises(DynamicOutputShapeException, match="nonzero"):
        step(SoftmaxCE(), {}, "cuda", backward=False, max_positives=None)


@pytest.mark.parametrize("assigner", [ATSSAssigner(), CenterAssigner()], ids=repr)
def test_other_assigners_wait(assigner):
    with FakeTensorMode(), pytest.raises((DynamicOutputShapeException, DataDependentOutputException)):
        assigner(*draw("cuda")[:2])


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        torch.unique,
    ],
)
def test_fake_tensors_refuse_what_waits(waits):
    with FakeTensorMode(), pytest.raises((DynamicOutputShapeException, DataDependentOutputException)):
        waits(torch.ones(3, device="cuda"))


@pytest.mark.parametrize(
    "copies",
    [lambda x: x.new_tensor([1.0]), lambda x: torch.tensor([1], device=x.device), lambda x: x.cpu()],
)
def test_copies_are_seen(copies):
    with FakeTensorMode(), NoCopies(), pytest.raises(AssertionError, match="copies between"):
        copies(torch.ones(3, device="cuda"))


def real_step(scheme, options, device):
    """What computes loss and gradient of a training step, drawn on the CPU."""
    _, truth, raw = draw("cpu")
    chosen = {"box_loss": L1, "codec": BoxCodec(), **options}
    criterion = DetectionLoss(scheme, **chosen, max_positives=100)
    anchors = GRID._replace(boxes=GRID.boxes.to(device))
    truth = [one.to(device) for one in truth]
    raw = raw.to(device).requires_grad_()

    def compute():
        assignment = MaxIoUAssigner()(anchors, truth)
        total = criterion(HeadOutput(raw), assignment, truth, anchors).total
        return total, *torch.autograd.grad(total, raw)

    return compute


@every_setting
def test_what_asks_nothing_is_the_same(scheme, options, monkeypatch):
    torch.manual_seed(0)
    wanted = real_step(scheme, options, "cpu")()
    monkeypatch.setattr(devices, "BEHIND", ("cpu",))
    torch.manual_seed(0)
    torch.testing.assert_close(real_step(scheme, options, "cpu")(), wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", ["step by step", "captured"])
@every_setting
def test_on_a_gpu_a_step_waits_for_nothing_can_be_captured_and_is_that_of_the_cpu(scheme, options, how):
    torch.manual_seed(0)
    wanted = real_step(scheme, options, "cpu")()
    torch.manual_seed(0)
    compute = real_step(scheme, options, "cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        compute()  # what is done once, such as to load kernels, may wait
    torch.cuda.synchronize()
    if how == "captured":
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            found = compute()
        graph.replay()
    else:
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = compute()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close([one.cpu() for one in found], [*wanted], rtol=1e-4, atol=1e-6)
