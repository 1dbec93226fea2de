"""Checks of a plan against data and machine, before anything trains: every variant is built as it will be."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from dethead.ablation.plan import Plan, PlanError
from dethead.config import Run
from dethead.training import Inputs
from dethead.training.accelerator import make_accelerator
from dethead.training.by_class import resolve
from dethead.training.inputs import RunData, check_files, open_data, use_sets
from dethead.training.loop import Trainer
from dethead.training.run_folder import RunFolder


class Ready(NamedTuple):
    """A variant that can be trained."""

    run: Run
    """Its config with the numbers by class of these data written out."""
    data: RunData
    """Both sets; the annotations are shared by all variants."""
    steps: int
    """Optimiser steps of one run."""


def preflight(plan: Plan, inputs: Inputs) -> dict[str, Ready]:
    """Check every variant against the data, and build it once; nothing is trained, nothing is left behind.

    The annotations are read once, and the images looked at once: variants may not differ in what they read.

    Args:
        plan: the ablation.
        inputs: data, weights and machine of all its runs.

    Returns:
        What was made ready, by the name of the variant.

    Raises:
        DataError: anything wrong with the data.
        PlanError: a variant that does not fit them or cannot be built, by name; classes whose results cannot
            be told apart.
    """
    first = plan.variant(plan.baseline).run
    read = open_data(first, inputs)
    check_files(first, inputs, read)
    if len({*read.category_ids}) < len(read.category_ids):
        raise PlanError(
            f"{plan.name}: classes {', '.join(read.class_names)} share a category id {[*read.category_ids]}; "
            "their detections could not be told apart in a results file, by which variants are compared"
        )
    ready = {one.name: _make_ready(one.name, one.run, inputs, read) for one in plan.variants}
    torch.cuda.empty_cache()  # the memory is for the runs, which are other processes
    return ready


@contextmanager
def trial(run: Run, inputs: Inputs, data: RunData) -> Iterator[Trainer]:
    """Make the trainer of a run as training would, in a folder that is gone afterwards."""
    here = replace(inputs, workers=0, trackers=())
    with TemporaryDirectory(prefix="dethead-") as path, torch.random.fork_rng(devices=[]):
        folder = RunFolder(Path(path))
        folder.checkpoints.mkdir()
        accelerator = make_accelerator(inputs.device, run.training.precision)
        yield Trainer(run, here, data, accelerator, folder)


def _make_ready(name: str, run: Run, inputs: Inputs, read: RunData) -> Ready:
    try:
        data = use_sets(run, inputs, read.train.coco, read.val.coco)
        resolved = resolve(run, data.train.coco)
        with trial(resolved, inputs, data) as trainer:
            return Ready(resolved, data, trainer.total_steps)
    except ValueError as error:
        raise PlanError(f"variant {name!r}: {error}") from None
