"""Assigners: anchors and truth in, what each anchor answers for out. No model, no loss, no gradient."""

from dethead.assigners.atss import ATSSAssigner
from dethead.assigners.center import CenterAssigner
from dethead.assigners.max_iou import MaxIoUAssigner
from dethead.assigners.protocol import Assigner
from dethead.assigners.sim_ota import SimOTAAssigner
from dethead.assigners.task_aligned import TaskAlignedAssigner

__all__ = [
    "ATSSAssigner",
    "Assigner",
    "CenterAssigner",
    "MaxIoUAssigner",
    "SimOTAAssigner",
    "TaskAlignedAssigner",
]
