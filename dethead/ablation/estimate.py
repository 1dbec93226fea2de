"""How long an ablation takes and how much disk it needs, from a few steps of each kind of variant."""

import heapq
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

import torch

from dethead.ablation.plan import Plan, PlannedRun
from dethead.ablation.preflight import Ready, preflight, trial
from dethead.config import Run, flat
from dethead.structures import Batch
from dethead.training import Inputs
from dethead.training.accelerator import is_cpu
from dethead.training.loop import Trainer
from dethead.training.progress import duration
from dethead.training.run_state import save
from dethead.training.validation import predict_batches

WARM_UP, TIMED = 2, 3
"""Steps that are not counted, and steps whose median is."""
START_SECONDS = 15.0
"""Of a run beside its steps: starting a process, opening the data, pictures at the end. Not measured."""
DETECTION_BYTES = 250
"""Of a row in detections.json."""
OTHER_BYTES = 2_000_000
"""Of a run's log, metrics and pictures."""
FREE = (
    "seed",
    "class_scheme",
    "head.class_prior",
    "head.confidence_prior",
    "data.sampler",
    "loss.class_term",
    "loss.confidence_term",
    "loss.box_term",
    "postprocess.fusion",
    "training.epochs",
    "training.optimizer.lr",
    "training.optimizer.backbone_lr_factor",
    "training.optimizer.weight_decay",
    "training.optimizer.momentum",
    "training.schedule",
    "training.clip_norm",
    "training.validate_every",
    "training.log_every",
    "training.checkpoint_every",
)
"""Keys that do not change what a step costs; the class scheme does where all anchors have a class loss."""


class Cost(NamedTuple):
    """Of one kind of variant, on this machine."""

    read_seconds: float
    """To read and augment the images of a step, in one process."""
    step_seconds: float
    """Of the step itself."""
    image_seconds: float
    """To read, predict and decode one image of the validation set."""
    checkpoint_bytes: int
    """Of last.pt and best.pt."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is still to be trained, how long that takes and what it leaves on the disk."""

    runs: int
    jobs: int
    seconds: float
    """Until the last run ends."""
    bytes: int
    run_seconds: Mapping[str, float]
    """Of one run of each variant."""
    assumed: tuple[str, ...]
    """What the numbers rest on."""

    def words(self) -> str:
        """Say "12 runs, about 3 h 10 min with 2 jobs, 1.2 GB"."""
        runs = f"{self.runs} {'run' if self.runs == 1 else 'runs'}"
        jobs = f"{self.jobs} {'job' if self.jobs == 1 else 'jobs'}"
        return f"{runs}, about {duration(self.seconds)} with {jobs}, {_size(self.bytes)}"


def estimate(
    plan: Plan,
    inputs: Inputs,
    jobs: int = 1,
    *,
    ready: Mapping[str, Ready] | None = None,
    runs: Sequence[PlannedRun] | None = None,
    threads: int | None = None,
) -> Estimate:
    """Estimate time and disk of an ablation from two steps to warm up and three timed ones.

    Variants that differ in nothing that costs time (learning rate, loss weights, a class scheme on positive
    anchors) are measured once. Nothing is left behind, and no run starts from what was trained here.

    Args:
        plan: the ablation.
        inputs: of all runs.
        jobs: processes that train at a time, at least 1.
        ready: what ``preflight`` gave, which is done here if it is not there.
        runs: those still to be trained; all of the plan if not given.
        threads: CPU threads of a run; by default those of this process, shared out over the jobs.
    """
    ready = preflight(plan, inputs) if ready is None else ready
    runs = plan.runs() if runs is None else runs
    before = torch.get_num_threads()
    threads = max(1, before // jobs) if threads is None else threads
    torch.set_num_threads(threads)
    try:
        costs = _costs({one.variant.name: ready[one.variant.name] for one in runs}, inputs)
    finally:
        torch.set_num_threads(before)
        torch.cuda.empty_cache()  # the memory is for the runs, which are other processes
    seconds = {name: _run_seconds(ready[name], cost, inputs.workers) for name, cost in costs.items()}
    slots = _slots(inputs.device, jobs)
    return Estimate(
        runs=len(runs),
        jobs=jobs,
        seconds=_last_end([seconds[one.variant.name] for one in runs], slots),
        bytes=sum(_run_bytes(ready[one.variant.name], costs[one.variant.name]) for one in runs),
        run_seconds=seconds,
        assumed=_assumed(slots, threads, inputs),
    )


def _costs(ready: Mapping[str, Ready], inputs: Inputs) -> dict[str, Cost]:
    """Measure each kind of variant once."""
    of_kind: dict[str, Cost] = {}
    costs = {}
    for name, one in ready.items():
        kind = repr(_kind(one.run))
        if kind not in of_kind:
            with trial(one.run, inputs, one.data) as trainer:
                of_kind[kind] = _measure(trainer)
        costs[name] = of_kind[kind]
    return costs


def _kind(run: Run) -> dict[str, object]:
    """Give the keys that decide what a step costs."""
    free = [key for key in FREE if key != "class_scheme" or run.loss.class_on == "positives"]
    keys = flat(run.model_dump(mode="json"))
    return {k: v for k, v in keys.items() if not any(k == one or k.startswith(f"{one}.") for one in free)}


def _measure(trainer: Trainer) -> Cost:
    reading, working = _time_steps(trainer)
    image = _time_validation(trainer)
    save(trainer)
    last = trainer.folder.last.stat().st_size
    best = sum(value.nbytes for value in trainer.scored_detector.state_dict().values())
    return Cost(reading, working, image, last + best)


def _time_steps(trainer: Trainer) -> tuple[float, float]:
    """Median seconds to read the images of a step, and to train it."""
    batches = _endless(trainer)
    trainer.model.train()
    reading, working = [], []
    for _ in range(WARM_UP + TIMED):
        start = time.perf_counter()
        step = [*islice(batches, trainer.settings.accumulate)]
        read = time.perf_counter()
        trainer._step(step)  # waits for the device: it looks at the gradient's norm
        reading.append(read - start)
        working.append(time.perf_counter() - read)
    return statistics.median(reading[WARM_UP:]), statistics.median(working[WARM_UP:])


def _endless(trainer: Trainer) -> Iterator[Batch]:
    """Epoch after epoch: one may be shorter than the probe."""
    for epoch in count():
        trainer.sampler.set_epoch(epoch)
        yield from trainer.loader


def _time_validation(trainer: Trainer) -> float:
    """Seconds of an image in the second batch, if there is one: the first warms up."""
    start, seconds = time.perf_counter(), math.nan
    outputs = predict_batches(
        trainer.scored_detector,
        trainer.postprocessor,
        trainer.data.val,
        trainer.accelerator,
        trainer.settings.batch_size,
        0,
    )
    for batch, _, _ in islice(outputs, 2):
        now = time.perf_counter()
        seconds, start = (now - start) / len(batch.image_ids), now
    return seconds


def _run_seconds(ready: Ready, cost: Cost, workers: int) -> float:
    reading, working = cost.read_seconds, cost.step_seconds
    step = max(working, reading / workers) if workers else reading + working
    training = ready.run.training
    validations = math.ceil(training.epochs / training.validate_every)
    images = validations * len(ready.data.val)
    return START_SECONDS + ready.steps * step + images * cost.image_seconds


def _run_bytes(ready: Ready, cost: Cost) -> int:
    rows = len(ready.data.val) * ready.run.postprocess.max_detections
    return cost.checkpoint_bytes + rows * DETECTION_BYTES + OTHER_BYTES


def _slots(device: str, jobs: int) -> int:
    """Runs that go on at a time at full speed: those that share a GPU share its time."""
    if is_cpu(device):
        return jobs
    return min(jobs, torch.cuda.device_count() if device in ("auto", "cuda") else 1) or 1


def _last_end(seconds: Sequence[float], slots: int) -> float:
    """When the last run ends, if each starts as soon as a place is free, in this order."""
    ends = [0.0] * slots
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def _assumed(slots: int, threads: int, inputs: Inputs) -> tuple[str, ...]:
    reading = (
        f"{inputs.workers} further processes read images meanwhile" if inputs.workers else "none reads ahead"
    )
    return (
        f"{TIMED} steps of each kind of variant, on {threads} CPU threads; {reading}",
        f"{slots} runs at a time do not slow each other",
        f"{START_SECONDS:.0f} s a run for its start and its end",
        "disk: two checkpoints, and as many detections on every image as postprocess.max_detections allows",
    )


def _size(size: float) -> str:
    """Give 1_234_567_890 as "1.2 GB"."""
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5 or unit == "GB":
            break
    return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"
