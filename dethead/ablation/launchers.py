"""How the process of a run is started: on this machine, or by a launcher of the same shape elsewhere."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from dethead.ablation.fingerprint import inputs_as_json
from dethead.ablation.plan import PlannedRun
from dethead.ablation.status import OUTPUT
from dethead.training import Inputs

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Read once, when the libraries are loaded: a process must be born with them."""


class Job(NamedTuple):
    """A run to be trained, as its process is told."""

    folder: str
    line: str
    """JSON of config, inputs and threads, for the process's standard input."""
    threads: int


class RunProcess(Protocol):
    """A run in the making."""

    def poll(self) -> int | None:
        """Give the exit status of the process; None while it works."""

    def stop(self) -> None:
        """Ask it to save and stop."""

    def kill(self) -> None:
        """End it at once."""


class Launcher(Protocol):
    """Starts runs."""

    slots: int
    """Runs at a time."""

    def start(self, job: Job, slot: int) -> RunProcess:
        """Start a run in one of the ``slots``, counted from 0, that is free."""


def make_job(planned: PlannedRun, folder: Path, inputs: Inputs, threads: int) -> Job:
    """Write down what the process of a run must know."""
    values = {
        "run": planned.run.model_dump(mode="json"),
        "inputs": inputs_as_json(inputs),
        "threads": threads,
    }
    return Job(str(folder.absolute()), json.dumps(values) + "\n", threads)


def start_worker(job: Job, environment: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start the process of a run on this machine, its output in its folder.

    Args:
        job: the run; its folder is made.
        environment: variables to set beside those of this process.
    """
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(job.threads)),
        # A user's own parts are found where this process finds them.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **(environment or {}),
    }
    with (folder / OUTPUT).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "dethead.ablation.worker", job.folder],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            process_group=0,  # a Ctrl-C on the terminal is for us: we tell the runs
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it ended already; its exit status tells
        process.stdin.write(job.line.encode())
        process.stdin.flush()
    return process


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process at once, and those it started."""
    if sys.platform == "win32":
        process.kill()
    elif process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


class LocalProcess:
    """A run on this machine."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def poll(self) -> int | None:
        """Give the exit status; None while it works."""
        status = self.process.poll()
        if status is not None:
            self.stop()
        return status

    def stop(self) -> None:
        """Ask it to save and stop: its standard input ends."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        kill_group(self.process)
        self.process.wait()


class LocalLauncher:
    """Runs on this machine, GPUs given to them in turn.

    Args:
        slots: runs at a time.
        gpus: what CUDA_VISIBLE_DEVICES may name; empty where runs see what there is.
    """

    def __init__(self, slots: int, gpus: Sequence[str] = ()) -> None:
        self.slots, self.gpus = slots, tuple(gpus)

    def start(self, job: Job, slot: int) -> LocalProcess:
        """Start a run."""
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if self.gpus else {}
        return LocalProcess(start_worker(job, gpu))


def visible_gpus(device: str) -> tuple[str, ...]:
    """Give the GPUs to share out over runs on ``device``; none for a device that is named exactly."""
    if device not in ("auto", "cuda"):
        return ()
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = named.split(",") if named is not None else [str(i) for i in range(torch.cuda.device_count())]
    return tuple(one.strip() for one in known)[: torch.cuda.device_count()]


def cores() -> int:
    """Count the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
