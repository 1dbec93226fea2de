"""What a run leaves behind, and where in its folder."""

import json
from pathlib import Path
from typing import Any

from dethead.config import Run, dump, load
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
        self.log.unlink(missing_ok=True)
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
        """Refuse to resume the run of this folder, if there is one, with another config.

        Raises:
            RunFolderError: naming the keys that differ.
        """
        if not self.config.exists():
            return
        before = _flat(load(self.config).model_dump(mode="json"))
        now = _flat(run.model_dump(mode="json"))
        keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if keys:
            changes = ", ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in keys)
            raise RunFolderError(f"{self.path}: cannot resume with another config ({changes})")

    def append_log(self, line: dict[str, Any]) -> None:
        """Add a line to log.jsonl."""
        with naming(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def cut_log(self, step: int, validated: int) -> None:
        """Drop the lines after ``step``, and validations after ``validated``: they are written again."""
        if not self.log.exists():
            return
        kept = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # a line that a killed process did not finish
                break
            if entry["step"] <= (validated if "val" in entry else step):
                kept.append(line + "\n")
        write_atomically(self.log, "".join(kept))


def best_of(path: Path) -> Path:
    """Give the best checkpoint of a run folder; a file is taken to be one.

    Raises:
        RunFolderError: the folder holds no run.
    """
    return path if path.is_file() else RunFolder.open(path).best


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give nested sections as one mapping of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
