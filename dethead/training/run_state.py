"""What a checkpoint of a run holds, and how a trainer takes it up again, to the bit."""

import logging
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list, gather_object

from dethead.training import checkpoint
from dethead.training.optimisation import restore_optimizer
from dethead.training.run_folder import RunFolderError

if TYPE_CHECKING:
    from dethead.training.loop import Trainer

_log = logging.getLogger(__name__)


def save(trainer: "Trainer") -> None:
    """Write the checkpoint that ``restore`` reads; called by all processes, written by the first."""
    accelerator = trainer.accelerator
    random = gather_object([checkpoint.random_state()])
    if accelerator.is_main_process:
        scaler = accelerator.scaler
        values: dict[str, Any] = {
            "model": trainer.detector.state_dict(),
            "average": trainer.average.module.state_dict() if trainer.average else {},
            "optimizer": trainer.optimizer.state_dict(),
            "running": trainer.state.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "random": random,
            "step": trainer.step,
            "validated": trainer.validated,
            "seconds": trainer.seconds,
            "best": trainer.record.best,
            **trainer.fingerprints,
            "processes": accelerator.num_processes,
        }
        checkpoint.save(values, trainer.folder.last)
    accelerator.wait_for_everyone()


def restore(trainer: "Trainer") -> None:
    """Take up the state of the last checkpoint.

    Raises:
        CheckpointError: damaged.
        RunFolderError: of other data.
    """
    accelerator = trainer.accelerator
    values = checkpoint.load(trainer.folder.last)
    for key, done, coco in (
        ("data", "trained", trainer.data.train.coco),
        ("val_data", "validated", trainer.data.val.coco),
    ):
        # Checkpoints of before it was kept say nothing of the validation set.
        kept, found = values.get(key), trainer.fingerprints[key]
        if kept is not None and kept != found:
            raise RunFolderError(
                f"{trainer.folder.path}: was {done} on other data (sha256 {kept[:12]}, now {found[:12]} in "
                f"{coco.path})"
            )
    same_processes = values["processes"] == accelerator.num_processes
    if not same_processes:
        _log.warning("resumed on another number of processes: equal up to rounding, not to the bit")
    trainer.detector.load_state_dict(values["model"])
    if trainer.average is not None:
        trainer.average.module.load_state_dict(values["average"])
    restore_optimizer(trainer.optimizer, values["optimizer"])
    trainer.state.load_state_dict(values["running"])
    if accelerator.scaler is not None and values["scaler"]:
        accelerator.scaler.load_state_dict(values["scaler"])
    trainer.step, trainer.validated, trainer.seconds = values["step"], values["validated"], values["seconds"]
    trainer.record.best = values["best"]
    if trainer.validated == trainer.total_steps and not _has_detections(trainer):
        trainer.validated -= 1  # so that the last epoch is validated once more
    if accelerator.is_main_process:
        trainer.folder.write_config(trainer.run)
        trainer.folder.cut_log(trainer.step, trainer.validated)
        trainer.record.take_up(trainer.steps_per_epoch)
    if same_processes:
        checkpoint.set_random_state(values["random"][accelerator.process_index])
    accelerator.wait_for_everyone()


def _has_detections(trainer: "Trainer") -> bool:
    """Whether the last validation left its detections, as the first process sees its disk."""
    found = [trainer.folder.detections.is_file()]
    broadcast_object_list(found)
    return found[0]
