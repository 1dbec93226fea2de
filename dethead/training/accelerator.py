"""Device, precision and processes: handed to Hugging Face Accelerate."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from dethead.config import ConfigError


def make_accelerator(
    device: str, precision: str = "no", trackers: tuple[str, ...] = (), logging_dir: Path | None = None
) -> Accelerator:
    """Make the accelerator of this process; ``torchrun`` and ``accelerate launch`` say how many there are.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "no", "bf16", "fp16", or "auto": see ``supports_bfloat16``.
        trackers: experiment trackers known to Accelerate, such as "tensorboard".
        logging_dir: where trackers write.

    Raises:
        ConfigError: a device that is not there, or a tracker that is not installed.
    """
    cpu = is_cpu(device)
    if precision == "auto":
        precision = "bf16" if supports_bfloat16(cpu) else "no"
    # Accelerate keeps its state for the life of the process and refuses another precision; a second training
    # in the same process is a fresh start.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    if device not in ("auto", "cpu", "cuda"):
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    else:
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
    try:
        accelerator = Accelerator(
            cpu=cpu, mixed_precision=precision, log_with=list(trackers) or None, project_dir=logging_dir
        )
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"device {device!r}, precision {precision!r}, trackers {trackers}: {error}"
        ) from None
    # Accelerate drops a tracker that is not installed without a word.
    missing = {*trackers} - {str(getattr(one, "value", one)) for one in accelerator.log_with}
    if missing:
        raise ConfigError(
            f"tracker {min(missing)!r} is not installed; TensorBoard: pip install dethead[trackers]"
        )
    return accelerator


def supports_bfloat16(cpu: bool) -> bool:
    """Whether this machine multiplies in bfloat16 by itself, so that it saves time.

    x86 CPUs with AVX-512 BF16 or AMX, CUDA devices from Ampere on. Others are answered for with no.
    """
    if cpu:
        # Not public names; a PyTorch without them is answered for with no.
        asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in asked)
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def is_cpu(device: str) -> bool:
    """Check a device's name against this machine; True where the work is done on the CPU.

    Raises:
        ConfigError: a name that is not known, or a device that is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind, _, index = device.partition(":")
    if kind == "auto":
        return not any(available.values())
    if kind == "cpu" and not index:
        return True
    if kind not in available:
        raise ConfigError(f"device {device!r} is unknown; allowed: auto, cpu, cuda, cuda:N, mps")
    if index and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"device {device!r} is one device for several processes; name {kind!r}")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not available[kind] or (index and (not index.isdigit() or int(index) >= count)):
        raise ConfigError(
            f"device {device!r} is not there: PyTorch sees {count if available[kind] else 0} {kind}"
        )
    return False
