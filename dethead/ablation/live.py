"""What a person sees while an ablation runs: a live table on a terminal, a line per event anywhere else.

All of it is read from the ``log.jsonl`` of the runs, as anybody could.
"""

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dethead.ablation.plan import PlannedRun
from dethead.ablation.status import State, Status, is_finished
from dethead.training.progress import duration
from dethead.training.run_folder import RunFolder

STYLES: dict[State, str] = {"running": "bold", "finished": "green", "failed": "red", "stopped": "yellow"}
LINES_AROUND = 8
"""Of the terminal, that are not rows of the table."""


@dataclass(eq=False)
class RunView:
    """A run as its log shows it."""

    planned: PlannedRun
    log: Path
    state: State = "waiting"
    epoch: float = 0.0
    """Epochs that are done."""
    images_per_s: float | None = None
    ap: float | None = None
    """Of the last validation, in [0, 1]."""
    error: str | None = None
    validated: int = 0
    """The last epoch that was validated."""
    offset: int = 0
    """Bytes of the log that were read."""
    began: tuple[float, float] | None = None
    """Time and epoch when progress of this attempt was first seen; the start-up before is not counted."""
    seconds: float = 0.0
    """From there to the last progress."""

    @property
    def epochs(self) -> int:
        """Epochs to train."""
        return self.planned.run.training.epochs

    @property
    def seconds_per_epoch(self) -> float | None:
        """Measured in this attempt; None before there was progress."""
        done = self.epoch - self.began[1] if self.began else 0.0
        return self.seconds / done if done > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Of training; None where nothing is known."""
        each = self.seconds_per_epoch
        return None if each is None else each * (self.epochs - self.epoch)

    def read(self) -> bool:
        """Read on in the log; True if an epoch was validated since."""
        before = self.validated
        lines = self._new_lines()
        for line in lines:
            self.epoch = float(line.get("epoch", self.epoch))
            self.images_per_s = line.get("images_per_s", self.images_per_s)
            if "val" in line:
                self.ap, self.validated = line["val"]["AP"], int(line["epoch"])
        if lines:
            now = time.monotonic()
            self.began = self.began or (now, self.epoch)
            self.seconds = now - self.began[0]
        return self.validated > before

    def _new_lines(self) -> list[dict[str, Any]]:
        if not self.log.is_file():
            return []
        with self.log.open("rb") as file:
            if file.seek(0, 2) < self.offset:  # cut by a run that went on
                self.offset = 0
            file.seek(self.offset)
            whole = file.read().rpartition(b"\n")[0]
        self.offset += len(whole) + 1 if whole else 0
        return [line for line in map(_parsed, whole.splitlines()) if line]


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:  # read while the log was cut and written anew
        return {}
    return values if isinstance(values, dict) else {}


class Board:
    """All runs of a command, and how far they are.

    Args:
        runs: with their folders, in the order they are started.
        slots: runs at a time.
    """

    def __init__(self, runs: Sequence[tuple[PlannedRun, Path]], slots: int) -> None:
        self.runs, self.slots = runs, slots
        self.views = {planned.name: RunView(planned, RunFolder(folder).log) for planned, folder in runs}
        for planned, folder in runs:
            if is_finished(folder):
                view = self.views[planned.name]
                view.read()
                view.state = "finished"

    def started(self, name: str) -> None:
        """Note that a run was started."""
        view = self.views[name]
        view.state = "running"
        view.read()
        view.began = None
        self.event(view, "started" if not view.epoch else f"goes on at epoch {view.epoch:.3g}")

    def look(self) -> None:
        """Read on in the logs of the runs that work."""
        for view in self.views.values():
            if view.state == "running" and view.read():
                self.event(view, _progress(view))

    def ended(self, name: str, status: Status) -> None:
        """Note how a run ended."""
        view = self.views[name]
        if view.read():
            self.event(view, _progress(view))
        view.state, view.error = status.state, status.error
        said = {"finished": f"finished, {_ap(view)}", "failed": f"failed: {status.error}"}
        self.event(view, said.get(status.state, status.state))

    def event(self, view: RunView, text: str) -> None:
        """Tell what happened: a line each, with the place of the run among all."""
        place = [*self.views].index(view.planned.name) + 1
        self.say(f"[{place}/{len(self.views)}] {view.planned.name}: {text}")

    def say(self, text: str) -> None:
        """Tell something that is about no single run."""
        print(text, flush=True)

    def seconds_left(self) -> float | None:
        """Give the time that all runs together still take, at the pace so far; None where it is unknown."""
        paces = [pace for view in self.views.values() if (pace := view.seconds_per_epoch)]
        if not paces:
            return None
        left = [view for view in self.views.values() if view.state in ("running", "waiting")]
        epochs = sum(view.epochs - view.epoch for view in left)
        return epochs * sum(paces) / len(paces) / max(1, min(self.slots, len(left)))

    def summary(self) -> str:
        """Say in a line how far all runs are."""
        states = [view.state for view in self.views.values()]
        counts = [
            f"{states.count(s)} {s}" for s in ("running", "waiting", "stopped", "failed") if s in states
        ]
        left = self.seconds_left()
        parts = [f"{states.count('finished')} of {len(states)} runs finished", *counts]
        return ", ".join(parts) + (f"; about {duration(left)} left" if left else "")


class LiveBoard(Board):
    """The same as a table that is drawn anew."""

    def __init__(self, runs: Sequence[tuple[PlannedRun, Path]], slots: int, live: Live) -> None:
        super().__init__(runs, slots)
        self.live = live

    def look(self) -> None:
        """Read on, and draw."""
        super().look()
        self.live.update(self.drawn())

    def event(self, view: RunView, text: str) -> None:
        """Nothing: the table shows it."""

    def say(self, text: str) -> None:
        """Print above the table."""
        self.live.console.print(text)

    def drawn(self) -> RenderableType:
        """Draw the runs that fit: those that work, the last that ended, the next to come."""
        shown = self.shown(self.live.console.height - LINES_AROUND)
        return Group(progress_table(shown), Text(self.summary()))

    def shown(self, rows: int) -> list[RunView]:
        """Choose the runs to draw when not all fit, in their order."""
        views = [*self.views.values()]
        now = [place for place, view in enumerate(views) if view.state == "running"]
        middle = now[0] if now else 0
        wanted = sorted(range(len(views)), key=lambda place: (place not in now, abs(place - middle)))
        return [views[place] for place in sorted(wanted[: max(rows, 1)])]


@contextmanager
def watch(runs: Sequence[tuple[PlannedRun, Path]], slots: int) -> Iterator[Board]:
    """Give a board that shows itself: as a live table on a terminal, by lines elsewhere."""
    if not sys.stdout.isatty():
        yield Board(runs, slots)
        return
    with Live(console=Console(), refresh_per_second=4, transient=True) as live:
        yield LiveBoard(runs, slots, live)


def progress_table(views: Sequence[RunView]) -> Table:
    """Give a line for each run: state, epochs, speed, AP so far, time left."""
    table = Table(box=None)
    for name in ("variant", "seed", "state", "epoch", "images/s", "AP, %", "left"):
        table.add_column(name, justify="left" if name in ("variant", "state") else "right")
    for view in views:
        running = view.state == "running"
        left = view.seconds_left if running else None
        table.add_row(
            Text(view.planned.variant.name),
            str(view.planned.seed),
            Text(view.state, STYLES.get(view.state, "dim")),
            f"{math.floor(view.epoch)}/{view.epochs}",
            f"{view.images_per_s:.1f}" if running and view.images_per_s is not None else "",
            "" if view.ap is None else f"{100 * view.ap:.1f}",
            "" if left is None else duration(left),
        )
    return table


def _progress(view: RunView) -> str:
    parts = [f"epoch {view.validated}/{view.epochs}", _ap(view)]
    parts += [] if view.images_per_s is None else [f"{view.images_per_s:.1f} images/s"]
    left = view.seconds_left
    parts += [f"{duration(left)} left"] if left else []
    return ", ".join(parts)


def _ap(view: RunView) -> str:
    return "AP -" if view.ap is None else f"AP {100 * view.ap:.1f} %"
