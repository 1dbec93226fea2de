"""Runs of a plan: made once, each in its folder, taken up again where they stopped."""

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from unittest.mock import ANY

import pytest
import torch
import yaml
from forked_workers import ForkedWorker
from tiny_runs import CONFIG, log_lines, start, tensors, write_data

from dethead.ablation import launchers
from dethead.ablation.closing import failures
from dethead.ablation.folders import AblationFolderError, run_folder
from dethead.ablation.live import Board
from dethead.ablation.lock import LockError, locked
from dethead.ablation.plan import load_plan, parse_plan
from dethead.ablation.runner import Chosen, Outcome, _Round, choose, ended_status, run_plan, share_threads
from dethead.ablation.status import Status, read_status, write_status
from dethead.cli import main
from dethead.config import ConfigError
from dethead.data import CocoSet
from dethead.evaluation import coco_metrics, read_evaluation
from dethead.training import Inputs

# 4 steps of 30 ms in an epoch. Dropout, because it draws from the generator that a resume must put back.
PLAN = f"""
base: {CONFIG}
changes:
  backbone.options: {{norm: batch, dropout: 0.2, delay: 0.03}}
  training.epochs: 3
  training.batch_size: 2
variants:
  ce: {{}}
  bce: {{class_scheme: {{name: sigmoid_bce}}}}
  broken: {{training.optimizer.lr: 1.0e+30}}
baseline: ce
seeds: 2
"""
PATIENCE = 120  # seconds; a busy machine is no reason to fail


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "losses.yaml"
    path.write_text(PLAN)
    return path


@pytest.fixture(scope="module")
def plan(plan_file):
    return load_plan(plan_file)


@pytest.fixture(scope="module")
def inputs(tiny_data):
    return Inputs.find(tiny_data, device="cpu")


@pytest.fixture
def forked(monkeypatch):
    monkeypatch.setattr(launchers, "start_worker", ForkedWorker)


@pytest.fixture(scope="module")
def whole(plan, inputs, tmp_path_factory):
    """The plan, run to its end; with what it said and what became of it."""
    out = tmp_path_factory.mktemp("runner") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launchers, "start_worker", ForkedWorker)
        outcome = run_plan(plan, inputs, out, jobs=2, threads=1)
    return out, outcome


def only_run(out: Path, name: str) -> Path:
    (found,) = (out / "runs").glob(f"{name}-*")
    return found


def wait_until(reached, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end, f"never {what}"
        time.sleep(0.005)


def has_step(folder: Path, step: int) -> bool:
    return any(line["step"] >= step for line in log_lines(folder))


def assert_same_run(found: Path, wanted: Path) -> None:
    one, two = (tensors(folder / "checkpoints" / "last.pt") for folder in (found, wanted))
    assert one.keys() == two.keys()
    for key in one.keys() - {"/seconds"}:
        same = torch.equal(one[key], two[key]) if isinstance(one[key], torch.Tensor) else one[key] == two[key]
        assert same, key
    assert (found / "detections.json").read_bytes() == (wanted / "detections.json").read_bytes()
    last = [json.loads((folder / "metrics.json").read_text())["last"] for folder in (found, wanted)]
    assert last[0] == last[1]


# --- what a command does


def test_every_variant_is_trained_with_every_seed_in_a_folder_of_its_own(whole):
    out, outcome = whole
    states = {f.name[:-9]: read_status(f).state for f in (out / "runs").iterdir()}
    ends = {"ce": "finished", "bce": "finished", "broken": "failed"}
    assert states == {f"{name}-seed{seed}": end for name, end in ends.items() for seed in (0, 1)}
    assert outcome.finished == 4
    assert not outcome.stopped


def test_a_failed_run_is_named_with_its_error_and_stops_no_other(whole):
    out, outcome = whole
    assert sorted(one.name for one in outcome.failed) == ["broken-seed0", "broken-seed1"]
    folder = only_run(out, "broken-seed0")
    status = read_status(folder)
    assert status.error.startswith("FloatingPointError: the gradient is not finite")
    assert "Traceback" in (folder / "output.txt").read_text()
    said = next(line for line in failures(outcome.failed) if "seed0" in line)
    assert said == f"broken-seed0 failed: {status.error}; all of it: {folder / 'output.txt'}"


def test_the_folder_says_what_was_planned_and_on_which_data(whole, plan, tiny_data):
    out, _ = whole
    assert parse_plan((out / "plan.yaml").read_text()) == plan
    data = json.loads((out / "data.json").read_text())
    assert Path(data["val"]["annotations"]) == tiny_data / "annotations" / "instances_val.json"
    assert len(data["train"]["sha256"]) == len(data["sha256"]) == 64


def test_the_detections_of_a_run_give_the_numbers_of_its_last_epoch(whole, tiny_data):
    folder = only_run(whole[0], "ce-seed1")
    names = ["car", "pedestrian", "truck"]
    coco = CocoSet.read(tiny_data / "annotations" / "instances_val.json", names)
    found = coco_metrics(read_evaluation(folder / "detections.json", coco)).as_dict()
    last = json.loads((folder / "metrics.json").read_text())["last"]
    assert {name: last[name] for name in found} == found


def test_finished_runs_are_not_started_again_and_failed_ones_are(whole, plan, inputs, forked, monkeypatch):
    out, _ = whole
    started = []
    monkeypatch.setattr(
        launchers, "start_worker", lambda job, env: started.append(Path(job.folder).name) or ForkedWorker(job)
    )
    outcome = run_plan(plan, inputs, out, only_seeds=[0], threads=1)
    assert [name[:-9] for name in started] == ["broken-seed0"]
    assert outcome.finished == 2


def test_part_of_a_plan_can_be_run(plan, inputs, tmp_path):
    chosen = choose(plan, inputs, tmp_path / "out", ["bce", "ce"], [1])
    assert [one.planned.name for one in chosen] == ["ce-seed1", "bce-seed1"]


def test_the_folder_of_a_run_does_not_depend_on_where_the_data_lie(plan, inputs, tmp_path):
    elsewhere = Inputs.find(write_data(tmp_path / "data"))
    one, two = (choose(plan, given, tmp_path / "out") for given in (inputs, elsewhere))
    assert [a.folder for a in one] == [b.folder for b in two]


# --- what stops it


def run_one(plan, inputs, out):
    return run_plan(plan, inputs, out, only=["ce"], only_seeds=[0], threads=1)


def test_a_killed_run_is_a_failure_and_goes_on_to_the_same_bits(whole, plan, inputs, tmp_path, forked):
    out = tmp_path / "killed"

    def kill() -> None:
        wait_until(lambda: list((out / "runs").glob("*/status.json")), "running")
        folder = only_run(out, "ce-seed0")
        wait_until(lambda: has_step(folder, 6), "at step 6")
        os.kill(read_status(folder).pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = run_one(plan, inputs, out)
    killer.join()
    assert outcome.failed[0].error.startswith("its process was ended by signal 9 (killed; out of memory?)")
    assert run_one(plan, inputs, out).finished == 1
    folder = only_run(out, "ce-seed0")
    assert "resumed at step 4 of 12" in (folder / "output.txt").read_text()
    assert_same_run(folder, only_run(whole[0], "ce-seed0"))


def test_ctrl_c_saves_in_the_step_and_the_same_call_goes_on(whole, plan, inputs, tmp_path, forked, capsys):
    out = tmp_path / "stopped"

    def press() -> None:
        wait_until(lambda: list((out / "runs").glob("*/log.jsonl")), "running")
        wait_until(lambda: has_step(only_run(out, "ce-seed0"), 2), "at step 2")
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    outcome = run_one(plan, inputs, out)
    presser.join()
    assert outcome.stopped
    assert not outcome.failed
    folder = only_run(out, "ce-seed0")
    assert read_status(folder).state == "stopped"
    assert "stopping: runs save their state" in capsys.readouterr().out
    assert run_one(plan, inputs, out).finished == 1
    assert_same_run(folder, only_run(whole[0], "ce-seed0"))


def test_runs_save_and_stop_when_whoever_started_them_is_killed(plan_file, tiny_data, tmp_path):
    """By the command line, and in real processes."""
    out = tmp_path / "out"
    parent = start(
        ["ablate", str(plan_file), "--data", str(tiny_data), "--out", str(out), "--only", "ce", "--seeds",
         "1", "--device", "cpu", "--workers", "0", "--threads", "1", "training.epochs=200"],
        tmp_path / "said.txt",
    )  # fmt: skip
    runs = out / "runs"
    wait_until(lambda: any(has_step(f, 1) for f in runs.glob("ce-*")) or not parent.is_alive(), "training")
    assert parent.pid
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    folder = only_run(out, "ce-seed0")
    wait_until(
        lambda: read_status(folder).state == "stopped", f"stopped: {(tmp_path / 'said.txt').read_text()}"
    )
    assert "stopped at step" in (folder / "output.txt").read_text()
    assert (folder / "checkpoints" / "last.pt").is_file()


# --- what is refused before anything trains


def test_another_data_set_is_refused(whole, plan, tmp_path):
    other = Inputs.find(write_data(tmp_path / "data", train_images=9))
    with pytest.raises(
        AblationFolderError, match=r"holds an ablation on another data set .*train: sha256 \w{12} -> "
    ):
        choose(plan, other, whole[0])


def test_a_run_brought_from_another_data_set_is_refused_by_name(whole, plan, inputs, tmp_path):
    folder = tmp_path / "runs" / only_run(whole[0], "ce-seed0").name
    folder.mkdir(parents=True)
    values = json.loads((only_run(whole[0], "ce-seed0") / "environment.json").read_text())
    values["files"]["val"]["sha256"] = "0" * 64
    (folder / "environment.json").write_text(json.dumps(values))
    with pytest.raises(
        AblationFolderError, match=r"ce-seed0-\w+: was trained on another .*val: sha256 000000000000 -> "
    ):
        choose(plan, inputs, tmp_path)


def test_a_run_of_another_version_is_refused_by_name(whole, plan, inputs, tmp_path):
    folder = tmp_path / "runs" / only_run(whole[0], "ce-seed0").name
    folder.mkdir(parents=True)
    values = json.loads((only_run(whole[0], "ce-seed0") / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps(values | {"dethead": "0.0.7"}))
    with pytest.raises(
        AblationFolderError, match=r"ce-seed0-\w+: was trained by dethead 0\.0\.7, this is 0\.1"
    ):
        choose(plan, inputs, tmp_path)


def test_a_variant_of_that_name_with_other_settings_is_refused(whole, plan_file, inputs):
    changed = load_plan(plan_file, ["training.epochs=4"])
    with pytest.raises(
        AblationFolderError, match=r"variant 'ce' with other settings \(training\.epochs: 3 -> 4\)"
    ):
        choose(changed, inputs, whole[0])


def test_a_run_of_another_config_is_refused_also_without_its_plan(whole, plan_file, inputs, tmp_path):
    folder = tmp_path / "runs" / only_run(whole[0], "ce-seed0").name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text((only_run(whole[0], "ce-seed0") / "config.yaml").read_text())
    with pytest.raises(
        AblationFolderError, match=r"with another config or other data \(training\.epochs: 3 -> 4\)"
    ):
        choose(load_plan(plan_file, ["training.epochs=4"]), inputs, tmp_path)


@pytest.mark.parametrize(("key", "found"), [("postprocess", True), ("training", False)])
def test_a_run_from_before_a_key_was_added_is_found_if_the_default_makes_it_the_same(
    plan, tmp_path, key, found
):
    planned, data_sha = plan.runs()[0], "0a1b"
    values = planned.run.model_dump(mode="json")
    values[key] = {"postprocess": {"nms_iou": 0.6}, "training": values["training"] | {"epochs": 2}}[key]
    text = yaml.safe_dump(values)
    digits = hashlib.sha256(f"{text}{data_sha}".encode()).hexdigest()[:8]
    folder = tmp_path / "runs" / f"{planned.name}-{digits}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(text)
    assert (run_folder(tmp_path, planned, data_sha) == folder) == found
    assert run_folder(tmp_path, planned, "of other data") != folder


def test_more_seeds_go_into_the_same_folder(whole, plan_file, inputs):
    chosen = choose(load_plan(plan_file, seeds=3), inputs, whole[0], ["ce"])
    assert [one.finished for one in chosen] == [True, True, False]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jobs": 0}, "--jobs 0: must be at least 1"),
        ({"launcher": "slurm"}, "--launcher 'slurm' is unknown; allowed: local, ray"),
        ({"only": ["bec"]}, "losses has no variant 'bec'; did you mean 'bce'"),
        ({"only_seeds": [7]}, "losses has no seed 7; it has 0, 1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(plan, inputs, tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        run_plan(plan, inputs, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_ray_that_is_not_installed_is_refused_with_what_to_install(plan, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("dethead.ablation.runner.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"Ray is not installed; pip install dethead\[ray\]"):
        run_plan(plan, inputs, tmp_path / "out", launcher="ray")


# --- locks and states


def hold(folder: str, ready) -> None:
    with locked(Path(folder), "2026-01-01T00:00:00+00:00"):
        ready.set()
        time.sleep(PATIENCE)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a run folder."""
    from multiprocessing import get_context

    context = get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(PATIENCE)
    yield process
    process.kill()
    process.join()


def test_a_run_that_a_process_is_training_is_refused_by_its_name(tmp_path, holder):
    said = rf"is being trained by process {holder.pid} on .* since 2026-01-01T00:00:00"
    with pytest.raises(LockError, match=said), locked(tmp_path, "now"):
        pass


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path, holder):
    write_status(tmp_path, Status("running", None, holder.pid))
    assert read_status(tmp_path).state == "running"
    holder.kill()
    holder.join()
    assert read_status(tmp_path).state == "stopped"
    with locked(tmp_path, "now"):
        pass


def test_a_lock_that_another_machine_left_is_not_taken(tmp_path):
    (tmp_path / "run.lock").write_text('{"pid": 7, "host": "elsewhere", "started": "then"}')
    with (
        pytest.raises(LockError, match=r"process 7 on elsewhere since then; .* remove .*run\.lock"),
        locked(tmp_path, ""),
    ):
        pass


def test_a_process_that_died_before_it_could_speak_is_a_failure_with_its_last_words(tmp_path):
    (tmp_path / "output.txt").write_text("ModuleNotFoundError: No module named 'mine'\n")
    status = ended_status(tmp_path, 1)
    assert status.error == (
        "its process ended with status 1; it last said: ModuleNotFoundError: No module named 'mine'"
    )
    assert read_status(tmp_path) == status


def test_a_run_that_another_process_holds_keeps_that_process_s_status(tmp_path):
    write_status(tmp_path, Status("running", None, 7))
    before = (tmp_path / "status.json").read_bytes()
    assert ended_status(tmp_path, 75).state == "failed"
    assert (tmp_path / "status.json").read_bytes() == before


def test_a_run_that_another_command_began_meanwhile_keeps_its_status(plan, tmp_path, holder):
    class Refused:
        def poll(self):
            return 75

    class Starter:
        slots = 1

        def start(self, job, slot):
            return Refused()

    write_status(tmp_path, Status("running", None, holder.pid))
    one = Chosen(plan.runs()[0], tmp_path, False)
    outcome = _Round(Starter(), [(one, None)], Board([(one.planned, tmp_path)], 1)).run()
    assert [failed.name for failed in outcome.failed] == ["ce-seed0"]
    assert read_status(tmp_path).state == "running"


# --- the command line


@pytest.fixture
def ablate(plan_file, tiny_data, capsys, monkeypatch):
    """``dethead ablate``; the report is other tests' matter."""
    monkeypatch.setattr("dethead.cli.ablation.report", lambda out: print(f"report of {out}"))

    def run(out: Path, *more: str) -> tuple[int, str, str]:
        cpu = ["--device", "cpu", "--workers", "0", "--threads", "1"]
        with pytest.raises(SystemExit) as end:
            main(["ablate", str(plan_file), "--data", str(tiny_data), "--out", str(out), *cpu, *more])
        return int(end.value.code or 0), *capsys.readouterr()

    return run


def test_a_dry_run_shows_plan_and_estimate_and_writes_nothing(ablate, tmp_path):
    status, said, _ = ablate(tmp_path / "out", "--dry-run", "--only", "ce,bce", "--only-seeds", "1")
    assert status == 0
    assert 'class_scheme: {"name": "sigmoid_bce"}' in said
    assert "runs/ce-seed1-" in said
    assert "runs/ce-seed0-" not in said
    assert "to train: 2 runs, about " in said
    assert not (tmp_path / "out").exists()


def test_what_is_estimated_is_what_is_run(ablate, tmp_path, monkeypatch):
    asked = {}

    def run_plan(*_, **options):
        asked.update(options)
        return Outcome(0, (), True)

    monkeypatch.setattr("dethead.ablation.runner.run_plan", run_plan)
    monkeypatch.setattr("dethead.ablation.runner.cores", lambda: 12)
    _, said, _ = ablate(tmp_path / "out", "--jobs", "50", "--threads", "2")
    assert " with 6 jobs, " in said  # of 3 variants, 2 seeds
    assert "on 2 CPU threads" in said
    assert (asked["jobs"], asked["threads"]) == (6, 2)
    assert share_threads("local", None, asked["jobs"]) == 2


def test_the_command_ends_in_the_report_and_with_status_1_where_a_run_failed(whole, ablate, forked):
    out, _ = whole
    assert ablate(out, "--only", "ce,bce") == (0, ANY, "")
    status, said, err = ablate(out, "--only-seeds", "0")
    assert status == 1
    assert "2 of 3 runs are finished" in said
    assert f"report of {out}" in said
    assert "dethead: broken-seed0 failed: FloatingPointError" in err
    assert str(only_run(out, "broken-seed0") / "output.txt") in err


def test_an_interrupted_command_says_how_to_go_on(ablate, tmp_path, monkeypatch):
    monkeypatch.setattr("dethead.ablation.runner.run_plan", lambda *_, **__: Outcome(0, (), True))
    status, said, err = ablate(tmp_path / "out", "--only", "ce", "--only-seeds", "0")
    assert status == 130
    assert err == "dethead: stopped; all is saved, and the same command goes on\n"
    assert "report of" not in said


# --- the machine is shared out


def test_jobs_share_threads_and_gpus(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(launchers, "start_worker", lambda job, env: seen.append(env))
    launcher = launchers.LocalLauncher(3, ("4", "6"))
    for slot in range(3):
        launcher.start(launchers.Job(str(tmp_path), "", 1), slot)
    assert [env["CUDA_VISIBLE_DEVICES"] for env in seen] == ["4", "6", "4"]


def test_a_process_is_born_with_its_threads(monkeypatch, tmp_path):
    born = {}

    class Popen:
        stdin = open(os.devnull, "wb")  # noqa: SIM115

        def __init__(self, command, env, **rest):
            born.update(env)

    monkeypatch.setattr(launchers.subprocess, "Popen", Popen)
    launchers.start_worker(launchers.Job(str(tmp_path), "{}", 3))
    assert {born[name] for name in launchers.THREAD_VARIABLES} == {"3"}
