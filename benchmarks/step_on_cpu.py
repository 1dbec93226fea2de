"""Time what makes a training step shorter on a CPU, beside the same step without it.

    python benchmarks/step_on_cpu.py [--quick] [--json FILE] [--rounds 5]

The work is the detector of road_softmax_ce.yaml (EfficientNet-Lite0) at its size and batch, forward and back.
*Depthwise layers*: its convolutions of 5 x 5 alone, as ``nn.Conv2d`` and as ``DepthwiseConv2d``; the
gradients are compared before a time is printed. *Step*: the whole, with either, in float32 and in bfloat16.
*Kept memory*: the whole in float32 with and without ``keep_freed_memory``, in processes of their own.
Times are the least of some rounds, contenders in turn.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from side_by_side import Row, alone, compare, environment, finish, least, ms, parser
from torch import Tensor, nn

from dethead import build
from dethead.backbones import DepthwiseConv2d
from dethead.config import load
from dethead.detector import Detector
from dethead.training.memory import keep_freed_memory

CONFIG = Path(__file__).resolve().parents[1] / "configs/road_softmax_ce.yaml"
TYPES = {"float32": False, "bfloat16": True}


def plain(detector: Detector) -> Detector:
    """Give a copy whose depthwise convolutions are PyTorch's own."""
    made = copy.deepcopy(detector)
    for layer in made.modules():
        if type(layer) is DepthwiseConv2d:
            layer.__class__ = nn.Conv2d
    return made


def step(detector: Detector, images: Tensor, narrow: bool = False) -> Callable[[], None]:
    """Make a pass forward and back."""

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            raw = detector(images).raw
        raw.float().square().mean().backward()
        detector.zero_grad()

    return run


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--one", choices=("kept", "given back"), help=argparse.SUPPRESS)
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    options.rounds = 1 if options.quick else options.rounds
    run = load(CONFIG)
    side = 64 if options.quick else run.data.image_size[0]
    detector = build.detector(run, 5).train()
    images = torch.randint(256, (run.training.batch_size, 3, side, side), dtype=torch.uint8)
    case = f"{run.training.batch_size} images of {side} px"
    if options.one is not None:
        if options.one == "kept" and not keep_freed_memory():
            raise SystemExit("only glibc is told to keep memory")
        print(json.dumps(least({"": step(detector, images)}, options.rounds)[""].that_counts(options)))
        return
    print(environment())
    keep_freed_memory()
    rows = [*_layers(detector, images, options), *_steps(detector, images, case, options)]
    finish([*rows, _memory(case, options)], options)


def _layers(detector: Detector, images: Tensor, options: argparse.Namespace) -> Iterable[Row]:
    seen: list[tuple[DepthwiseConv2d, Tensor]] = []
    layers = [one for one in detector.modules() if isinstance(one, DepthwiseConv2d)]
    hooks = [
        one.register_forward_hook(lambda layer, given, _: seen.append((layer, given[0].detach())))
        for one in layers
    ]
    with torch.no_grad():
        detector(images)
    for hook in hooks:
        hook.remove()

    def back(kind: type[nn.Conv2d]) -> Callable[[], list[Tensor]]:
        pairs = []
        for layer, features in seen:
            one = copy.deepcopy(layer)
            one.__class__ = kind
            pairs.append((one, features, torch.ones_like(one(features).detach())))

        def run() -> list[Tensor]:
            return [torch.autograd.grad(one(given), one.weight, by)[0] for one, given, by in pairs]

        return run

    calls = {"torch": back(nn.Conv2d), "dethead": back(DepthwiseConv2d)}
    for theirs, ours in zip(calls["torch"](), calls["dethead"](), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))
    times = least(calls, options.rounds)
    values = (1000 * times[name].that_counts(options) for name in ("torch", "dethead"))
    yield compare("depthwise layers", f"{len(seen)} of 5 x 5", "torch Conv2d", ms(options), *values)


def _steps(detector: Detector, images: Tensor, case: str, options: argparse.Namespace) -> Iterable[Row]:
    own = plain(detector)
    for name, narrow in TYPES.items():
        times = least(
            {"torch": step(own, images, narrow), "dethead": step(detector, images, narrow)}, options.rounds
        )
        values = (1000 * times[one].that_counts(options) for one in ("torch", "dethead"))
        yield compare("step", f"{case}, {name}", "torch Conv2d", ms(options), *values)


def _memory(case: str, options: argparse.Namespace) -> Row:
    asked = ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    asked += ["--quick"] * options.quick + ["--cpu"] * options.cpu
    values = (1000 * float(alone(__file__, "--one", which, *asked)) for which in ("given back", "kept"))
    return compare("step, kept memory", f"{case}, float32", "torch", ms(options), *values)


if __name__ == "__main__":
    sys.exit(main())
