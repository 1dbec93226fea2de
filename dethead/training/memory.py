"""The most memory a run held at once, and memory that is kept for the next step."""

import ctypes
import platform
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

STATUS = Path("/proc/self/status")
"""Where Linux says it of this process alone; ``getrusage`` there remembers its parent's peak, too."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for the next step to take; gives whether that could be arranged.

    glibc asks the system for every piece of more than 32 MiB, and gives it back at once when it is freed. A
    step over some images frees and asks for the same large maps again and again, and each time the system
    must clear them page by page: of a map of 39 MiB a pass over it takes a fifth of that time. The process
    then holds what it held at its peak. Other systems and libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))


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
