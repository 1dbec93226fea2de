"""Every benchmark runs and tells its ratios. How large they are is no test's business."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
RUNNER = """
import runpy, sys, traceback
folder, out, *names = sys.argv[1:]
sys.path.insert(0, folder)
for name in names:
    sys.argv = [f"{folder}/{name}.py", "--quick", "--json", f"{out}/{name}.json"]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except BaseException:
        traceback.print_exc()
"""
"""All in one process: importing torch takes longer than most of them."""


def load(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(FOLDER))


side_by_side = load("side_by_side")
BENCHMARKS = load("run_all").BENCHMARKS
COMPARE = ("work", "case", "torch", "ms")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with each benchmark's rows, and all that was printed."""
    out = tmp_path_factory.mktemp("rows")
    command = [sys.executable, "-c", RUNNER, str(FOLDER), str(out), *BENCHMARKS]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return out, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_quick_run_tells_each_ratio(name: str, results: tuple[Path, str]) -> None:
    folder, printed = results
    assert (folder / f"{name}.json").is_file(), printed
    rows = side_by_side.read_rows(folder / f"{name}.json")
    assert rows
    assert all(f"{row.ratio:.2f}" in printed for row in rows)
    assert all(row.ratio > 0 for row in rows)


def test_every_script_with_rows_is_run_by_make_bench() -> None:
    with_rows = {path.stem for path in FOLDER.glob("*.py") if "finish(" in path.read_text(encoding="utf-8")}
    # side_by_side is the frame of all; gpu_losses needs CUDA, and `make bench` is for any machine
    assert with_rows - {"side_by_side", "gpu_losses"} == set(BENCHMARKS)


def test_make_bench_refuses_options_that_it_would_not_pass_on() -> None:
    command = [sys.executable, str(FOLDER / "run_all.py"), "--cpu", "--only", "head_output", "--quick"]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    assert "unrecognized arguments: --cpu" in done.stderr


def test_the_profile_names_all_parts() -> None:
    command = [sys.executable, str(FOLDER / "whole_model_profile.py"), "--quick"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    parts = ("data", "backbone", "neck", "head", "assigner", "criterion", "optimizer", "postprocessing")
    assert [part for part in parts if f"\n| {part}" not in printed] == []


def test_a_ratio_above_one_means_ahead_in_times_and_in_rates() -> None:
    assert side_by_side.compare(*COMPARE, 30.0, 10.0).ratio == 3.0
    assert side_by_side.compare("work", "case", "torch", "images/s", 10.0, 30.0).ratio == 3.0


def test_only_a_missed_ratio_is_marked() -> None:
    rows = [side_by_side.compare(*COMPARE, 30.0, 10.0, asked=asked) for asked in (None, 3.0, 3.01)]
    assert ["!" in line for line in side_by_side.table(rows).splitlines()] == [False, False, False, True]


def test_rows_come_back_from_json(tmp_path: Path) -> None:
    row = side_by_side.compare(*COMPARE, 30.0, math.nan, asked=2.0, memory_ratio=math.nan)
    side_by_side.write_rows(tmp_path / "new" / "rows.json", [row])
    (written,) = json.loads((tmp_path / "new" / "rows.json").read_text(encoding="utf-8"))
    assert (written["peer_value"], written["ours"], written["memory_ratio"]) == (30.0, None, None)
    (back,) = side_by_side.read_rows(tmp_path / "new" / "rows.json")
    assert back[:6] == row[:6]
    assert math.isnan(back.ratio)


def test_contenders_take_turns_and_the_least_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    spans = iter([3.0, 5.0, 4.0, 2.0])
    monkeypatch.setattr(
        side_by_side,
        "timed",
        lambda call: (call(), side_by_side.Times(next(spans), 1.0))[1],
    )
    found = side_by_side.least({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3  # the first of each warms up
    assert {name: times.clock for name, times in found.items()} == {"a": 3.0, "b": 2.0}


def test_a_large_tensor_shows_in_the_peak(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    script = tmp_path / "large.py"
    script.write_text(
        "import torch\n"
        "from side_by_side import added_mib\n"
        "torch.ones(1)\n"
        "print(added_mib(lambda: torch.ones(64 * 2**20 // 4)))\n"
    )
    # In this process, memory that earlier tests freed could be used again, and nothing would grow.
    grown = side_by_side.alone(script, PYTHONPATH=os.pathsep.join([str(FOLDER), *sys.path]))
    assert 60 < grown < 80
