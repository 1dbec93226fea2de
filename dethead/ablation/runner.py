"""Running a plan: every run in a process of its own, as many at a time as asked for, and none twice."""

import difflib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from dethead.ablation.fingerprint import fingerprint
from dethead.ablation.folders import AblationFolder, run_folder
from dethead.ablation.launchers import (
    Job,
    Launcher,
    LocalLauncher,
    RunProcess,
    cores,
    make_job,
    visible_gpus,
)
from dethead.ablation.live import Board, watch
from dethead.ablation.lock import check_free, is_held
from dethead.ablation.plan import Plan, PlannedRun
from dethead.ablation.status import (
    OUTPUT,
    Status,
    forget_status,
    is_finished,
    now,
    write_status,
    written_status,
)
from dethead.ablation.worker import LOCKED, STOPPED
from dethead.config import ConfigError
from dethead.training import Inputs
from dethead.training.signals import stop_requests

LAUNCHERS = ("local", "ray")
PAUSE = 0.25
"""Seconds between two looks at the runs."""


class Chosen(NamedTuple):
    """A run of the plan that this command is to see to."""

    planned: PlannedRun
    folder: Path
    finished: bool
    """Trained before, and left alone."""


class Failed(NamedTuple):
    """A run that came to no end."""

    name: str
    error: str
    output: Path
    """What its process said."""


class Outcome(NamedTuple):
    """What became of the chosen runs."""

    finished: int
    """Runs that are there now, those of earlier commands among them."""
    failed: tuple[Failed, ...]
    stopped: bool
    """Whether the command was interrupted, its runs told to save and stop."""


def run_plan(
    plan: Plan,
    inputs: Inputs,
    out: Path,
    *,
    jobs: int | None = None,
    launcher: str = "local",
    threads: int | None = None,
    only: Sequence[str] = (),
    only_seeds: Sequence[int] = (),
) -> Outcome:
    """Train what is not trained yet; a run that fails does not stop the others.

    Ctrl-C or SIGTERM: the runs save their state and stop; a second one ends them at once. The same call then
    goes on.

    Args:
        plan: what to run.
        inputs: data, weights, machine; the same for all runs.
        out: the folder of the ablation.
        jobs: runs at a time; None for 1 on this machine, and for all of them with "ray", whose cluster then
            takes as many as it has room for.
        launcher: one of ``LAUNCHERS``.
        threads: CPU threads of a run; None for its share of the cores, 1 with "ray".
        only: names of the variants to run; none for all.
        only_seeds: seeds to run; none for all.

    Raises:
        ConfigError: options that cannot be meant, a launcher that is not installed.
        AblationFolderError: a folder with runs of other data, another version, or another plan.
        LockError: a run that another process is training.
    """
    check_launcher(launcher, jobs)
    chosen = choose(plan, inputs, out, only, only_seeds)
    check_all_free(chosen)
    waiting = [one for one in chosen if not one.finished]
    starter = make_launcher(launcher, jobs, threads, inputs.device, len(waiting))
    AblationFolder(out).write(plan, fingerprint(inputs))
    each = share_threads(launcher, threads, starter.slots)
    work = [(one, make_job(one.planned, one.folder, inputs, each)) for one in waiting]
    with watch([(one.planned, one.folder) for one in chosen], starter.slots) as board:
        return _Round(starter, work, board).run()


def choose(
    plan: Plan, inputs: Inputs, out: Path, only: Sequence[str] = (), only_seeds: Sequence[int] = ()
) -> list[Chosen]:
    """Give the runs to see to, in the plan's order; writes nothing.

    Raises:
        ConfigError: a variant or seed that is not in the plan.
        AblationFolderError: a folder that cannot take this ablation.
    """
    names = [variant.name for variant in plan.variants]
    for name in only:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names)}"
            raise ConfigError(f"--only: {plan.name} has no variant {name!r}; {hint}")
    for seed in only_seeds:
        if seed not in plan.seeds:
            seeds = ", ".join(map(str, plan.seeds))
            raise ConfigError(f"--only-seeds: {plan.name} has no seed {seed}; it has {seeds}")
    made_of = fingerprint(inputs)
    AblationFolder(out).check(plan, made_of)
    runs = [
        (planned, run_folder(out, planned, made_of["sha256"]))
        for planned in plan.runs()
        if (not only or planned.variant.name in only) and (not only_seeds or planned.seed in only_seeds)
    ]
    return [Chosen(planned, folder, is_finished(folder)) for planned, folder in runs]


def check_all_free(chosen: Sequence[Chosen]) -> None:
    """Refuse runs that another process is training.

    Raises:
        LockError: naming run and process.
    """
    for one in chosen:
        if not one.finished:
            check_free(one.folder)


def check_launcher(name: str, jobs: int | None) -> None:
    """Refuse what cannot be started, before anything is looked at.

    Raises:
        ConfigError: an unknown launcher, fewer than one job, Ray not installed.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be at least 1")
    if name not in LAUNCHERS:
        raise ConfigError(f"--launcher {name!r} is unknown; allowed: {', '.join(LAUNCHERS)}")
    if name == "ray" and find_spec("ray") is None:
        raise ConfigError("--launcher ray: Ray is not installed; pip install dethead[ray]")


def make_launcher(name: str, jobs: int | None, threads: int | None, device: str, runs: int) -> Launcher:
    """Make the launcher of a name that was checked.

    Args:
        name: one of ``LAUNCHERS``.
        jobs: runs at a time, or None.
        threads: CPU threads of a run, or None.
        device: of the inputs.
        runs: how many there are to be started.
    """
    if name == "local":
        return LocalLauncher(jobs or 1, visible_gpus(device))
    from dethead.ablation.ray_launcher import RayLauncher

    return RayLauncher(jobs or max(runs, 1), share_threads(name, threads, 1), device)


def share_threads(launcher: str, threads: int | None, slots: int) -> int:
    """Give the CPU threads of a run: as asked for, else its share of this machine's cores, 1 on a cluster."""
    if threads is not None:
        return threads
    return max(1, cores() // slots) if launcher == "local" else 1


class _Round:
    """The runs of one command, from the first start to the last end."""

    def __init__(self, launcher: Launcher, work: Sequence[tuple[Chosen, Job]], board: Board) -> None:
        self.launcher, self.board = launcher, board
        self.waiting = deque(work)
        self.working: dict[int, tuple[Chosen, RunProcess]] = {}
        """By slot."""
        self.failed: list[Failed] = []
        self.asked, self.told = False, False

    def run(self) -> Outcome:
        """See to all runs, or to their orderly stop."""
        with stop_requests(self._ask):
            try:
                while self.working or (self.waiting and not self.asked):
                    self._start()
                    time.sleep(PAUSE)
                    self._tell()
                    self._collect()
                    self.board.look()
            except KeyboardInterrupt:  # asked twice
                for _, process in self.working.values():
                    process.kill()
                raise
            finally:
                for _, process in self.working.values():
                    process.stop()
        finished = sum(is_finished(folder) for _, folder in self.board.runs)
        return Outcome(finished, tuple(self.failed), self.asked)

    def _ask(self) -> bool:
        first, self.asked = not self.asked, True
        return first

    def _start(self) -> None:
        free = [slot for slot in range(self.launcher.slots) if slot not in self.working]
        for slot in free[: len(self.waiting)]:
            if self.asked:
                return
            one, job = self.waiting.popleft()
            if is_finished(one.folder):  # by another command, meanwhile
                continue
            if not is_held(one.folder):  # else its status is the other process's
                forget_status(one.folder)
            self.working[slot] = one, self.launcher.start(job, slot)
            self.board.started(one.planned.name)

    def _tell(self) -> None:
        if self.asked and not self.told:
            self.told = True
            self.board.say("stopping: runs save their state; Ctrl-C again ends them at once")
            for _, process in self.working.values():
                process.stop()

    def _collect(self) -> None:
        for slot, (one, process) in [*self.working.items()]:
            code = process.poll()
            if code is None:
                continue
            del self.working[slot]
            status = ended_status(one.folder, code, stopping=self.asked)
            if status.state == "failed":
                error = status.error or "no reason was written down"
                self.failed.append(Failed(one.planned.name, error, one.folder / OUTPUT))
            self.board.ended(one.planned.name, status)


def ended_status(folder: Path, code: int, *, stopping: bool = False) -> Status:
    """Say how a run ended, and write it down where its process could not do so itself.

    Args:
        folder: of the run.
        code: exit status of its process; -9 for one that a signal ended.
        stopping: whether it was to stop; then an end without a word is no failure.
    """
    status = written_status(folder)
    if code == LOCKED:
        return Status("failed", _last_line(folder / OUTPUT))  # the file is the other process's
    if status.state in ("finished", "failed", "stopped"):
        return status
    if stopping or code == STOPPED:
        return replace(status, state="stopped")
    how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    hint = " (killed; out of memory?)" if code == -9 else ""
    last = _last_line(folder / OUTPUT)
    status = replace(
        status, state="failed", error=f"its process {how}{hint}; it last said: {last}", ended=now()
    )
    write_status(folder, status)
    return status


def _last_line(output: Path) -> str:
    lines = output.read_text(encoding="utf-8", errors="replace").split("\n") if output.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
