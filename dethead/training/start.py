"""From a config and paths to a finished run."""

import platform
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from dethead.config import Run
from dethead.training.accelerator import make_accelerator
from dethead.training.by_class import resolve
from dethead.training.inputs import Inputs, check_files, open_data
from dethead.training.loop import Trainer
from dethead.training.memory import keep_freed_memory
from dethead.training.run_folder import RunFolder, RunFolderError


def train(run: Run, inputs: Inputs, out: Path, *, resume: bool = False) -> dict[str, Any]:
    """Train one run and leave it in a folder.

    On a CPU the process keeps memory that it frees from then on (``memory.keep_freed_memory``). A run that
    goes on elsewhere keeps the precision that ``training.precision: auto`` had where it began.

    Args:
        run: the config.
        inputs: data, weights, machine.
        out: the run folder.
        resume: go on with the run in ``out``; with none there, start it.

    Returns:
        What ``metrics.json`` says: the COCO numbers of the best epoch (by AP on the validation set) and of
        the last, training seconds, parameters.

    Raises:
        ConfigError, DataError, RunFolderError: before any work starts.
        FloatingPointError: a gradient that is not finite, with step, loss terms and images.
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    folder = RunFolder(out)
    resuming = resume and folder.last.is_file()
    folder.check_free(resume)
    precision = folder.precision() if resuming and run.training.precision == "auto" else None
    accelerator = make_accelerator(inputs.device, precision or run.training.precision, inputs.trackers, out)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    _check_shared_disk(folder, resuming)
    data = open_data(run, inputs)
    run = resolve(run, data.train.coco)
    if resume:
        folder.check_same(run)
    trainer = Trainer(run, inputs, data, accelerator, folder, resuming)
    check_files(run, inputs, data)
    if resuming:
        trainer.restore()
    else:
        trainer.begin()
    return trainer.run_all()


def _check_shared_disk(folder: RunFolder, resuming: bool) -> None:
    """Processes on several machines must agree whether there is a run to go on with."""
    agreed = [resuming]
    broadcast_object_list(agreed)
    if agreed[0] != resuming:
        raise RunFolderError(
            f"{platform.node()}: {folder.last} is {'there' if resuming else 'missing'} here, but not so for "
            "the first process; --resume needs a run folder on a disk that all machines share"
        )
