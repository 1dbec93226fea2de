"""Processes of runs that are forked from a server that has imported all: they take no time to start."""

import os
import subprocess
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from dethead.ablation.launchers import Job
from dethead.ablation.status import OUTPUT


class _Input:
    """The end of a pipe that is written to, with what a file of ``Popen`` has."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def close(self) -> None:
        self.connection.close()


class ForkedWorker:
    """What ``start_worker`` gives, as far as launchers use it."""

    def __init__(self, job: Job, environment: dict[str, str] | None = None) -> None:
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        context = get_context("forkserver")
        context.set_forkserver_preload(
            ["dethead.ablation.worker", "dethead.training", "tiny_backbone", "forked_workers"]
        )
        theirs, ours = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(job.folder, theirs, environment or {}))
        self.process.start()
        theirs.close()
        assert self.process.pid
        self.pid, self.stdin = self.process.pid, _Input(ours)
        os.write(ours.fileno(), job.line.encode())

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return self.process.exitcode


def _work(folder: str, given: Connection, environment: dict[str, str]) -> None:
    os.setpgid(0, 0)
    os.environ.update(environment)
    os.dup2(given.fileno(), 0)
    given.close()
    output = (Path(folder) / OUTPUT).open("a", buffering=1)
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), output, output  # noqa: SIM115
    torch.set_num_threads(1)
    from dethead.ablation.worker import main

    with patch("dethead.training.loop.leave_pictures"):
        status: Any = main(Path(folder))
    sys.exit(status)
