"""What a run leaves behind, and where in its folder."""

import json
from pathlib import Path
from typing import Any

from dethead.config import Run, dump, flat, load
from dethead.files import naming, write_atomically


class RunFolderError(ValueError):
    """A folder that cannot take this run."""


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; ``create`` fills it, ``open`` finds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.log = path / "log.jsonl"
        self.metrics = path / "metrics.json"
        self.detections = path / "detections.json"
        self.oracles = path / "oracles.json"
        self.curves = path / "curves.png"
        self.examples = path / "examples"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self.best = self.checkpoints / "best.pt"

    def check_free(self, resume: bool) -> None:
        """Refuse a folder that holds a run, unless it is to be resumed.

        Raises:
            RunFolderError: saying what is there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path}: is a file, not a folder")
        if not resume and (self.config.exists() or self.last.exists()):
            raise RunFolderError(
                f"{self.path}: holds a run already; go on with --resume, or name another folder"
            )

    def create(self, run: Run) -> None:
        """Start a run, or start it again where it was stopped before its first checkpoint."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for result in (self.log, self.metrics, self.detections, self.oracles):  # of the run that was stopped
            result.unlink(missing_ok=True)
        self.write_config(run)

    def write_config(self, run: Run) -> None:
        """Write down the config, or the one that the run goes on with."""
        write_atomically(self.config, dump(run))

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Find a run that was started before.

        Raises:
            RunFolderError: there is none.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise RunFolderError(f"{path}: holds no run (no config.yaml)")
        return folder

    def check_same(self, run: Run) -> None:
        """Refuse to go on with the run of this folder, if it has a checkpoint, with another config.

        Whether broken images are left out may change: a run that met one had no other way to go on.

        Raises:
            RunFolderError: naming the keys that differ.
        """
        if not (self.config.exists() and self.last.exists()):
            return
        before = load(self.config)
        free = {"skip_unreadable": run.data.skip_unreadable}
        before = before.model_copy(update={"data": before.data.model_copy(update=free)})
        if changes := changed_keys(before, run):
            raise RunFolderError(f"{self.path}: cannot resume with another config ({changes})")

    def precision(self) -> str | None:
        """Give the mixed precision that the run has; None where none is written down."""
        if not self.environment.is_file():
            return None
        found: str | None = json.loads(self.environment.read_text(encoding="utf-8")).get("precision")
        return found

    def append_log(self, line: dict[str, Any]) -> None:
        """Add a line to log.jsonl."""
        with naming(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def cut_log(self, step: int, validated: int) -> None:
        """Drop the lines after ``step``, and validations after ``validated``: they are written again."""
        if not self.log.exists():
            return
        kept = [e for e in read_log(self.log) if e["step"] <= (validated if "val" in e else step)]
        write_atomically(self.log, "".join(json.dumps(entry) + "\n" for entry in kept))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a log.jsonl that are whole; none where it is not there yet."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:  # a line that a killed process did not finish
            break
    return lines


def best_of(path: Path) -> Path:
    """Give the best checkpoint of a run folder; a file is taken to be one.

    Raises:
        RunFolderError: the folder holds no run.
    """
    return path if path.is_file() else RunFolder.open(path).best


def changed_keys(before: Run, now: Run) -> str:
    """Say which keys differ, "seed: 0 -> 3, training.epochs: 2 -> 5"; empty if none does."""
    old, new = (flat(one.model_dump(mode="json")) for one in (before, now))
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return ", ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys)
