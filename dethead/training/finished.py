"""A run that was trained, taken up again to be used and scored."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dethead import build
from dethead.config import ConfigError, Run, check, override_with
from dethead.data import CocoSet, Split
from dethead.detector import Detector
from dethead.evaluation import CocoMetrics, official_metrics
from dethead.oracles import BranchOracles
from dethead.postprocess import Postprocessor
from dethead.structures import Detections
from dethead.training import checkpoint
from dethead.training.accelerator import make_accelerator
from dethead.training.by_class import with_thresholds_in_order
from dethead.training.inputs import open_split
from dethead.training.memory import keep_freed_memory
from dethead.training.progress import bar
from dethead.training.run_folder import best_of
from dethead.training.validation import score


@dataclass(frozen=True)
class FinishedRun:
    """The best weights of a run and all that belongs to them."""

    run: Run
    """Its config."""
    class_names: tuple[str, ...]
    """C names in order of the labels."""
    category_ids: tuple[int, ...]
    """C category ids for results files."""
    detector: Detector
    """In evaluation mode, on the CPU."""
    postprocessor: Postprocessor

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Load a run folder, or a checkpoint file ``best.pt`` by itself.

        Args:
            path: of either.
            overrides: ``postprocess.key=value``, what is to be another than it was in training.

        Raises:
            RunFolderError: the folder holds no run.
            CheckpointError: its best checkpoint is not there yet, or damaged.
            ConfigError: overrides of something else, or out of range.
        """
        file = best_of(path)
        values = checkpoint.load(file)
        if "config" not in values:
            raise checkpoint.CheckpointError(f"{file}: is no best.pt (it holds no config)")
        names, ids = tuple(values["classes"]), tuple(values["category_ids"])
        for override in overrides:
            if not override.startswith("postprocess."):
                raise ConfigError(f"{override!r}: of a trained run only postprocess.key=value can be changed")
            override_with(values["config"], override)
        run = with_thresholds_in_order(check(values["config"], str(file)), names)
        detector = build.detector(build.without_weights(run), len(values["classes"]))
        try:
            detector.load_state_dict(values["model"])
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise checkpoint.CheckpointError(f"{file}: does not fit its config: {first}") from None
        return cls(run, names, ids, detector.eval(), build.postprocessor(run))


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What ``evaluate_run`` found."""

    metrics: CocoMetrics
    coco: CocoSet
    """The truth it was scored against."""
    detections: dict[int, Detections]
    """By place in ``coco``, of the images that could be read, if they were asked for."""
    oracles: dict[str, CocoMetrics]
    """With a branch replaced by the truth, by name of the oracle, if they were asked for."""
    images_per_s: float
    """Reading, detection, suppression and what else was asked for, of all processes together."""
    is_main: bool
    """Whether this process is the one that has the numbers of all images."""


def evaluate_run(
    path: Path,
    split: Split,
    *,
    device: str = "auto",
    batch_size: int = 8,
    workers: int = 0,
    official: bool = False,
    keep_detections: bool = False,
    oracles: bool = False,
    flip: bool = False,
    overrides: Sequence[str] = (),
) -> Evaluated:
    """Give the COCO numbers of a run's best weights on a split, in float32.

    On a CPU the process keeps memory that it frees from then on (``memory.keep_freed_memory``).

    Args:
        path: run folder, or its ``best.pt``.
        split: annotation file and image folder; the run's classes are looked up in it by name.
        device: "auto", "cpu", "cuda", ...
        batch_size: images of a batch, all processes together.
        workers: processes that read images.
        official: let pycocotools itself compute the numbers.
        keep_detections: give the detections, too.
        oracles: give the numbers with each branch replaced by the truth, too, by our own engine.
        flip: ask the mirror image of every image, too, and average the two answers; takes twice as long.
        overrides: ``postprocess.key=value``, what is to be another than it was in training.

    Raises:
        RunFolderError, CheckpointError, DataError: nothing to load, or data that does not fit the run.
        ConfigError: overrides of something else, or out of range.
        ValueError: oracles with ``flip``, which replace branches of one answer; a size without mirror cells.
    """
    if oracles and flip:
        raise ValueError("oracles replace branches of one answer: leave flip out, or the oracles")
    accelerator = make_accelerator(device)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    finished = FinishedRun.load(path, overrides)
    dataset = open_split(finished.run, split, finished.class_names)
    detector = finished.detector.to(accelerator.device)
    start = time.monotonic()
    with bar("evaluation", len(dataset), accelerator.is_main_process) as progress:
        scored = score(
            detector,
            finished.postprocessor,
            dataset,
            accelerator,
            batch_size=batch_size,
            workers=workers,
            keep_detections=keep_detections,
            oracles=_oracles(finished) if oracles else None,
            flip=flip,
            progress=progress,
        )
    rate = len(dataset) / (time.monotonic() - start)
    evaluator = scored.evaluator
    metrics = official_metrics(evaluator.arrays()) if official else evaluator.compute()
    replaced = {name: one.compute() for name, one in scored.oracles.items()}
    return Evaluated(metrics, dataset.coco, scored.detections, replaced, rate, accelerator.is_main_process)


def _oracles(finished: FinishedRun) -> BranchOracles:
    return BranchOracles(finished.postprocessor, build.assigner(finished.run))
