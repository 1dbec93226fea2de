"""Say where the time of a training step and of detection goes, part by part.

    python benchmarks/whole_model_profile.py [--batch 8] [--rounds 5] [--threads 2] [--cpu]

The shipped road_softmax_ce.yaml is used as it is, with random weights, on drawn street scenes of 480 x 640
px. A step is cut into its parts at the tensors between them, forward and backward, and the least of all
rounds counts for each part. Data are read in this process by one core; in training, worker processes do that
beside the rest. Detection has about 1000 candidates an image; see ``equalise``. Prints tables in Markdown.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from side_by_side import THREADS, environment
from torch import Tensor, nn
from whole_model_peers import CLASSES, SHIPPED, Ours, assign, draw, equalise

from dethead import build, config
from dethead.config import Run
from dethead.data import CocoSet, DetectionDataset, TrainTransform
from dethead.data.dataset import collate
from dethead.data.scenes import draw_scenes
from dethead.detector import Detector
from dethead.structures import Batch, HeadOutput
from dethead.training.ema import WeightAverage
from dethead.training.optimisation import make_optimizer

SCENE: Final = (480, 640)  # px, height and width
FORWARD, BACKWARD = "forward", "backward"


class Stopwatch:
    """Gives the time since the last lap to a part; keeps, of each part, the least sum of a round.

    Args:
        cpu: time of all threads together in place of the clock on the wall.
    """

    def __init__(self, cpu: bool) -> None:
        self._now = time.process_time if cpu else time.perf_counter
        self._last = self._now()
        self._sums: dict[tuple[str, str], float] = {}
        self.least: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        """Begin a round."""
        self._sums, self._last = {}, self._now()

    def lap(self, part: str, way: str = FORWARD) -> None:
        """Give the milliseconds since the last call to a part, and to one way through it."""
        now = self._now()
        self._sums[part, way] = self._sums.get((part, way), 0.0) + 1000 * (now - self._last)
        self._last = self._now()

    def keep(self) -> None:
        """Count the round that ends here."""
        for key, value in self._sums.items():
            self.least[key] = min(value, self.least.get(key, value))

    def table(self) -> str:
        """Lay the parts out in Markdown, in the order in which they came."""
        parts = dict.fromkeys(part for part, _ in self.least)
        whole = sum(self.least.values())
        lines = ["| part | forward, ms | backward, ms | share |", "|---|---|---|---|"]
        for part in parts:
            ways = [self.least.get((part, way)) for way in (FORWARD, BACKWARD)]
            cells = ["-" if one is None else f"{one:.1f}" for one in ways]
            lines.append(f"| {part} | {' | '.join(cells)} | {sum(one or 0 for one in ways) / whole:.1%} |")
        return "\n".join([*lines, f"| all | {whole:.1f} | | |"])


class Cut(NamedTuple):
    """Where one part of the network ends and the next begins."""

    given: list[Tensor]
    """What the part gave."""
    leaves: list[Tensor]
    """The same numbers without a history: what the next part got."""


class Parts:
    """Cuts a detector in three, so that each part's way forward and back can be timed by itself."""

    def __init__(self, detector: Detector, watch: Stopwatch) -> None:
        self.watch, self.cuts = watch, dict[str, Cut]()
        inner: Any = detector.backbone.backbone
        for name, module in (("backbone", inner), ("neck", detector.backbone), ("head", detector.head)):
            module.register_forward_hook(partial(self._leave, name))

    def _leave(self, name: str, _: nn.Module, __: Any, output: Any) -> Any:
        self.watch.lap(name)
        if not torch.is_grad_enabled():
            return None
        given = [output.raw] if isinstance(output, HeadOutput) else list(output)
        self.cuts[name] = Cut(given, [one.detach().requires_grad_() for one in given])
        leaves = self.cuts[name].leaves
        return HeadOutput(leaves[0]) if isinstance(output, HeadOutput) else leaves

    def backward(self) -> None:
        """Go back from the gradient of the head's output."""
        for name in ("head", "neck", "backbone"):
            given, leaves = self.cuts.pop(name)
            torch.autograd.backward(given, [leaf.grad for leaf in leaves])
            self.watch.lap(name, BACKWARD)


def draw_data(folder: Path, run: Run, images: int) -> tuple[DetectionDataset, DetectionDataset]:
    """Draw scenes; give them as training and as validation data of ``CLASSES`` classes."""
    draw_scenes(folder, 2 * images, seed=0, val_fraction=0.5, size=SCENE)
    size = (run.data.image_size[0], run.data.image_size[1])
    transform = TrainTransform(**run.data.augment.model_dump())
    made = []
    for split, change in (("train", transform), ("val", None)):
        path = folder / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        for number in range(CLASSES - len(content["categories"])):
            content["categories"].append({"id": 100 + number, "name": f"not drawn {number}"})
        path.write_text(json.dumps(content), encoding="utf-8")
        made.append(
            DetectionDataset(
                CocoSet.read(path), folder / "images", size, change, seed=0, epochs=run.training.epochs
            )
        )
    return made[0], made[1]


def read(dataset: DetectionDataset, batch: int) -> Batch:
    """Read a batch; the same images each time, with the same changes."""
    return collate([dataset[0, index % len(dataset)] for index in range(batch)])


def profile_training(run: Run, dataset: DetectionDataset, batch: int, rounds: int, watch: Stopwatch) -> None:
    """Do the steps of the training loop, without what logs and validates."""
    detector = build.detector(run, CLASSES).train()
    assigner, criterion, postprocessor = build.assigner(run), build.criterion(run), build.postprocessor(run)
    optimizer, average = make_optimizer(run, detector), WeightAverage(detector, 0.998, 200)
    parts, anchors = Parts(detector, watch), detector.anchors(run.data.image_size)
    for turn in range(rounds + 1):
        watch.start()
        images, truth, *_ = read(dataset, batch)
        watch.lap("data, one core")
        output = detector(images)
        assignment = assign(assigner, postprocessor, output, anchors, truth)
        watch.lap("assigner")
        terms = criterion(output, assignment, truth, anchors)
        watch.lap("criterion")
        terms.total.backward()
        watch.lap("criterion", BACKWARD)
        parts.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), run.training.clip_norm or 10.0)
        watch.lap("clipping")
        optimizer.step()
        optimizer.zero_grad()
        watch.lap("optimizer")
        average.update(detector, turn + 1)
        watch.lap("average of weights")
        if turn:
            watch.keep()


def profile_detection(run: Run, dataset: DetectionDataset, batch: int, rounds: int, watch: Stopwatch) -> None:
    """Do what prediction does."""
    detector = build.detector(run, CLASSES)
    ours = Ours(detector, build.assigner(run), build.criterion(run), build.postprocessor(run))
    equalise(ours, draw(2, run.data.image_size[0]))
    folded, anchors = detector.for_detection(run.data.image_size), detector.anchors(run.data.image_size)
    Parts(folded, watch)
    with torch.inference_mode():
        for turn in range(rounds + 1):
            watch.start()
            images, _, _, resizes = read(dataset, batch)
            watch.lap("data, one core")
            output = folded(images)
            ours.postprocessor(output, anchors, resizes)
            watch.lap("postprocessing")
            if turn:
                watch.keep()


def main() -> None:
    """Parse, measure, print."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="small images, one round: does it run at all?")
    made.add_argument("--batch", type=int, default=8)
    made.add_argument("--rounds", type=int, default=5, help="that count, after one that does not")
    made.add_argument("--threads", type=int, default=THREADS)
    made.add_argument("--cpu", action="store_true", help="CPU time: for a machine that others use, too")
    options = made.parse_args()
    overrides: Iterable[str] = ()
    if options.quick:
        options.batch, options.rounds, options.threads = 2, 1, 1
        overrides = ["data.image_size=[160, 160]"]
    torch.set_num_threads(options.threads)
    print(environment())
    run = config.load(SHIPPED, list(overrides))
    with tempfile.TemporaryDirectory() as folder:
        train, val = draw_data(Path(folder), run, options.batch)
        for what, profile, dataset in (
            ("training step", profile_training, train),
            ("detection", profile_detection, val),
        ):
            watch = Stopwatch(options.cpu)
            profile(run, dataset, options.batch, options.rounds, watch)
            kind = "CPU time" if options.cpu else "clock"
            print(f"\n{what}, batch {options.batch}, {run.data.image_size[0]} px, {kind}:\n\n{watch.table()}")


if __name__ == "__main__":
    main()
