"""Time loss and gradient over all anchors on a GPU, beside torchvision, plain PyTorch and torch.compile.

    python benchmarks/gpu_losses.py [--anchors 1920000] [--rounds 50]

The works and contenders of ``losses.py`` on a CUDA device, in float32 and bfloat16; 1.92 M anchors are 8
images of 240k. Each contender is alone in a process, where its step is captured in a CUDA graph and replayed:
neither Python nor the start of each operation is part of the time. Where one of two cannot be captured,
because it waits for the device, both are timed as they run, and marked. The least of all rounds, by CUDA
events, counts.

*copy* is a copy of the output on the device. It reads one such tensor and writes one, as loss and gradient
must: its ratio is the share of the copy's bandwidth that dethead reaches. Memory is what a step adds at its
peak, by PyTorch's count, gradient included. Before anything is timed, loss and gradient are compared with
those of float64.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from losses import CLASSES, WORKS, Case, Loss, make_case
from side_by_side import Row, alone, compare, environment, finish, parser, version_of
from torch import Tensor

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCES: Final = {"float32": (1e-6, 1e-6), "bfloat16": (1e-5, 2**-8)}
"""Of the loss, relative, and of the gradient, which is at most 1: a millionth; one rounding to bfloat16."""
CHECKED: Final = 240_000
"""Anchors at most of the comparison with float64, which takes much memory."""
SHARE: Final = 0.8
"""Of the copy's bandwidth, asked of class losses over all anchors."""


def on_device(case: Case, dtype: torch.dtype) -> Case:
    """Give a case on the GPU, its output and targets in a type."""
    return case._replace(
        raw=case.raw.to("cuda", dtype),
        anchors=case.anchors._replace(boxes=case.anchors.boxes.cuda()),
        truth=case.truth.to("cuda"),
        rows=case.rows.cuda(),
        labels=case.labels.cuda(),
        deltas=case.deltas.cuda(),
        dense=case.dense.to("cuda", dtype),
    )


def step(loss: Loss, case: Case) -> tuple[Tensor, Tensor]:
    """Give the loss and its gradient, and wait for neither."""
    raw = case.raw.detach().requires_grad_()
    with torch.device("cuda"):
        value = loss(raw, case)
    return value.detach(), torch.autograd.grad(value, raw)[0]


def check(work: str, dtype: str, count: int) -> None:
    """Refuse to go on where dethead's loss or gradient is not that of float64.

    Raises:
        AssertionError: naming the differences.
    """
    ours, reference = list(WORKS[work].values())[:2]
    case = on_device(make_case(count, dense=True), DTYPES[dtype])
    value, gradient = step(ours, case)
    wanted, slope = step(reference, case.double())
    off = ((value - wanted).abs() / wanted.abs()).item()
    slope_off = (gradient - slope).abs().max().item()
    differences = f"{off:.1e} in the loss, {slope_off:.1e} in the gradient"
    print(f"{work}, {dtype}: off float64 by {differences}", flush=True)
    of_loss, of_gradient = TOLERANCES[dtype]
    assert off <= of_loss, (work, dtype, value, wanted)
    assert slope_off <= of_gradient, (work, dtype, slope_off)


def captured(call: Callable[[], object]) -> torch.cuda.CUDAGraph | None:
    """Give a call's operations as a graph; None: it waits for the device."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            call()
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return graph


def least_ms(call: Callable[[], object], rounds: int) -> float:
    """Give the least milliseconds of a call on the device, by events around it."""
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return min(times)


def added_mib(call: Callable[[], object]) -> float:
    """Give by how many MiB PyTorch's memory on the device grows at the peak of a call."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure(work: str, contender: str, dtype: str, options: argparse.Namespace) -> dict[str, float | None]:
    """Time and measure one contender in this process; "replayed" is None if it cannot be captured."""
    loss = WORKS[work][contender]
    if contender.startswith("compile"):
        loss = torch.compile(loss, dynamic=False)
    needs_dense = contender != "dethead" and work != "softmax"
    case = on_device(make_case(options.anchors, needs_dense), DTYPES[dtype])
    call = partial(step, loss, case)
    with torch.cuda.stream(torch.cuda.Stream()):  # compiles, and makes what is made once, as captures ask for
        for _ in range(3):
            call()
    graph = captured(call)
    found = {
        "launched": least_ms(call, options.rounds),
        "replayed": None if graph is None else least_ms(graph.replay, options.rounds),
        "mib": added_mib(call),
    }
    other = torch.empty_like(case.raw)
    return found | {"copy": least_ms(lambda: other.copy_(case.raw), options.rounds)}


def tell(
    work: str, dtype: str, found: dict[str, dict[str, float | None]], options: argparse.Namespace
) -> list[Row]:
    """Make the rows of one work: of time, and of memory in tensors of the output's size."""
    case = f"{options.anchors // 1000}k x {CLASSES + 5}, {dtype}"
    output = options.anchors * (CLASSES + 5) * DTYPES[dtype].itemsize / 2**20
    ours, rows = found.pop("dethead"), []
    for peer, its in found.items():
        key = "replayed" if its["replayed"] and ours["replayed"] else "launched"
        marked = case if key == "replayed" else f"{case}, not captured"
        version = version_of("torchvision" if peer == "torchvision" else "torch")
        told = partial(compare, peer=peer, peer_version=version)
        rows.append(told(work, marked, unit="ms", peer_value=its[key], ours=ours[key]))
        of_output = its["mib"] / output, ours["mib"] / output
        rows.append(told(work, f"{case}, memory", unit="outputs", peer_value=of_output[0], ours=of_output[1]))
    asked = None if work == "softmax" else SHARE
    own, version = ours["replayed"] or ours["launched"], version_of("torch")
    copied = compare(work, case, "copy", "ms", ours["copy"], own, asked=asked, peer_version=version)
    return [*rows, copied]


def compare_all(options: argparse.Namespace) -> list[Row]:
    """Measure every contender of every work."""
    sizes = (f"--anchors={options.anchors}", f"--rounds={options.rounds}")
    rows = []
    for work, contenders in WORKS.items():
        for dtype in DTYPES:
            check(work, dtype, min(options.anchors, CHECKED))
            found = {name: alone(__file__, "--measure", work, name, dtype, *sizes) for name in contenders}
            rows += tell(work, dtype, found, options)
    return rows


def main() -> None:
    """Parse, check, measure."""
    made = parser(__doc__, timed=False)
    made.add_argument("--anchors", type=int, default=1_920_000)
    made.add_argument("--rounds", type=int, default=50)
    made.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = made.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_losses.py measures on a CUDA device, and PyTorch finds none here")
    if options.quick:
        options.anchors, options.rounds = 5000, 2
    if options.measure:
        print(json.dumps(measure(*options.measure, options)))
        return
    print(f"{environment()}, {torch.cuda.get_device_name()}")
    finish(compare_all(options), options)


if __name__ == "__main__":
    main()
