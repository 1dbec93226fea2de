"""One run of an ablation in a process of its own: ``python -m dethead.ablation.worker FOLDER``.

Its job comes as one line of JSON on standard input, which stays open for as long as whoever started it wants
the run: when it closes, in order or because that process is gone, the run saves its state and stops.
"""

import _thread
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from dethead.ablation.lock import LockError, locked
from dethead.ablation.status import Status, now, write_status

STOPPED, LOCKED = 130, 75
"""Exit status of a run that was asked to stop, and of one that another process is training."""


def main(folder: Path) -> int:
    """Train the run of a folder, or go on with it; gives the exit status."""
    # Also where whoever started us ignores Ctrl-C: before and after the steps, a wish to stop is a plain end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        job = json.loads(sys.stdin.readline())
        threading.Thread(target=_stop_when_unwanted, daemon=True).start()
        started = now()
        with locked(folder, started):
            return _work(folder, job, started)
    except LockError as error:
        print(error, file=sys.stderr)
        return LOCKED
    except KeyboardInterrupt:
        return STOPPED


def _stop_when_unwanted() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock a thread must not hold when the process ends
        pass
    _thread.interrupt_main()


def _work(folder: Path, job: dict[str, Any], started: str) -> int:
    clock = time.perf_counter()
    status = Status("running", None, os.getpid(), platform.node(), started)
    write_status(folder, status)
    state, error = _train(folder, job)
    seconds = time.perf_counter() - clock
    write_status(folder, replace(status, state=state, error=error, ended=now(), seconds=seconds))
    return {"finished": 0, "stopped": STOPPED}.get(state, 1)


def _train(folder: Path, job: dict[str, Any]) -> tuple[Any, str | None]:
    """Train to the end; gives the state that the run is left in, and the error of a failed one."""
    try:
        import torch

        from dethead.ablation.fingerprint import inputs_from_json
        from dethead.config import check
        from dethead.training import Interrupted, train
        from dethead.training.run_folder import RunFolder

        torch.set_num_threads(job["threads"])
        try:
            train(check(job["run"], str(folder)), inputs_from_json(job["inputs"]), folder, resume=True)
        except Interrupted as wish:
            print(wish)
            return "stopped", None
    except KeyboardInterrupt:
        return "stopped", None
    except Exception as error:
        traceback.print_exc()
        return "failed", in_a_line(error)
    if not RunFolder(folder).detections.is_file():
        return "failed", "it left no detections.json to be scored by; output.txt says why"
    return "finished", None


def in_a_line(error: Exception) -> str:
    """Name an error by its type and the first line of what it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
