"""The most memory a run held at once."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

STATUS = Path("/proc/self/status")
"""Where Linux says it of this process alone; ``getrusage`` there remembers its parent's peak, too."""


def peak_memory(accelerator: Accelerator) -> int | None:
    """Give the peak of the process that held most, in bytes; called by all processes.

    On CUDA the tensors on the device; elsewhere the resident memory of the process, libraries and all. None
    where the system does not say.
    """
    if accelerator.device.type == "cuda":
        own = torch.cuda.max_memory_allocated(accelerator.device)
    else:
        own = _resident()
    return max(gather_object([own])) or None


def _resident() -> int:
    """Peak of the resident memory of this process in bytes; 0 where the system does not say."""
    if STATUS.exists():
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
