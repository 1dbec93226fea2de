"""COCO evaluation side by side: time, memory and growth, from JSON files and from arrays.

    python benchmarks/coco_evaluation.py [--detections 50000 500000 5000000] [--sources files arrays]

Contenders are dethead, pycocotools and, where installed, faster-coco-eval and hotcoco: peers for this
comparison only, ``pip install faster-coco-eval hotcoco`` (in an environment of their own, if you like, that
PYTHONPATH then names). Those missing are named. The sets are drawn, see ``coco_set.py``. Each contender runs
in a process of its own, all in turn, and the least of its times counts, by the clock and of all cores
together. The 12 numbers of all are compared before a time is printed. dethead runs on one thread; peers may
use all there are: ``taskset -c 0`` before the command gives everyone one core. All of it takes about ten
minutes, 4 GiB of memory and 1 GiB in the temporary folder.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from coco_contender import MODULES
from coco_set import draw_set, write_set

import dethead

LARGEST = {"pycocotools": 500_000, "faster-coco-eval": 500_000}
"""Detections beyond which a contender takes many minutes, or more memory than a laptop has."""
REPEATS = 3


class Figures(NamedTuple):
    """What one contender needs for one set."""

    seconds: float
    """The least of all repeats."""
    cpu: float
    """Seconds of all cores together, the least of all repeats: other programs disturb it less."""
    mib: float
    """The most of all repeats, beside libraries and the arrays given."""


def measure(name: str, source: str, folder: Path, repeats: int) -> tuple[list[float], Figures]:
    """Run one contender in a process of its own and give its 12 numbers and its figures."""
    script = Path(__file__).with_name("coco_contender.py")
    command = [sys.executable, str(script), name, source, str(folder), str(repeats)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    return answer["numbers"], Figures(*(answer[key] for key in Figures._fields))


def compare(names: list[str], source: str, folder: Path, rounds: int) -> dict[str, Figures]:
    """Measure all contenders in turn, ``rounds`` times, the slow ones once, and check that they agree.

    Raises:
        AssertionError: a contender that has other numbers than dethead.
    """
    figures: dict[str, Figures] = {}
    numbers: dict[str, list[float]] = {}
    for turn in range(rounds):
        for name in names:
            if name in LARGEST and turn:
                continue
            numbers[name], found = measure(name, source, folder, 1 if name in LARGEST else REPEATS)
            before = figures.get(name, found)
            least = map(min, before[:2], found[:2])
            figures[name] = Figures(*least, mib=max(before.mib, found.mib))
    for name, values in numbers.items():
        np.testing.assert_allclose(values, numbers["dethead"], atol=1e-12, rtol=0, err_msg=name)
    print(f"AP {numbers['dethead'][0]:.6f}; 12 numbers of all equal to 1e-12")
    return figures


def show(figures: dict[str, Figures]) -> None:
    """Print a row for each contender: seconds by the clock and of all cores, memory, ratios to dethead."""
    ours = figures["dethead"]
    print(f"  {'':26} {'clock':>10} {'cores':>10} {'beside':>12}   clock and cores: dethead is 1")
    for name, (seconds, cpu, mib) in figures.items():
        ratios = f"{seconds / ours.seconds:8.2f} {cpu / ours.cpu:8.2f}"
        print(f"  {name:>17} {version(name):<8} {seconds:8.3f} s {cpu:8.3f} s {mib:8.0f} MiB {ratios}")


def version(name: str) -> str:
    """Give the version that is measured."""
    return dethead.__version__ if name == "dethead" else importlib.metadata.version(name)


def show_growth(of: dict[int, Figures], source: str) -> None:
    """Print what a million detections cost dethead in sets of different sizes: constant if it is linear."""
    print(f"\ndethead from {source}, growth with the number of detections:")
    for detections, (seconds, cpu, mib) in of.items():
        million = detections / 1e6
        cost = f"{seconds / million:6.3f} s, {cpu / million:6.3f} s of cores, {mib / million:5.0f} MiB"
        print(f"  {detections:>9,} {seconds:8.3f} s {mib:6.0f} MiB; per million {cost}")


def main() -> None:
    """Parse, draw, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detections", type=int, nargs="+", default=[50_000, 500_000, 5_000_000])
    parser.add_argument("--sources", nargs="+", default=["files", "arrays"], choices=["files", "arrays"])
    parser.add_argument("--rounds", type=int, default=2, help=f"processes per contender, {REPEATS} runs each")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="contenders to leave out")
    options = parser.parse_args()
    missing = [name for name, module in MODULES.items() if importlib.util.find_spec(module) is None]
    names = [name for name in MODULES if name not in {*missing, *options.without}]
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}; not installed: {missing or 'none'}")
    growth: dict[str, dict[int, Figures]] = {source: {} for source in options.sources}
    for detections in options.detections:
        with tempfile.TemporaryDirectory() as folder:
            write_set(Path(folder), draw_set(detections))
            fit = [name for name in names if detections <= LARGEST.get(name, detections)]
            for source in options.sources:
                print(f"\n{detections:,} detections from {source}: ", end="", flush=True)
                figures = compare(fit, source, Path(folder), options.rounds)
                show(figures)
                growth[source][detections] = figures["dethead"]
    for source, of in growth.items():
        show_growth(of, source)


if __name__ == "__main__":
    main()
