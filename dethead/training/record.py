"""What is written down while a run works: log lines, metrics, the line per epoch."""

import json
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from dethead.evaluation import CocoMetrics
from dethead.files import write_atomically, write_json
from dethead.normalisers import Counts
from dethead.running import add_seen
from dethead.structures import ClassesSeen
from dethead.training import checkpoint
from dethead.training.memory import peak_memory
from dethead.training.progress import duration
from dethead.training.run_folder import RunFolder, read_log
from dethead.training.validation import Scored, write_detections

if TYPE_CHECKING:
    from dethead.training.loop import Trainer


class Window:
    """Steps since the last line of the log."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all steps."""
        self.sums: dict[str, Tensor] = {}
        self.seen: ClassesSeen | None = None
        self.counts: Counts | None = None
        self.norm, self.finite = 0.0, 0
        self.steps, self.images, self.started = 0, 0, time.perf_counter()

    def add(
        self, sums: dict[str, Tensor], norm: float, images: int, seen: ClassesSeen | None, counts: Counts
    ) -> None:
        """Add a step: loss terms, gradient norm, images, what each class got on all processes, and counts."""
        self.counts = counts
        self.sums = {name: value + self.sums[name] if self.sums else value for name, value in sums.items()}
        if seen is not None:
            self.seen = seen if self.seen is None else add_seen(self.seen, seen)
        if norm < math.inf:  # fp16 skips a step that overflows
            self.norm, self.finite = self.norm + norm, self.finite + 1
        self.steps, self.images = self.steps + 1, self.images + images

    def line(self, accelerator: Accelerator, names: Sequence[str]) -> dict[str, Any]:
        """Means over the steps and processes, with the C names' gradients, and the last step's positives."""
        mean: Tensor = accelerator.reduce(torch.stack([*self.sums.values()]) / self.steps, reduction="mean")
        return {
            **dict(zip(self.sums, mean.tolist(), strict=True)),
            "gradient_norm": self.norm / max(self.finite, 1),
            "images_per_s": self.images / (time.perf_counter() - self.started),
            **self._class_gradients(names),
            "positives": self._positives(),
        }

    def _positives(self) -> float:
        """Positive anchors of the last step, on all processes."""
        return float(self.counts.positives) * float(self.counts.processes) if self.counts else 0.0

    def _class_gradients(self, names: Sequence[str]) -> dict[str, Any]:
        """Say what pulled each class up and pushed it down: sums of gradients over logits, a step's mean."""
        if self.seen is None:
            return {}
        up, down = (column / self.steps for column in self.seen[1:])
        pairs = zip(up.tolist(), down.tolist(), strict=True)
        return {"class_gradient": {n: {"up": u, "down": d} for n, (u, d) in zip(names, pairs, strict=True)}}


class _Stretch(NamedTuple):
    """A line of the log."""

    end: int
    """Its step."""
    steps: int
    """It is the mean of so many, this one and those before."""
    line: dict[str, Any]


class Record:
    """Writes the run folder's log and metrics; only the main process does.

    Args:
        folder: of the run.
        accelerator: whose trackers get the same numbers.
    """

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        self.folder, self.accelerator = folder, accelerator
        self.best: dict[str, Any] = {}
        """The validation with the highest AP so far, as in metrics.json."""
        self.trained: list[_Stretch] = []
        """What the log says of the epoch that was trained last, as far as it has come."""

    def steps(self, line: dict[str, Any], step: int, steps_per_epoch: int) -> None:
        """Write a line about the training steps since the last one."""
        epoch = step / steps_per_epoch
        self._keep(line, step, steps_per_epoch)
        if self.accelerator.is_main_process:
            self.folder.append_log({"step": step, "epoch": epoch, **line})
            self.accelerator.log({n: v for n, v in line.items() if isinstance(v, float)}, step=step)

    def take_up(self, steps_per_epoch: int) -> None:
        """Read from the log what is there of the epoch that the run stopped in."""
        lines = [line for line in read_log(self.folder.log) if "val" not in line]
        for line in lines[-steps_per_epoch:]:
            self._keep(line, line["step"], steps_per_epoch)

    def _keep(self, line: dict[str, Any], step: int, steps_per_epoch: int) -> None:
        begun = (step - 1) // steps_per_epoch * steps_per_epoch
        if self.trained and self.trained[-1].end <= begun:
            self.trained.clear()
        self.trained.append(_Stretch(step, step - (self.trained[-1].end if self.trained else begun), line))

    def validation(
        self, metrics: CocoMetrics, losses: dict[str, float], step: int, epoch: int, totals: dict[str, Any]
    ) -> bool:
        """Write a validation down; True if it is the best so far."""
        entry = {"epoch": epoch, "step": step, **metrics.as_dict(), "losses": losses}
        numbers = {**metrics.numbers(), **losses}
        defined = {name: value for name, value in numbers.items() if not math.isnan(value)}
        self.folder.append_log({"step": step, "epoch": epoch, "val": {n: defined.get(n) for n in numbers}})
        self.accelerator.log({f"val/{name}": value for name, value in defined.items()}, step=step)
        # Without objects to measure there is no AP; then the latest weights are the best.
        best, ap = self.best.get("AP"), entry["AP"]
        improved = best is None or (ap is not None and ap > best)
        if improved:
            self.best = entry
        report = {"best": self.best, "last": entry, **totals}
        write_atomically(self.folder.metrics, json.dumps(report, indent=2))
        return improved

    def epoch_line(self, epoch: str, metrics: CocoMetrics, losses: dict[str, float], left: float) -> str:
        """Say in a line how an epoch went, all its steps; ``left`` seconds of training are still to come."""
        parts = [f"epoch {epoch}"]
        if self.trained:
            terms = ", ".join(f"{name} {self._mean(name):.3f}" for name in losses if name != "total")
            seconds = sum(one.steps / one.line["images_per_s"] for one in self.trained)  # for 1 image a step
            rate = sum(one.steps for one in self.trained) / seconds
            parts += [f"loss {self._mean('total'):.3f} ({terms})", f"{rate:.1f} images/s"]
        parts += [
            f"val loss {losses['total']:.3f}",
            f"AP {_percent(metrics.AP)}, AP50 {_percent(metrics.AP50)}",
        ]
        parts += [f"{duration(left)} left"] if left > 0 else []
        return " | ".join(parts)

    def _mean(self, name: str) -> float:
        total: float = sum(one.steps * one.line[name] for one in self.trained)
        return total / sum(one.steps for one in self.trained)


def write_validation(trainer: "Trainer", scored: Scored) -> None:
    """Write a validation down; called by all processes, written by the first.

    The log, the metrics, ``best.pt`` if it is the best so far, and after the last epoch its detections and
    what they would be worth with each branch true.
    """
    memory = peak_memory(trainer.accelerator)
    if not trainer.accelerator.is_main_process:
        return
    metrics, step, data = scored.evaluator.compute(), trainer.step, trainer.data
    epoch = step // trainer.steps_per_epoch
    totals = {
        "train_seconds": trainer.seconds,
        "images_per_s": step * trainer.settings.batch_size / trainer.seconds,
        "peak_memory_bytes": memory,
        "parameters": trainer.parameters(),
        "unreadable": {name: int(one.unreadable.sum()) for name, one in data._asdict().items()},
    }
    if trainer.record.validation(metrics, scored.losses, step, epoch, totals):
        values = {
            "model": trainer.scored_detector.state_dict(),
            "config": trainer.run.model_dump(mode="json"),
            "classes": list(data.class_names),
            "category_ids": list(data.category_ids),
            "step": step,
            "epoch": epoch,
        }
        checkpoint.save(values, trainer.folder.best)
    left = trainer.seconds / step * (trainer.total_steps - step)
    line = trainer.record.epoch_line(f"{epoch}/{trainer.settings.epochs}", metrics, scored.losses, left)
    trainer.say(line)
    if scored.found_nothing:
        # Many classes and few steps: the product of two small probabilities. AP 0 alone would look broken.
        limits = trainer.run.postprocess
        further = " or class_thresholds" if limits.class_thresholds else ""
        trainer.say(
            "nothing was detected on val: no score reaches postprocess.score_threshold "
            f"{limits.score_threshold:g}{further}"
        )
    if step == trainer.total_steps:
        write_json(trainer.folder.oracles, {n: one.compute().as_dict() for n, one in scored.oracles.items()})
        _write_last_detections(trainer, scored)


def _write_last_detections(trainer: "Trainer", scored: Scored) -> None:
    path, ids = trainer.folder.detections, trainer.data.category_ids
    if len({*ids}) < len(ids):
        trainer.say(f"no {path.name}: two classes share a category id {[*ids]}, it could not tell them apart")
        return
    write_detections(path, trainer.data.val.coco, scored.detections)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f} %"
