"""A finished run whose class probabilities another run follows."""

import torch
from accelerate import Accelerator

from dethead import build
from dethead.config import ConfigError, Run
from dethead.detector import Detector
from dethead.enlarging import seen_strides
from dethead.training.finished import FinishedRun
from dethead.training.inputs import Inputs, RunData


def load_teacher(run: Run, inputs: Inputs, data: RunData, accelerator: Accelerator) -> Detector | None:
    """Load the teacher of ``loss.distillation``, frozen; None for a run without distillation.

    Raises:
        ConfigError: a teacher that is missing, not asked for, has other classes or anchors, or means
            something else by a class logit.
    """
    if run.loss.distillation is None:
        if inputs.teacher is not None:
            raise ConfigError(f"--teacher {inputs.teacher} is given, but the config has no loss.distillation")
        return None
    if inputs.teacher is None:
        raise ConfigError("loss.distillation needs a teacher: give a finished run with --teacher")
    teacher = FinishedRun.load(inputs.teacher)
    if teacher.class_names != data.class_names:
        raise ConfigError(
            f"{inputs.teacher}: the teacher knows the classes {', '.join(teacher.class_names)}, this run has "
            f"{', '.join(data.class_names)}"
        )
    strides = strides_of(run)
    if teacher.run.anchors != run.anchors or teacher.detector.grid.strides != strides:
        raise ConfigError(
            f"{inputs.teacher}: the teacher's anchors {teacher.run.anchors} on strides "
            f"{teacher.detector.grid.strides} are not {run.anchors} on {strides}; probabilities are followed "
            "anchor by anchor"
        )
    if not _same_meaning(run, teacher.run, len(data.class_names)):
        raise ConfigError(
            f"{inputs.teacher}: the teacher's class_scheme {teacher.run.class_scheme.name!r} makes other "
            f"probabilities of the same logits than {run.class_scheme.name!r}; distillation compares logits: "
            "take a teacher with the same activation (softmax or sigmoid), temperature and scale"
        )
    return teacher.detector.requires_grad_(False).to(accelerator.device)


def _same_meaning(run: Run, other: Run, classes: int) -> bool:
    """Whether the class schemes of two runs make the same probabilities of the same (C,) logits."""
    logits = torch.linspace(-1.0, 1.0, classes)
    one, two = (build.class_scheme(each).probabilities(logits) for each in (run, other))
    return torch.allclose(one, two)


def strides_of(run: Run) -> tuple[float, ...]:
    """Give the strides of all levels of a run, extra ones too."""
    strides = run.backbone.strides
    extra = (strides[-1] * 2**level for level in range(1, run.neck.extra_levels + 1))
    return seen_strides((*strides, *extra), run.backbone.enlarge)
