"""The folder of an ablation: what it is made of, where each run lies, and what it refuses to take in."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dethead
from dethead.ablation.fingerprint import difference
from dethead.ablation.plan import Plan, PlannedRun, dump_plan, parse_plan
from dethead.config import dump, load
from dethead.files import prepare_folder, write_atomically, write_json
from dethead.training.run_folder import RunFolder, changed_keys

NAMED = re.compile(r"(?P<name>.+-seed\d+)-(?P<hash>[0-9a-f]{8})")
"""How the folder of a run is called."""


class AblationFolderError(ValueError):
    """A folder that cannot take this ablation."""


@dataclass(frozen=True)
class AblationFolder:
    """``--out`` of an ablation."""

    path: Path

    @property
    def plan(self) -> Path:
        """The plan as it was read, resolved."""
        return self.path / "plan.yaml"

    @property
    def data(self) -> Path:
        """The fingerprint of the data set, and where it was."""
        return self.path / "data.json"

    @property
    def runs(self) -> Path:
        """Where the folders of the runs are."""
        return self.path / "runs"

    def write(self, plan: Plan, made_of: dict[str, Any]) -> None:
        """Write down what this ablation is; nothing is trained before."""
        prepare_folder(self.runs)
        write_json(self.data, made_of)
        write_atomically(self.plan, dump_plan(plan))

    def check(self, plan: Plan, made_of: dict[str, Any]) -> None:
        """Refuse what does not belong together: other data, another plan, other versions.

        Args:
            plan: what is to be run.
            made_of: the fingerprint of its data.

        Raises:
            AblationFolderError: naming file or run, and what differs.
        """
        if self.path.exists() and not self.path.is_dir():
            raise AblationFolderError(f"{self.path}: is a file, not a folder")
        self._check_data(made_of)
        self._check_plan(plan)
        if self.runs.is_dir():
            wanted = {planned.name: planned for planned in plan.runs()}
            for folder in sorted(self.runs.iterdir()):
                _check_origin(folder, made_of)
                _check_hash(folder, wanted, made_of["sha256"])

    def _check_data(self, made_of: dict[str, Any]) -> None:
        if self.data.is_file():
            before = json.loads(self.data.read_text(encoding="utf-8"))
            if changes := difference(before, made_of):
                raise AblationFolderError(
                    f"{self.path}: holds an ablation on another data set or other weights ({changes}); name "
                    "another folder"
                )

    def _check_plan(self, plan: Plan) -> None:
        if not self.plan.is_file():
            return
        text = self.plan.read_text(encoding="utf-8")
        before = {one.name: one for one in parse_plan(text, str(self.plan)).variants}
        for variant in plan.variants:
            known = before.get(variant.name)
            if known is not None and (changes := changed_keys(known.run, variant.run)):
                raise AblationFolderError(
                    f"{self.plan}: has a variant {variant.name!r} with other settings ({changes}); give it "
                    "another name, or name another folder"
                )


def run_folder(out: Path, planned: PlannedRun, data_sha: str) -> Path:
    """Give the folder of a run: variant, seed, and 8 digits of what it is made of.

    A run from before a key was added to configs has other digits. Where there is one, and the key's default
    makes its config the planned one, it is the run.

    Args:
        out: folder of the ablation.
        planned: the run.
        data_sha: ``sha256`` of ``data.json``.
    """
    folder = AblationFolder(out).runs / f"{planned.name}-{_digits(dump(planned.run), data_sha)}"
    if folder.is_dir() or not folder.parent.is_dir():
        return folder
    older = (one for one in sorted(folder.parent.iterdir()) if _lacks_keys_only(one, planned, data_sha))
    return next(older, folder)


def _digits(config: str, data_sha: str) -> str:
    return hashlib.sha256(f"{config}{data_sha}".encode()).hexdigest()[:8]


def _lacks_keys_only(folder: Path, planned: PlannedRun, data_sha: str) -> bool:
    """Whether a folder holds a planned run, of these data, whose config has fewer keys than today's."""
    match, config = NAMED.fullmatch(folder.name), RunFolder(folder).config
    if match is None or match["name"] != planned.name or not config.is_file():
        return False
    digits = _digits(config.read_text(encoding="utf-8"), data_sha)
    return digits == match["hash"] and not changed_keys(load(config), planned.run)


def _check_origin(folder: Path, made_of: dict[str, Any]) -> None:
    """Refuse a run of another dethead or of other data, wherever it came from."""
    path = RunFolder(folder).environment
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["dethead"] != dethead.__version__:
        raise AblationFolderError(
            f"{folder}: was trained by dethead {found['dethead']}, this is {dethead.__version__}: the "
            "runs could not be compared; name another folder, or remove the run"
        )
    if changes := difference(found["files"], made_of):
        raise AblationFolderError(
            f"{folder}: was trained on another data set or from other weights ({changes}); name another "
            "folder, or remove the run"
        )


def _check_hash(folder: Path, wanted: dict[str, PlannedRun], data_sha: str) -> None:
    """Refuse a run that has the name of a planned one, but not its config."""
    match = NAMED.fullmatch(folder.name)
    planned = wanted.get(match["name"]) if match else None
    if planned is None or folder == run_folder(folder.parents[1], planned, data_sha):
        return
    config = RunFolder(folder).config
    changes = changed_keys(load(config), planned.run) if config.is_file() else ""
    raise AblationFolderError(
        f"{folder}: is a run of that variant and seed with another config or other data"
        f"{f' ({changes})' if changes else ''}; name another folder, or remove the run"
    )
