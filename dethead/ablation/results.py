"""What an ablation has left behind so far: its plan, its runs, and the truth they are scored against."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dethead.ablation.folders import AblationFolder, run_folder
from dethead.ablation.plan import Plan, PlannedRun, parse_plan
from dethead.ablation.status import Status, read_status
from dethead.data import CocoSet, DataError, Split, find_split
from dethead.evaluation.arrays import EvaluationInput
from dethead.evaluation.matches import MatchTable, match
from dethead.evaluation.results import read_evaluation
from dethead.files import sha256_of
from dethead.training.inputs import open_split
from dethead.training.run_folder import RunFolder, RunFolderError, read_log


@dataclass(frozen=True, eq=False)
class RunResult:
    """One run of the plan, as far as it came."""

    planned: PlannedRun
    folder: Path
    status: Status
    metrics: dict[str, Any]
    """The last validation, as in ``metrics.json``; empty before the first."""
    totals: dict[str, Any]
    """``metrics.json`` apart from its validations: ``train_seconds``, ``parameters``, ..."""
    log: list[dict[str, Any]]
    """The lines of ``log.jsonl``."""
    environment: dict[str, Any]
    """Versions and machine; empty before the run began."""
    oracles: dict[str, Any]
    """COCO numbers with a branch replaced by the truth, by name of the oracle; empty where not asked for."""
    given: EvaluationInput | None
    """Truth and detections of the last epoch's weights; None unless the run is finished."""
    table: MatchTable | None
    """What was matched in ``given``."""

    @property
    def state(self) -> str:
        """Give the status's state; a run that is finished but cannot be scored is "failed"."""
        return "failed" if self.problem else self.status.state

    @property
    def problem(self) -> str | None:
        """Say why the run cannot be reported, if it never will without being started again."""
        if self.status.state == "finished" and self.table is None:
            missing = [path.name for path in _scored_by(self.folder) if not path.is_file()]
            return f"finished, but {', '.join(missing)} is not in its folder"
        return (self.status.error or "no reason was written down") if self.status.state == "failed" else None


@dataclass(frozen=True, eq=False)
class AblationResults:
    """All runs of a plan, in its order."""

    plan: Plan
    runs: tuple[RunResult, ...]
    coco: CocoSet | None
    """The truth of the validation images; None before a run is finished."""
    images: Path | None
    """Their folder; None if it is not there."""
    data: dict[str, Any]
    """``data.json``: the fingerprint of the data set, and where it was."""
    others: tuple[str, ...]
    """Run folders of no run of the plan, by name: other seeds, variants or settings than it has now."""

    @cached_property
    def finished(self) -> tuple[RunResult, ...]:
        """Give the runs that are scored."""
        return tuple(run for run in self.runs if run.table is not None)

    @property
    def interim(self) -> bool:
        """Whether some runs are still to come."""
        return any(run.state not in ("finished", "failed") for run in self.runs)

    def of(self, variant: str) -> tuple[RunResult, ...]:
        """Give the finished runs of a variant, by seed."""
        mine = (run for run in self.finished if run.planned.variant.name == variant)
        return tuple(sorted(mine, key=lambda run: run.planned.seed))

    def tables(self) -> dict[str, dict[int, MatchTable]]:
        """Give the match tables of finished runs, by variant and seed; variants without one are not there."""
        tables: dict[str, dict[int, MatchTable]] = {}
        for run in self.finished:
            if run.table is not None:
                tables.setdefault(run.planned.variant.name, {})[run.planned.seed] = run.table
        return tables


def read_results(
    out: Path, data: Path | None = None, *, annotations: Path | None = None, images: Path | None = None
) -> AblationResults:
    """Read the folder of an ablation, however far it is.

    Args:
        out: what ``dethead ablate`` was given as ``--out``.
        data: the data folder; None: where it was when the ablation started.
        annotations: the annotation file of val, wherever it is, in place of the one found.
        images: the folder of its images, likewise.

    Raises:
        RunFolderError: no ablation was started there.
        DataError: the truth is not where it should be, or is not what the runs were scored against.
        ValueError: a file in the folder that cannot be read, by name.
    """
    folder = AblationFolder(out)
    if not folder.plan.is_file() or not folder.data.is_file():
        missing = next(path.name for path in (folder.plan, folder.data) if not path.is_file())
        raise RunFolderError(f"{out}: holds no ablation (no {missing})")
    plan = parse_plan(folder.plan.read_text(encoding="utf-8"), str(folder.plan))
    made_of = _read_json(folder.data)
    folders = [(planned, run_folder(out, planned, made_of["sha256"])) for planned in plan.runs()]
    # Looked at once: a run that ends while the others are read counts as one that still trains.
    statuses = {path: read_status(path) for _, path in folders}
    scored = [path for path, status in statuses.items() if _is_scored(path, status)]
    split = _find_val(made_of["val"], data, annotations, images) if scored else None
    coco = None if split is None else _read_truth(plan, split, made_of["val"]["sha256"], scored[0])
    runs = tuple(
        _read_run(planned, path, statuses[path], coco if path in scored else None)
        for planned, path in folders
    )
    shown = split.images if split is not None and split.images.is_dir() else None
    return AblationResults(plan, runs, coco, shown, made_of, _others(folder, statuses))


def _others(folder: AblationFolder, planned: Collection[Path]) -> tuple[str, ...]:
    """Name what lies among the runs and is none of the planned ones."""
    found = sorted(folder.runs.iterdir()) if folder.runs.is_dir() else []
    return tuple(path.name for path in found if path not in planned and RunFolder(path).config.is_file())


def _scored_by(path: Path) -> tuple[Path, ...]:
    """Give the files without which a finished run cannot be reported."""
    folder = RunFolder(path)
    return folder.detections, folder.metrics


def _is_scored(path: Path, status: Status) -> bool:
    return status.state == "finished" and all(one.is_file() for one in _scored_by(path))


def _read_run(planned: PlannedRun, path: Path, status: Status, coco: CocoSet | None) -> RunResult:
    folder = RunFolder(path)
    report = _read_json(folder.metrics)
    given = None if coco is None else read_evaluation(folder.detections, coco)
    return RunResult(
        planned=planned,
        folder=path,
        status=status,
        metrics=report.pop("last", {}),
        totals={name: value for name, value in report.items() if name != "best"},
        log=read_log(folder.log),
        environment=_read_json(folder.environment),
        oracles=_read_json(folder.oracles),
        given=given,
        table=None if given is None else match(given),
    )


def _read_truth(plan: Plan, split: Split, sha256: str, scored: Path) -> CocoSet:
    """Read the validation set with the classes of the runs; all runs of an ablation have the same."""
    if sha256_of(split.annotations) != sha256:
        raise DataError(f"{split.annotations}: is not the file that the runs were scored against")
    names = tuple(one["name"] for one in _read_json(RunFolder(scored).metrics)["last"]["per_class"])
    return open_split(plan.variant(plan.baseline).run, split, names).coco


def _find_val(
    recorded: dict[str, str], data: Path | None, annotations: Path | None, images: Path | None
) -> Split:
    """Find the annotations, and where their images should be: without images there still is a report."""
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: no such image folder")
    if data is None:
        split = Split(annotations or Path(recorded["annotations"]), images or Path(recorded["images"]))
        if not split.annotations.is_file():
            where = "no such annotation file" if annotations else "is not there any more"
            raise DataError(f"{split.annotations}: {where}; say where it is with --data or --val-annotations")
        return split
    try:
        return find_split(data, "val", annotations=annotations, images=images)
    except DataError:
        # Without images the annotations are enough; without annotations this one says what was looked for.
        found = find_split(data, "val", annotations=annotations, images=data)
        return found._replace(images=data / "images")


def _read_json(path: Path) -> dict[str, Any]:
    """Give what is in a file, nothing where it is not there yet."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold a mapping, holds {type(values).__name__}")
    return values
