"""Time loss and gradient over all anchors beside torchvision, plain PyTorch and torch.compile.

    python benchmarks/losses.py [--anchors 240000] [--rounds 10] [--threads 2] [--cpu]

The output of a head, (1, A, 85) with 80 classes; one anchor in 500 is positive. Each contender gets the
gradient of a sum of losses with respect to the whole output, forward and backward:

*focal*, *bce*: the class loss of all anchors. Peers are given dense targets, which cost them no time.
*softmax*: cross-entropy and SmoothL1 (beta 1) of the positives, confidence BCE of all; dethead's is the whole
``DetectionLoss``, which looks the truth of the positives up besides.

There are two *compile* for focal loss: torchvision's function, and the loss by softplus; the faster counts.
Each contender is alone in a process, on two threads; there are three such processes, in turn, and the least
time counts. Before anything is timed, loss (relative) and gradient are compared with float64, to 1e-6. Memory
is what the first step adds to the process at its peak (Linux), gradient included, after a small step.
"""

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from side_by_side import (
    Row,
    added_mib,
    alone,
    compare,
    environment,
    finish,
    least,
    ms,
    parser,
    version_of,
)
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from dethead.boxes import BoxCodec
from dethead.criterion import DetectionLoss, Term
from dethead.losses import smooth_l1
from dethead.losses.one_pass import Lesson, take_apart
from dethead.normalisers import Constant
from dethead.schemes import Focal, SigmoidBCE, SoftmaxCE
from dethead.schemes.interface import background_of
from dethead.structures import BACKGROUND, Anchors, Assignment, GroundTruth, HeadOutput

CLASSES: Final = 80
ONE_IN: Final = 500
"""Anchors for one positive."""
ALPHA, GAMMA = 0.25, 2.0
PROCESSES: Final = 3
TOLERANCE: Final = 1e-6


class Case(NamedTuple):
    """One output and what it is taught."""

    raw: Tensor
    """(1, A, 85)"""
    anchors: Anchors
    truth: GroundTruth
    """One box for each positive."""
    rows: Tensor
    """(P,) positive anchors."""
    labels: Tensor
    """(P,)"""
    deltas: Tensor
    """(P, 4) what the box columns should be."""
    dense: Tensor
    """(1, A, 80) targets; nothing, for those that need none."""

    def double(self) -> "Case":
        """Give the same in float64."""
        return self._replace(raw=self.raw.double(), deltas=self.deltas.double(), dense=self.dense.double())


Loss = Callable[[Tensor, Case], Tensor]
"""(1, A, 85) output -> scalar."""


def make_case(count: int, dense: bool) -> Case:
    """Draw an output near that of an untrained head, with logits of all sizes."""
    generator = torch.Generator().manual_seed(0)
    raw = 2 * torch.randn(1, count, CLASSES + 5, generator=generator) - 3
    corner = 500 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corner, corner + 20 + 50 * torch.rand(count, 2, generator=generator)], dim=1)
    rows = torch.arange(0, count, ONE_IN)
    labels = torch.randint(0, CLASSES, (len(rows),), generator=generator)
    targets = boxes[rows] + torch.randn(len(rows), 4, generator=generator)
    truth = GroundTruth.from_labels(targets, labels, CLASSES)
    wanted = torch.zeros(1, count if dense else 0, CLASSES)
    if dense:
        wanted[0, rows, labels] = 1.0
    anchors = Anchors(boxes, (slice(0, count),), (8,), ((1, count),))
    return Case(raw, anchors, truth, rows, labels, BoxCodec().encode(targets, boxes[rows]), wanted)


def focal_by_torchvision(raw: Tensor, case: Case) -> Tensor:
    """Give its focal loss of the class columns."""
    return sigmoid_focal_loss(raw[..., :CLASSES], case.dense, alpha=ALPHA, gamma=GAMMA, reduction="sum")


def focal_by_softplus(raw: Tensor, case: Case) -> Tensor:
    """Give the same from one softplus and one sigmoid."""
    logits, targets = raw[..., :CLASSES], case.dense
    p, s = logits.sigmoid(), F.softplus(logits)
    yes = ALPHA * targets * (1 - p).square() * (s - logits)
    return (yes + (1 - ALPHA) * (1 - targets) * p.square() * s).sum()


def bce(raw: Tensor, case: Case) -> Tensor:
    """Give PyTorch's binary cross-entropy of the class columns."""
    return F.binary_cross_entropy_with_logits(raw[..., :CLASSES], case.dense, reduction="sum")


def softmax(raw: Tensor, case: Case) -> Tensor:
    """Give the three terms of a detector that asks the class of positives alone."""
    asked = torch.zeros_like(raw[..., 0])
    asked[0, case.rows] = 1.0
    return (
        F.cross_entropy(raw[0, case.rows, :CLASSES], case.labels, reduction="sum")
        + F.binary_cross_entropy_with_logits(raw[..., CLASSES], asked, reduction="sum")
        + F.smooth_l1_loss(raw[0, case.rows, CLASSES + 1 :], case.deltas, reduction="sum", beta=1.0)
    )


def over_all(raw: Tensor, case: Case, *, scheme: Focal | SigmoidBCE) -> Tensor:
    """Give dethead's class loss of all anchors, as ``DetectionLoss`` does it."""
    image = torch.zeros_like(case.rows)
    factors = torch.ones_like(raw[..., 0]).index_fill(1, case.rows, 0.0)
    parts = take_apart(
        raw, image, case.rows, Lesson(background_of(scheme, raw, None), factors, observed=False)
    )
    assert parts.background is not None
    return parts.background + scheme.loss(parts.rows[:, :CLASSES], case.truth.targets).sum()


def whole_criterion(raw: Tensor, case: Case) -> Tensor:
    """Give the total of dethead's criterion."""
    term = Term(1.0, Constant(1.0))
    loss = DetectionLoss(
        SoftmaxCE(),
        partial(smooth_l1, beta=1.0),
        BoxCodec(),
        class_term=term,
        confidence_term=term,
        box_term=term,
    )
    matched = torch.full(raw.shape[:2], BACKGROUND)
    matched[0, case.rows] = torch.arange(len(case.rows))
    assignment = Assignment(matched, torch.zeros(raw.shape[:2]))
    return loss(HeadOutput(raw), assignment, [case.truth], case.anchors).total


WORKS: Final[dict[str, dict[str, Loss]]] = {
    "focal": {
        "dethead": partial(over_all, scheme=Focal(alpha=ALPHA, gamma=GAMMA)),
        "torchvision": focal_by_torchvision,
        "compile torchvision": focal_by_torchvision,
        "compile softplus": focal_by_softplus,
    },
    "bce": {"dethead": partial(over_all, scheme=SigmoidBCE()), "plain": bce, "compile": bce},
    "softmax": {"dethead": whole_criterion, "plain": softmax, "compile": softmax},
}
"""Contenders by work; the second is what dethead is checked against, in float64."""

ASKED: Final = {
    ("focal", "torchvision"): 10.0,
    ("focal", "compile"): 2.0,
    ("bce", "plain"): 4.0,
    ("bce", "compile"): 1.6,
    ("softmax", "plain"): 3.5,
    ("softmax", "compile"): 1.8,
}
"""Least ratio of times."""


def step(loss: Loss, case: Case) -> tuple[float, Tensor]:
    """Give the loss and its gradient."""
    raw = case.raw.detach().requires_grad_()
    value = loss(raw, case)
    value.backward()
    assert raw.grad is not None
    return value.item(), raw.grad


def check(work: str, count: int) -> None:
    """Refuse to go on where dethead's loss or gradient is not that of float64.

    Raises:
        AssertionError: naming the differences.
    """
    ours, reference = list(WORKS[work].values())[:2]
    case = make_case(count, dense=True)
    value, gradient = step(ours, case)
    wanted, slope = step(reference, case.double())
    off = abs(value - wanted) / abs(wanted)
    slope_off = (gradient - slope).abs().max().item()
    print(f"{work}: off float64 by {off:.1e} in the loss, {slope_off:.1e} in the gradient", flush=True)
    assert max(off, slope_off) <= TOLERANCE, (work, value, wanted, slope_off)


def measure(work: str, contender: str, count: int, rounds: int) -> dict[str, float]:
    """Time and measure one contender in this process."""
    loss = WORKS[work][contender]
    needs = contender != "dethead" and work != "softmax"
    if contender.startswith("compile"):
        loss = torch.compile(loss, dynamic=False)
    case = make_case(count, needs)
    # Loads and compiles. A compiled function is made for one size: its memory is that of a later step.
    step(loss, case if contender.startswith("compile") else make_case(ONE_IN, needs))
    mib = added_mib(lambda: step(loss, case))
    mib = mib if mib > 0 else math.nan  # too small to be seen, in quick runs: the kernel counts in batches
    times = least({contender: lambda: step(loss, case)}, rounds)[contender]
    return {"clock": 1000 * times.clock, "cpu": 1000 * times.cpu, "mib": mib}


def best(work: str, contender: str, options: argparse.Namespace) -> dict[str, float]:
    """Give the least of what processes of their own found so far, and one more."""
    sizes = (f"--anchors={options.anchors}", f"--rounds={options.rounds}", f"--threads={options.threads}")
    found = alone(__file__, "--measure", work, contender, *sizes)
    return {key: math.nan if value is None else value for key, value in found.items()}


def compare_all(options: argparse.Namespace) -> list[Row]:
    """Measure every contender of every work, in turn."""
    rows = []
    for work, contenders in WORKS.items():
        check(work, options.anchors)
        found = {name: best(work, name, options) for name in contenders}
        for _ in range(0 if options.quick else PROCESSES - 1):
            for name in contenders:
                again = best(work, name, options)
                found[name] = {key: min(value, again[key]) for key, value in found[name].items()}
        rows += tell(work, found, options)
    return rows


def tell(work: str, found: dict[str, dict[str, float]], options: argparse.Namespace) -> list[Row]:
    """Make the rows of one work: of time, and of memory in tensors of the output's size."""
    unit, key = ms(options), "cpu" if options.cpu else "clock"
    output = options.anchors * (CLASSES + 5) * 4 / 2**20
    case, ours = f"{options.anchors // 1000}k x {CLASSES + 5}", found.pop("dethead")
    rows, compiled = [], [name for name in found if name.startswith("compile")]
    fastest = min(compiled, key=lambda name: found[name][key])
    for peer, its in found.items():
        version = version_of("torchvision" if peer == "torchvision" else "torch")
        asked = None if peer in compiled and peer != fastest else ASKED[work, peer.split()[0]]
        less = its["mib"] / ours["mib"]
        seen = not math.isnan(less)
        told = partial(compare, peer=peer, peer_version=version)
        values = {"peer_value": its[key], "ours": ours[key], "memory_ratio": less if seen else None}
        rows.append(told(work, case, unit=unit, asked=asked, **values))
        if seen:
            of_output = {"peer_value": its["mib"] / output, "ours": ours["mib"] / output}
            rows.append(told(work, f"{case}, memory", unit="outputs", **of_output))
    return rows


def main() -> None:
    """Parse, check, measure."""
    made = parser(__doc__)
    made.add_argument("--anchors", type=int, default=240_000)
    made.add_argument("--rounds", type=int, default=10)
    made.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.quick:
        options.anchors, options.rounds = 5000, 2
    torch.set_num_threads(options.threads)
    if options.measure:
        print(json.dumps(measure(*options.measure, options.anchors, options.rounds)))
        return
    print(environment())
    finish(compare_all(options), options)


if __name__ == "__main__":
    main()
