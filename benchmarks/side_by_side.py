"""What all benchmarks share: options, rows, times, memory, the table and its JSON.

A benchmark measures some *work* in some *cases*, dethead's way and a peer's, and tells each comparison as a
``Row``. Times are the least of several rounds, contenders in turn within each round, so that whatever else
the machine does disturbs all of them alike::

    options = parser(__doc__).parse_args()
    times = least({"peer": theirs, "dethead": ours}, rounds=2 if options.quick else 20)
    peer, own = (1000 * times[name].that_counts(options) for name in ("peer", "dethead"))
    finish([compare("matching", "100 boxes", "torchvision", ms(options), peer, own, asked=60)], options)
"""

import argparse
import contextlib
import gc
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

MORE_IS_BETTER: Final = frozenset({"images/s", "images/CPU s"})
"""Units of which a contender wants many; of all others (ms, s, MiB) it wants few."""

THREADS: Final = 2
"""Of every contender, unless --threads says otherwise."""


class Row(NamedTuple):
    """One comparison, and one entry of the JSON."""

    work: str
    """What is done: "max-IoU matching"."""
    case: str
    """At which size, with which settings: "122k anchors, 100 boxes"."""
    peer: str
    """Who else does it: "torchvision RetinaNet"."""
    peer_version: str
    """Of the peer's distribution, or of what its code was written out after."""
    unit: str
    """Of both values: "ms", "s", "images/s", "MiB"."""
    peer_value: float
    ours: float
    ratio: float
    """How many times better dethead is: above 1 it is ahead, whatever the unit."""
    asked: float | None
    """The least ratio that is wanted; None: nothing was."""
    memory_ratio: float | None
    """The peer's additional memory over dethead's: above 1 dethead needs less. None: not measured."""


class Times(NamedTuple):
    """Least seconds of one contender."""

    clock: float
    """As the clock on the wall goes."""
    cpu: float
    """Of all threads of the process together. Other programs disturb it less, but a thread that waits for
    others in a loop counts as busy."""

    def that_counts(self, options: argparse.Namespace) -> float:
        """Give the seconds that are compared."""
        return self.cpu if options.cpu else self.clock


def ms(options: argparse.Namespace) -> str:
    """Give the unit of milliseconds that are compared."""
    return "CPU ms" if options.cpu else "ms"


def compare(
    work: str,
    case: str,
    peer: str,
    unit: str,
    peer_value: float,
    ours: float,
    *,
    asked: float | None = None,
    memory_ratio: float | None = None,
    peer_version: str | None = None,
) -> Row:
    """Make a row and work out its ratio.

    Args:
        work: see ``Row``, as for the others.
        case: see ``Row``.
        peer: its first word is the distribution whose version is looked up.
        unit: decides which way round the ratio is; see ``MORE_IS_BETTER``.
        peer_value: measured of the peer.
        ours: measured of dethead.
        asked: see ``Row``.
        memory_ratio: see ``Row``.
        peer_version: for peers that are not installed as a distribution of their name.
    """
    better = ours / peer_value if unit in MORE_IS_BETTER else peer_value / ours
    version = version_of(peer.split()[0]) if peer_version is None else peer_version
    return Row(work, case, peer, version, unit, peer_value, ours, better, asked, memory_ratio)


def version_of(distribution: str) -> str:
    """Give the version that is installed, or "-"."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return "-"


def environment() -> str:
    """Say in one line what is measured and on what."""
    import torch  # here, because run_all.py and whole_model.py need none of it for themselves

    import dethead

    names = ("torch", "torchvision", "numpy")
    versions = ", ".join(f"{name} {version_of(name)}" for name in names)
    return (
        f"dethead {dethead.__version__}, Python {platform.python_version()}, {versions}; "
        f"{cores()} cores, {torch.get_num_threads()} threads"
    )


def cores() -> int:
    """Give the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def least(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Time calls in turn, ``rounds`` times, and give the least of each; its first call does not count."""
    for call in calls.values():
        call()
    found = dict.fromkeys(calls, Times(math.inf, math.inf))
    for _ in range(rounds):
        for name, call in calls.items():
            found[name] = Times(*map(min, found[name], timed(call)))
    return found


def timed(call: Callable[[], object]) -> Times:
    """Time one call; what it gives is dropped within that time."""
    clock, cpu = time.perf_counter(), time.process_time()
    call()
    return Times(time.perf_counter() - clock, time.process_time() - cpu)


def added_mib(call: Callable[[], object]) -> float:
    """Give by how many MiB the memory of this process grows at the peak of one call; nan without /proc.

    Meant for a process of its own (``alone``), and after a small call that loads what the first one loads:
    memory that an earlier call has freed and the process has kept would be used again, unseen.
    """
    gc.collect()
    forget_peak()
    before = memory_mib("VmRSS")
    call()
    return memory_mib("VmHWM") - before


def memory_mib(key: str) -> float:
    """Give VmRSS, the memory this process has now, or VmHWM, its peak; nan where the system has no /proc."""
    # Not getrusage's maximum: that one starts with the parent's memory.
    with contextlib.suppress(FileNotFoundError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(key))
    return math.nan


def forget_peak() -> None:
    """Set this process's peak to what it has now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def alone(script: str | Path, *arguments: str, **environ: str) -> Any:
    """Run a script in a process of its own and give the JSON that its last line is.

    Args:
        script: path of a Python file; ``__file__`` for oneself.
        arguments: of its command line.
        environ: environment variables to add.

    Raises:
        subprocess.CalledProcessError: it failed; what it wrote to stderr was shown.
    """
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | environ)
    return json.loads(done.stdout.splitlines()[-1])


def parser(doc: str | None, *, timed: bool = True) -> argparse.ArgumentParser:
    """Make a parser with the options that every benchmark has.

    Args:
        doc: what --help says.
        timed: whether it takes --threads and --cpu; those without measure CPU time on one thread.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="small sizes, few rounds: does it run at all?")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    if timed:
        made.add_argument("--threads", type=int, default=THREADS, help="of every contender")
        made.add_argument(
            "--cpu", action="store_true", help="compare CPU time, where others use the machine, too"
        )
    return made


def finish(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Print the table and write the JSON that was asked for."""
    print(table(rows))
    if options.json is not None:
        write_rows(options.json, rows)


def table(rows: Sequence[Row]) -> str:
    """Lay rows out, one line each; a ratio below the asked one ends in an exclamation mark."""
    heads = ("work", "case", "peer", "unit", "peer's", "dethead", "ratio", "asked", "memory")
    lines = [heads, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    words = 4  # to the left, numbers to the right
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    missed = row.asked is not None and row.ratio < row.asked
    return (
        row.work,
        row.case,
        f"{row.peer} {row.peer_version}",
        row.unit,
        number(row.peer_value),
        number(row.ours),
        f"{row.ratio:.2f}{'!' if missed else ' '}",
        "-" if row.asked is None else f"{row.asked:g}",
        "-" if row.memory_ratio is None else f"{row.memory_ratio:.2f}",
    )


def number(value: float) -> str:
    """Write a number with three figures or all it has before the point."""
    if not math.isfinite(value):
        return "-"
    decimals = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a JSON list of objects; see ``as_json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(rows), indent=1) + "\n", encoding="utf-8")


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Give each row as a dictionary; what is not a number becomes None, as JSON knows no nan."""

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{key: plain(value) for key, value in row._asdict().items()} for row in rows]


def read_rows(path: Path) -> list[Row]:
    """Read what ``write_rows`` wrote, null as nan where a number must be."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    for row in rows:
        row |= {key: math.nan for key in ("peer_value", "ours", "ratio") if row[key] is None}
    return [Row(**row) for row in rows]


if __name__ == "__main__":
    print(environment().rpartition(", ")[0])  # how many threads, each benchmark decides
