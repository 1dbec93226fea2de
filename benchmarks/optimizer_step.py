"""Time a step of Muon beside PyTorch's own, and beside AdamW.

    python benchmarks/optimizer_step.py [--quick] [--json FILE] [--rounds 10]

Parameters are those of the detector of road_softmax_ce.yaml (EfficientNet-Lite0, two stages frozen), the
gradients random. *Muon*: its matrices alone, each as the (out, in * h * w) matrix that torch.optim.Muon
(PyTorch 2.9 and newer; in bfloat16) wants; the steps of both are compared before a time is printed. *Muon and
AdamW*: the whole step, beside fused AdamW on all parameters, which says what Muon costs.
Times are the least of some rounds, contenders in turn.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from side_by_side import Row, compare, environment, finish, least, ms, parser
from torch import nn

from dethead import build
from dethead.config import load
from dethead.training.muon import Muon
from dethead.training.optimisation import make_optimizer

CONFIG = Path(__file__).resolve().parents[1] / "configs/road_softmax_ce.yaml"
SETTINGS = {"lr": 1.0e-3, "weight_decay": 0.1}


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=10)
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    options.rounds = 1 if options.quick else options.rounds
    print(environment())
    finish([*_matrices(options), _detector(options)], options)


def _matrices(options: argparse.Namespace) -> Iterable[Row]:
    if not hasattr(torch.optim, "Muon"):
        print("matrices: PyTorch has had torch.optim.Muon from 2.9 on")
        return
    run = load(CONFIG, ["training.optimizer={name: muon, lr: 1.0e-3}"])
    groups = make_optimizer(run, build.detector(run, 5)).param_groups
    shapes = [p.flatten(1).shape for group in groups if group["matrices"] for p in group["params"]]
    theirs, ours = ([nn.Parameter(torch.randn(s) * 0.05) for s in shapes] for _ in range(2))
    for one, other in zip(theirs, ours, strict=True):
        other.data.copy_(one.data)
        one.grad = other.grad = torch.randn_like(one)
    peer = torch.optim.Muon(theirs, **SETTINGS, adjust_lr_fn="match_rms_adamw")
    own = Muon([{"params": ours, "matrices": True}], **SETTINGS)
    calls: dict[str, Callable[[], object]] = {"torch": peer.step, "dethead": own.step}
    times = least(calls, options.rounds)
    moved = SETTINGS["lr"] * own.param_groups[0]["update_rms"] * (options.rounds + 1)
    for one, other in zip(theirs, ours, strict=True):
        apart = float((one - other).detach().square().mean().sqrt())
        if not apart < 0.1 * moved:  # bfloat16: single numbers differ by more
            raise SystemExit(f"steps of a matrix {tuple(one.shape)} are {apart / moved:.0%} apart")
    values = (1000 * times[name].that_counts(options) for name in ("torch", "dethead"))
    yield compare("Muon", f"{len(shapes)} matrices of Lite0's detector", "torch Muon", ms(options), *values)


def _detector(options: argparse.Namespace) -> Row:
    calls: dict[str, Callable[[], object]] = {}
    for name in ("adamw", "muon"):
        run = load(CONFIG, [f"training.optimizer={{name: {name}, lr: 1.0e-3}}"])
        detector = build.detector(run, 5)
        calls[name] = make_optimizer(run, detector).step
        for parameter in detector.parameters():
            parameter.grad = torch.randn_like(parameter)
    times = least(calls, options.rounds)
    values = (1000 * times[name].that_counts(options) for name in ("adamw", "muon"))
    return compare("Muon and AdamW", "all of Lite0's detector", "torch fused AdamW", ms(options), *values)


if __name__ == "__main__":
    main()
