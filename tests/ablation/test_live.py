"""What is shown of runs that work, from nothing but their logs."""

import io
import json

import pytest
from rich.console import Console
from rich.live import Live
from tiny_runs import CONFIG

from dethead.ablation import live
from dethead.ablation.live import Board, LiveBoard, progress_table, watch
from dethead.ablation.plan import load_plan
from dethead.ablation.status import Status, write_status


@pytest.fixture
def runs(tmp_path):
    """Three variants, one seed, 2 epochs each; folders without a file."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        f"base: {CONFIG}\nbaseline: a\nseeds: 1\n"
        "variants: {a: {}, b: {training.clip_norm: 5.0}, c: {training.clip_norm: 6.0}}\n"
    )
    found = []
    for planned in load_plan(plan).runs():
        folder = tmp_path / planned.name
        folder.mkdir()
        found.append((planned, folder))
    return found


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


def log(folder, *lines):
    with (folder / "log.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def steps(epoch, images_per_s=8.0):
    return {"step": 1, "epoch": epoch, "images_per_s": images_per_s, "total": 1.0}


def validation(epoch, ap):
    return {"step": 2, "epoch": epoch, "val": {"AP": ap}}


def test_without_a_terminal_there_is_a_line_for_each_event(runs, clock, capsys):
    with watch(runs, 1) as board:
        board.started("a-seed0")
        log(runs[0][1], steps(0.5))
        board.look()
        clock[0] += 30
        log(runs[0][1], steps(1.0), validation(1, 0.125))
        board.look()
        board.look()
        board.ended("a-seed0", Status("finished"))
        board.started("b-seed0")
        board.ended("b-seed0", Status("failed", "ValueError: no"))
    assert capsys.readouterr().out.splitlines() == [
        "[1/3] a-seed0: started",
        # half an epoch took 30 s, one is left
        "[1/3] a-seed0: epoch 1/2, AP 12.5 %, 8.0 images/s, 1 min 00 s left",
        "[1/3] a-seed0: finished, AP 12.5 %",
        "[2/3] b-seed0: started",
        "[2/3] b-seed0: failed: ValueError: no",
    ]


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(runs):
    board = Board(runs, 1)
    board.started("a-seed0")
    text = json.dumps(validation(1, 0.25)) + "\n"
    for part in (text[:20], text[20:]):
        assert board.views["a-seed0"].ap is None
        with (runs[0][1] / "log.jsonl").open("a") as file:
            file.write(part)
        board.look()
    assert board.views["a-seed0"].ap == 0.25


def test_a_log_that_was_cut_by_a_resume_is_read_anew(runs):
    board = Board(runs, 1)
    board.started("a-seed0")
    log(runs[0][1], steps(0.5), steps(1.0), validation(1, 0.25))
    board.look()
    (runs[0][1] / "log.jsonl").unlink()
    log(runs[0][1], steps(0.5, 3.0))
    board.look()
    assert board.views["a-seed0"].images_per_s == 3.0


def test_an_ap_that_is_not_defined_is_a_dash(runs, capsys):
    board = Board(runs, 1)
    board.started("a-seed0")
    log(runs[0][1], validation(1, None))
    board.look()
    assert capsys.readouterr().out.splitlines()[-1].endswith("epoch 1/2, AP -")


def test_the_time_left_counts_running_and_waiting_runs_over_the_jobs(runs, clock):
    board = Board(runs, 2)
    assert board.seconds_left() is None
    board.started("a-seed0")
    log(runs[0][1], steps(0.5))
    board.look()
    clock[0] += 30
    log(runs[0][1], steps(1.0))
    board.look()
    # 60 s an epoch; 1 + 2 + 2 epochs left on 2 jobs
    assert board.seconds_left() == pytest.approx(60 * 5 / 2)
    assert board.summary() == "0 of 3 runs finished, 1 running, 2 waiting; about 2 min 30 s left"


def test_a_run_that_was_finished_before_is_shown_with_its_ap_and_not_counted_as_left(runs, clock):
    folder = runs[2][1]
    log(folder, steps(2.0), validation(2, 0.5))
    (folder / "detections.json").write_text("[]")
    write_status(folder, Status("finished"))
    board = Board(runs, 1)
    assert board.summary() == "1 of 3 runs finished, 2 waiting"
    assert "50.0" in rendered(progress_table([board.views["c-seed0"]]))


def test_the_table_shows_a_line_for_each_run(runs, clock):
    board = Board(runs, 1)
    board.started("a-seed0")
    log(runs[0][1], steps(1.0, 8.25), validation(1, 0.125))
    board.look()
    lines = [line.split() for line in rendered(progress_table([*board.views.values()])).splitlines()]
    assert lines[0] == ["variant", "seed", "state", "epoch", "images/s", "AP,", "%", "left"]
    assert lines[1] == ["a", "0", "running", "1/2", "8.2", "12.5"]
    assert lines[2] == ["b", "0", "waiting", "0/2"]


def test_of_many_runs_those_around_the_running_ones_are_drawn(runs):
    board = LiveBoard(runs, 1, Live(console=Console(file=io.StringIO())))
    board.views["c-seed0"].state = "running"
    assert [view.planned.name for view in board.shown(2)] == ["b-seed0", "c-seed0"]
    assert [view.planned.name for view in board.shown(0)] == ["c-seed0"]


def test_on_a_terminal_events_print_nothing_and_the_table_is_drawn(runs):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, height=30)
    with Live(console=console, auto_refresh=False) as shown:
        board = LiveBoard(runs, 1, shown)
        board.started("a-seed0")
        board.look()
        shown.refresh()
    assert "0 of 3 runs finished, 1 running, 2 waiting" in file.getvalue()
    assert "started" not in file.getvalue()


def rendered(table):
    file = io.StringIO()
    Console(file=file, width=100).print(table)
    return file.getvalue()
