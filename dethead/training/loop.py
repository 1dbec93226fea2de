"""The training loop, read from top to bottom: epochs, steps, validation, checkpoints."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial, reduce
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list
from rich.console import Console
from torch import Tensor

from dethead import build
from dethead.backbones import statistics_kept
from dethead.config import Run
from dethead.data import EpochBatches, make_loader
from dethead.detector import Detector
from dethead.files import write_atomically
from dethead.normalisers import Counts, add_counts, count
from dethead.oracles import BranchOracles
from dethead.running import RunningState, add_seen
from dethead.structures import Anchors, Assignment, Batch, ClassesSeen, HeadOutput, LossTerms
from dethead.training import checkpoint, run_state
from dethead.training.by_class import table
from dethead.training.ema import WeightAverage
from dethead.training.environment import environment
from dethead.training.fine_tuning import take_weights
from dethead.training.inputs import Inputs, RunData, describe, input_sizes
from dethead.training.optimisation import lr_factor, make_optimizer, set_lr
from dethead.training.pictures import leave_pictures
from dethead.training.progress import bar
from dethead.training.record import Record, Window, write_validation
from dethead.training.remarks import remarks
from dethead.training.run_folder import RunFolder, best_of
from dethead.training.signals import stop_requests
from dethead.training.teacher import load_teacher
from dethead.training.validation import Objective, score

MOST_OVERFLOWS = 50
"""fp16 steps in a row whose gradient overflows, before the run is given up."""


class Interrupted(Exception):  # noqa: N818  # a wish, not an error
    """The run was asked to stop; everything is saved, and ``--resume`` goes on."""


class Trainer:
    """One process of one run. ``step`` counts optimiser steps that are done.

    Args:
        run: the config.
        inputs: data, weights, machine.
        data: both sets, opened.
        accelerator: of this process.
        folder: of the run.
        resuming: a checkpoint will give all weights, so that none are looked for elsewhere.
    """

    def __init__(
        self,
        run: Run,
        inputs: Inputs,
        data: RunData,
        accelerator: Accelerator,
        folder: RunFolder,
        resuming: bool = False,
    ) -> None:
        self.run, self.inputs, self.data = run, inputs, data
        self.fingerprints = data.fingerprints()
        self.accelerator, self.folder, self.settings = accelerator, folder, run.training
        num_classes = len(data.class_names)
        if resuming:
            self.detector = build.detector(build.without_weights(run), num_classes)
        else:
            self.detector = build.detector(run, num_classes, inputs.weights)
            if inputs.init_from is not None:
                self._init_from(inputs.init_from)
        self.detector.to(accelerator.device)
        # Copied before Accelerate and the compiler wrap its forward: the average stays a plain detector.
        ema = run.training.ema
        self.average = WeightAverage(self.detector, ema.decay, ema.warmup_steps) if ema else None
        if run.training.compile:
            self.detector.compile()
        self.assigner, self.criterion = build.assigner(run), build.criterion(run)
        self.state = RunningState(num_classes).to(accelerator.device)
        self.teacher = load_teacher(run, inputs, data, accelerator)
        self.postprocessor = build.postprocessor(run)
        optimizer = make_optimizer(run, self.detector)
        self.model, self.optimizer = accelerator.prepare(self.detector, optimizer)
        self.anchors = self.detector.anchors(run.data.image_size)
        self.sampler = self._sampler()
        self.loader = make_loader(
            data.train, self.sampler, inputs.workers, pin_memory=accelerator.device.type == "cuda"
        )
        self.steps_per_epoch = self.sampler.batches // self.settings.accumulate
        self.total_steps = self.steps_per_epoch * self.settings.epochs
        self.step, self.validated, self.seconds = 0, 0, 0.0
        self.record, self.window = Record(folder, accelerator), Window()
        self.asked, self.stop, self.overflows = False, False, 0

    def _sampler(self) -> EpochBatches:
        return EpochBatches(
            build.order(self.run, self.data.train.coco),
            self.settings.batch_size // self.settings.accumulate,
            seed=self.run.seed,
            epoch=0,
            drop_last=True,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            sizes=input_sizes(self.run),
        )

    def _init_from(self, path: Path) -> None:
        values = checkpoint.load(best_of(path))
        taken = take_weights(self.detector, values["model"], values["classes"], self.data.class_names)
        self.say(f"weights of {path}: {taken.describe()}")

    # --- start and resume

    def begin(self) -> None:
        """Make the run folder and write down what this run is."""
        if self.accelerator.is_main_process:
            self.folder.create(self.run)
            write_atomically(
                self.folder.environment, json.dumps(environment(self.inputs, self.accelerator), indent=2)
            )
        self.accelerator.wait_for_everyone()
        # From here on the run's own random numbers (dropout) count, the same whatever was built before.
        torch.manual_seed(self.run.seed + self.accelerator.process_index)

    def restore(self) -> None:
        """Take up the state of the last checkpoint, to the bit."""
        run_state.restore(self)
        self.say(f"resumed at step {self.step} of {self.total_steps}")

    # --- the run

    def run_all(self) -> dict[str, Any]:
        """Train all epochs that are left; gives what metrics.json says."""
        self._announce()
        with self._trackers(), stop_requests(self._ask):
            if self._due():
                self._validate()
            while self.step < self.total_steps:
                self._epoch()
                if self._due():
                    run_state.save(self)  # a kill during the validation costs the validation only
                    self._validate()
                run_state.save(self)
        if self.accelerator.is_main_process:
            leave_pictures(self.folder, self.data, self.postprocessor, self.scored_detector, self.accelerator)
        self.accelerator.wait_for_everyone()
        main = self.accelerator.is_main_process  # other nodes may not see its disk
        report = [json.loads(self.folder.metrics.read_text(encoding="utf-8")) if main else {}]
        broadcast_object_list(report)
        return report[0]

    def _ask(self) -> bool:
        """Note the wish to stop; the processes agree on it in the next step, so that none is left waiting."""
        first, self.asked = not self.asked, True
        return first

    def _due(self) -> bool:
        """Whether the epoch that ends here is still to be validated."""
        epoch, inside = divmod(self.step, self.steps_per_epoch)
        wanted = epoch % self.settings.validate_every == 0 or self.step == self.total_steps
        return inside == 0 and self.step > self.validated and wanted

    def _epoch(self) -> None:
        """Train from here to the end of the epoch."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        self.sampler.set_epoch(epoch, start=done * self.settings.accumulate)
        self.model.train()
        text = f"epoch {epoch + 1}/{self.settings.epochs}"
        images = self.steps_per_epoch * self.settings.batch_size
        with torch.random.fork_rng(devices=[]):  # a loader draws a number when it starts, also on a resume
            batches = iter(self.loader)
        self.window.restart()
        with bar(text, images, self.accelerator.is_main_process) as progress:
            progress(done * self.settings.batch_size)
            for _ in range(done, self.steps_per_epoch):
                started = time.perf_counter()
                self._step([*islice(batches, self.settings.accumulate)])
                self.seconds += time.perf_counter() - started
                progress(self.settings.batch_size)
                every = self.settings.checkpoint_every
                if self.stop or (every and self.step % every == 0):
                    self._write_window()  # a checkpoint does not hold it
                    run_state.save(self)
                if self.stop:
                    raise Interrupted(f"stopped at step {self.step} of {self.total_steps}; all is saved")

    def _step(self, batches: list[Batch]) -> None:
        """One optimiser step over all micro-batches and processes."""
        set_lr(self.optimizer, lr_factor(self.run, self.step, self.steps_per_epoch))
        device = self.accelerator.device
        batches = [b._replace(truth=[one.to(device) for one in b.truth]) for b in batches]
        # With one micro-batch its output serves an assigner that wants to see it; with several, keeping all
        # their graphs would cost the memory that accumulation is there to save.
        outputs = [self._forward(batches[0])] if len(batches) == 1 else [None] * len(batches)
        assignments = [self._assign(b, output) for b, output in zip(batches, outputs, strict=True)]
        counts = self._agree(assignments)
        terms: list[LossTerms] = []
        for index, (batch, output, assignment) in enumerate(zip(batches, outputs, assignments, strict=True)):
            last = index == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                output = self._forward(batch) if output is None else output
                terms.append(self._loss(batch, output, assignment, counts))
                self.accelerator.backward(terms[-1].total)
        sums = {
            name: torch.stack([one.scalars()[name].detach() for one in terms]).sum()
            for name in terms[0].scalars()
        }
        norm = self._clip(sums, batches)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.average is not None:
            self.average.update(self.detector, self.step)
        self._note(sums, norm, counts, self._remember(terms))

    def _loss(
        self,
        batch: Batch,
        output: HeadOutput,
        assignment: Assignment,
        counts: Counts | None = None,
        detector: Detector | None = None,
    ) -> LossTerms:
        """Give the loss of an output of the detector: the one in training, unless another is named."""
        head = (detector or self.detector).head
        terms: LossTerms = self.criterion(
            output,
            assignment,
            batch.truth,
            self._anchors(batch),
            counts=counts,
            seen=self.state.classes(),
            teacher=self._ask_teacher(batch),
            class_rows=head.class_rows if self.run.loss.class_l2 else None,
        )
        return terms

    def _ask_teacher(self, batch: Batch) -> HeadOutput | None:
        if self.teacher is None:
            return None
        with torch.no_grad(), self.accelerator.autocast():
            output: HeadOutput = self.teacher(batch.images.to(self.accelerator.device, non_blocking=True))
        return output

    def _remember(self, terms: list[LossTerms]) -> ClassesSeen | None:
        """Add what the step's micro-batches saw, on all processes, to the running state."""
        each = [one.seen for one in terms if one.seen is not None]
        if not each or self.overflows:  # a nan would stay in it for ever
            return None
        positives, up, down = self.accelerator.reduce(torch.stack([*reduce(add_seen, each)]), reduction="sum")
        # The counts that divide a term are means over processes: so many times larger is each one's gradient.
        processes = self.accelerator.num_processes
        seen = ClassesSeen(positives, up / processes, down / processes)
        self.state.add(seen)
        return seen

    def _forward(self, batch: Batch) -> HeadOutput:
        output: HeadOutput = self.model(batch.images.to(self.accelerator.device, non_blocking=True))
        return output

    def _assign(self, batch: Batch, output: HeadOutput | None) -> Assignment:
        anchors = self._anchors(batch)
        if not self.assigner.needs_predictions:
            return self.assigner(anchors, batch.truth)
        if output is None:
            with torch.no_grad(), statistics_kept(self.model):  # the same pass follows, with a gradient
                output = self._forward(batch)
        seen = self.postprocessor.predictions(output, anchors)
        return self.assigner(anchors, batch.truth, seen)

    def _anchors(self, batch: Batch) -> Anchors:
        # Kept there: asking for each batch costs nothing.
        return self.detector.anchors(batch.images.shape[2:])

    def _agree(self, assignments: list[Assignment]) -> Counts:
        """Counts of the whole step, and whether any process was asked to stop."""
        counts = count(assignments[0])
        for assignment in assignments[1:]:
            counts = add_counts(counts, count(assignment))
        processes = self.accelerator.num_processes
        if processes == 1:
            self.stop = self.asked
            return self.state.with_mean(counts)
        sent = torch.stack([*counts[:3], counts.images.new_tensor(float(self.asked))])
        mean: Tensor = self.accelerator.reduce(sent, reduction="mean")
        self.stop = bool(mean[3] > 0)
        return self.state.with_mean(Counts(mean[0], mean[1], mean[2], mean.new_tensor(float(processes))))

    def _clip(self, sums: dict[str, Tensor], batches: list[Batch]) -> float:
        """Clip the gradient; gives its norm before."""
        limit = self.settings.clip_norm
        norm = float(
            self.accelerator.clip_grad_norm_(
                self.model.parameters(), float("inf") if limit is None else limit
            )
        )
        finite = norm < float("inf")
        # With fp16 the optimizer skips such a step and lowers its scale: it helps in a few steps or never.
        self.overflows = 0 if finite else self.overflows + 1
        if not finite and (self.accelerator.scaler is None or self.overflows > MOST_OVERFLOWS):
            terms = {name: float(value) for name, value in sums.items()}
            images = [image_id for batch in batches for image_id in batch.image_ids]
            raise FloatingPointError(
                f"the gradient is not finite (norm {norm}) at step {self.step + 1}; loss terms {terms}; "
                f"image ids {images}. The weights saved last are good: lower training.optimizer.lr"
            )
        return norm

    def _note(self, sums: dict[str, Tensor], norm: float, counts: Counts, seen: ClassesSeen | None) -> None:
        """Add to the window, and write it to the log when it is full."""
        self.window.add(sums, norm, self.settings.batch_size, seen, counts)
        if not (self.step % self.steps_per_epoch and self.step % self.settings.log_every):
            self._write_window()

    def _write_window(self) -> None:
        if not self.window.steps:
            return
        line = self.window.line(self.accelerator, self.data.class_names)
        line["lr"] = max(group["lr"] for group in self.optimizer.param_groups)
        self.record.steps(line, self.step, self.steps_per_epoch)
        self.window.restart()

    # --- validation

    @property
    def scored_detector(self) -> Any:
        """The detector that is validated and used afterwards: the average, where there is one."""
        return self.average.module if self.average is not None else self.detector

    def _validate(self) -> None:
        if self.accelerator.num_processes > 1:
            # Each process has BatchNorm statistics of its own images; what is scored must be what is saved.
            for buffer in self.scored_detector.buffers():
                buffer.copy_(broadcast(buffer))
        last = self.step == self.total_steps
        with bar("validation", len(self.data.val), self.accelerator.is_main_process) as progress:
            scored = score(
                self.scored_detector,
                self.postprocessor,
                self.data.val,
                self.accelerator,
                batch_size=self.settings.batch_size,
                workers=self.inputs.workers,
                objective=Objective(
                    self.assigner, self.postprocessor, partial(self._loss, detector=self.scored_detector)
                ),
                keep_detections=last,
                oracles=BranchOracles(self.postprocessor, self.assigner) if last else None,
                progress=progress,
            )
        self.validated = self.step
        write_validation(self, scored)

    # --- around the run

    def _announce(self) -> None:
        for name, dataset in (("train", self.data.train), ("val", self.data.val)):
            self.say(f"{name}: {describe(dataset.coco)}")
        for line in remarks(self.run, self.inputs, self.steps_per_epoch):
            self.say(line)
        by_class = table(self.run, self.data.train.coco)
        if by_class is not None and self.accelerator.is_main_process:
            Console(width=None if sys.stdout.isatty() else 100).print(by_class)
        length, on = self.settings, self.accelerator
        self.say(
            f"{self.parameters() / 1e6:.2f} M parameters, {len(self.anchors.boxes)} anchors, "
            f"{length.epochs} epochs of {self.steps_per_epoch} steps of {length.batch_size} images on "
            f"{on.num_processes} x {on.device}, mixed precision: {on.mixed_precision}"
        )

    def parameters(self) -> int:
        """Count the numbers that are trained or frozen."""
        return sum(one.numel() for one in self.detector.parameters())

    def say(self, text: str) -> None:
        """Print a line on the first process."""
        if self.accelerator.is_main_process:
            print(text, flush=True)

    @contextmanager
    def _trackers(self) -> Iterator[None]:
        if self.inputs.trackers:
            self.accelerator.init_trackers("dethead")
        try:
            yield
        finally:
            if self.inputs.trackers:
                self.accelerator.end_training()
