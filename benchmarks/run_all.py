"""Run all benchmarks that compare times, one after another, and put their rows into one table.

    python benchmarks/run_all.py [--quick] [--json bench/results.json] [--only NAME ...]

Each runs in a process of its own. One that fails is named at the end, and the exit status is 1; the others
still count. COCO evaluation and the bootstrap have tables of their own: ``coco_evaluation.py``,
``bootstrap.py``.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from side_by_side import Row, as_json, parser, read_rows, table

BENCHMARKS: Final = (
    "losses",
    "matching",
    "sim_ota",
    "postprocess",
    "head_output",
    "optimizer_step",
    "step_on_cpu",
    "data_path",
    "growth",
    "whole_model",
)
"""Scripts of this folder, from small to large."""


def run(name: str, quick: bool) -> list[Row] | None:
    """Run one benchmark; gives its rows, or None if it failed."""
    print(f"\n== {name}", flush=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), "--json", str(rows)]
        status = subprocess.run(command + ["--quick"] * quick, check=False).returncode
        print(f"== {name}: {time.perf_counter() - start:.0f} s", flush=True)
        return read_rows(rows) if status == 0 else None


def versions() -> str:
    """Ask a process of its own, so that this one needs no torch."""
    command = [sys.executable, str(Path(__file__).with_name("side_by_side.py"))]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> int:
    """Parse, run, print; gives the exit status."""
    made = parser(__doc__, timed=False)  # each measures as it does by itself
    made.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, metavar="NAME")
    options = made.parse_args()
    of = {name: run(name, options.quick) for name in options.only}
    rows = [row for found in of.values() for row in found or ()]
    failed = [name for name, found in of.items() if found is None]
    measured_with = versions()
    print(
        f"\n{measured_with}{'; --quick: small sizes, no measurement' if options.quick else ''}\n{table(rows)}"
    )
    missed = sum(row.asked is not None and not row.ratio >= row.asked for row in rows)
    print(f"{len(rows)} comparisons, {missed} below what is asked (!); failed: {', '.join(failed) or 'none'}")
    if options.json is not None:
        whole = {
            "environment": measured_with,
            "quick": options.quick,
            "failed": failed,
            "rows": as_json(rows),
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
