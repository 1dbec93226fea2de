"""What a person sees while a run works: bars on a terminal, a line per epoch anywhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.text import Text


class _Rate(ProgressColumn):
    """Images, or what else is counted, per second over the last seconds."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} {self.unit}/s")


@contextmanager
def bar(
    text: str, images: int, shown: bool = True, *, unit: str = "images"
) -> Iterator[Callable[[int], None]]:
    """Show a bar of ``images``, or other units, with rate and time left; gives what moves it on.

    Silent when standard error is not a terminal, so that log files stay readable.
    """
    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeLeft()]
    with Progress(
        *columns, console=console, transient=True, disable=not (shown and sys.stderr.isatty())
    ) as progress:
        task = progress.add_task(text, total=images)
        yield lambda done: progress.update(task, advance=done)


def duration(seconds: float) -> str:
    """Give 3725 as "1 h 02 min" and 75 as "1 min 15 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
