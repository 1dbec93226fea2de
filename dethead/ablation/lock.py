"""One process at a time trains a run: a lock in its folder, which the system drops when its holder dies."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

FILE = "run.lock"
TRIES, PAUSE = 5, 0.2
"""Somebody who only asks whether the lock is held holds it for a moment."""


class LockError(ValueError):
    """A run that another process is training."""


@contextmanager
def locked(folder: Path, started: str) -> Iterator[None]:
    """Hold the lock of a run folder; the lock of a process of this machine that is gone is taken over.

    Args:
        folder: of the run.
        started: when the holder started, to be named to others.

    Raises:
        LockError: naming the holder.
    """
    with (folder / FILE).open("a+", encoding="utf-8") as file:
        for attempt in range(TRIES):
            if _take(file):
                break
            if attempt == TRIES - 1:
                raise LockError(_refusal(folder))
            time.sleep(PAUSE)
        # Through this file: when a process closes another one of the same path, its lock is gone.
        file.seek(0)
        if foreign := _left_elsewhere(folder, file.read()):
            raise LockError(foreign)
        _write(file, json.dumps({"pid": os.getpid(), "host": platform.node(), "started": started}))
        try:
            yield
        finally:
            _write(file, "")


def is_held(folder: Path) -> bool:
    """Whether another process is training the run of a folder, as far as this machine can tell.

    What was left by another machine is taken as held: not all shared disks share locks.
    """
    return _left_elsewhere(folder, _text(folder)) is not None or _is_taken(folder)


def check_free(folder: Path) -> None:
    """Refuse a run that another process is training.

    Raises:
        LockError: naming the holder.
    """
    if _is_taken(folder):
        raise LockError(_refusal(folder))
    if foreign := _left_elsewhere(folder, _text(folder)):
        raise LockError(foreign)


def _left_elsewhere(folder: Path, text: str) -> str | None:
    """Say what holds a lock that another machine wrote down; None if none did."""
    holder = _holder(text)
    if not holder or holder["host"] == platform.node():
        return None
    return (
        f"{folder}: is being trained by {_name(holder)}; if that process is gone, remove {folder / FILE} and "
        "give the command again"
    )


def _is_taken(folder: Path) -> bool:
    path = folder / FILE
    if not path.is_file():
        return False
    with path.open("a+", encoding="utf-8") as file:
        return not _take(file)


def _refusal(folder: Path) -> str:
    return f"{folder}: is being trained by {_name(_holder(_text(folder)))}; wait for it, or stop it first"


def _name(holder: dict[str, str]) -> str:
    if not holder:
        return "another process"
    return f"process {holder['pid']} on {holder['host']} since {holder['started']}"


def _text(folder: Path) -> str:
    path = folder / FILE
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _holder(text: str) -> dict[str, str]:
    """What the lock file says; nothing while it is free, or half written."""
    try:
        return {key: str(value) for key, value in json.loads(text).items()}
    except ValueError:
        return {}


def _write(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _take(file: IO[str]) -> bool:
    """Take the system's lock on an open file until it is closed; False if another process has it.

    Of the process, not of the file: a loader's workers, forked from it, do not hold it after its death.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 20)  # far behind the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
