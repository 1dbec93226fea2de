"""How far a run of an ablation is: ``status.json`` in its folder, written by the process that trains it."""

import json
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from dethead.ablation.lock import is_held
from dethead.files import write_json
from dethead.training.run_folder import RunFolder

State = Literal["waiting", "running", "stopped", "failed", "finished"]
"""``stopped``: interrupted or killed; the same command goes on with it."""

FILE = "status.json"
OUTPUT = "output.txt"
"""What the process printed."""


@dataclass(frozen=True)
class Status:
    """What ``status.json`` says; a run without one waits for its turn."""

    state: State = "waiting"
    error: str | None = None
    """Of a failed run, in a line."""
    pid: int | None = None
    host: str | None = None
    started: str | None = None
    """Of the last attempt, as an ISO 8601 date in UTC."""
    ended: str | None = None
    seconds: float | None = None
    """Of the last attempt, start to end."""


def now() -> str:
    """Give the date and time as ``Status`` has them."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_status(folder: Path, status: Status) -> None:
    """Write ``status.json`` in one step."""
    write_json(folder / FILE, asdict(status))


def forget_status(folder: Path) -> None:
    """Let a run wait for its turn again: how an earlier attempt ended does not count any more."""
    (folder / FILE).unlink(missing_ok=True)


def read_status(folder: Path) -> Status:
    """Read how far the run in a folder is; one whose process is gone without a word was ``stopped``.

    Raises:
        ValueError: a file that is none of ours, by name.
    """
    status = written_status(folder)
    if status.state == "running" and not is_held(folder):
        return replace(status, state="stopped")
    return status


def written_status(folder: Path) -> Status:
    """Read ``status.json`` as it stands, whether or not its process still lives."""
    path = folder / FILE
    if not path.is_file():
        return Status()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Status(**{field.name: values[field.name] for field in fields(Status)})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is no status of a run ({type(error).__name__}: {error})") from None


def is_finished(folder: Path) -> bool:
    """Whether the run in a folder is trained to its end and left what is scored."""
    return written_status(folder).state == "finished" and RunFolder(folder).detections.is_file()
