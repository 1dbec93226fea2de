"""Assigners: anchors and truth in, what each anchor answers for out. No model, no loss, no gradient."""

from dethead.assigners.max_iou import MaxIoUAssigner
from dethead.assigners.protocol import Assigner

__all__ = ["Assigner", "MaxIoUAssigner"]
