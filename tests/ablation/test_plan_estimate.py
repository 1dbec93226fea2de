"""Time and disk of an ablation: what is measured, what is worked out of it, and that nothing is left."""

import tempfile
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from plans import plan_of

from dethead.ablation import estimate as module
from dethead.ablation.estimate import START_SECONDS, Cost, Estimate, estimate
from dethead.ablation.preflight import preflight
from dethead.training import Inputs
from dethead.training.loop import Trainer

COST = Cost(read_seconds=2.0, step_seconds=5.0, image_seconds=0.5, checkpoint_bytes=10_000_000)
ALONE = START_SECONDS + 4 * (2 + 5) + 2 * 4 * 0.5
"""Seconds of a run of tiny.yaml at that cost: 4 steps, and 4 images to validate after each of 2 epochs."""
TWO = "{a: {}, b: {class_scheme: {name: sigmoid_bce}}}"


@pytest.fixture
def inputs(tiny_data):
    return Inputs.find(tiny_data, device="cpu")


@pytest.fixture
def measured(monkeypatch) -> list[Trainer]:
    """The trainers that were measured; all cost the same."""
    trainers: list[Trainer] = []
    monkeypatch.setattr(module, "_measure", lambda trainer: trainers.append(trainer) or COST)
    return trainers


def test_a_run_costs_its_steps_its_validations_and_its_start(tmp_path, inputs, measured):
    found = estimate(plan_of(tmp_path, TWO), inputs)
    assert found.run_seconds == {"a": ALONE, "b": ALONE}
    assert (found.runs, found.seconds) == (4, 4 * ALONE)


def test_processes_that_read_ahead_hide_the_shorter_of_reading_and_training(tmp_path, tiny_data, measured):
    plan = plan_of(tmp_path, TWO)
    of = {n: estimate(plan, Inputs.find(tiny_data, device="cpu", workers=n)).run_seconds["a"] for n in (1, 2)}
    assert of == {1: ALONE - 4 * 2, 2: ALONE - 4 * 2}  # the step takes longer than the reading


def test_a_validation_comes_after_each_so_many_epochs_and_after_the_last(tmp_path, inputs, measured):
    changes = "{training.epochs: 5, training.validate_every: 2}"
    found = estimate(plan_of(tmp_path, TWO, changes), inputs)
    assert found.run_seconds["a"] == START_SECONDS + 10 * 7 + 3 * 4 * 0.5


@pytest.mark.parametrize(("jobs", "rounds"), [(1, 6), (2, 3), (4, 2), (6, 1), (9, 1)])
def test_a_run_starts_when_a_place_is_free(jobs, rounds, tmp_path, inputs, measured):
    found = estimate(plan_of(tmp_path, TWO, seeds="3"), inputs, jobs)
    assert found.seconds == pytest.approx(rounds * ALONE)


@pytest.mark.parametrize(("device", "rounds"), [("cuda", 2), ("auto", 2), ("cuda:1", 4)])
def test_runs_that_share_a_gpu_share_its_time(device, rounds, tmp_path, inputs, measured, monkeypatch):
    plan = plan_of(tmp_path, TWO)
    ready = preflight(plan, inputs)
    monkeypatch.setattr(module, "is_cpu", lambda _: False)
    monkeypatch.setattr(module, "trial", lambda *_: nullcontext())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = estimate(plan, replace(inputs, device=device), 4, ready=ready)
    assert found.seconds == pytest.approx(rounds * ALONE)


def test_only_what_is_left_is_counted(tmp_path, inputs, measured):
    plan = plan_of(tmp_path, TWO)
    found = estimate(plan, inputs, runs=plan.runs()[3:])
    assert (found.runs, found.seconds, [*found.run_seconds]) == (1, ALONE, ["b"])
    nothing = estimate(plan, inputs, runs=())
    assert (nothing.runs, nothing.seconds, nothing.bytes) == (0, 0.0, 0)


def test_disk_is_checkpoints_and_detections_of_all_runs(tmp_path, inputs, measured):
    found = estimate(plan_of(tmp_path, TWO), inputs)
    each = 10_000_000 + 4 * 300 * module.DETECTION_BYTES + module.OTHER_BYTES  # 300 at most an image
    assert found.bytes == 4 * each


@pytest.mark.parametrize(
    ("variant", "kinds"),
    [
        ("class_scheme: {name: focal, alpha: 0.25, gamma: 2.0}", 1),
        ("training.optimizer.lr: 0.5, loss.class_term.weight: 3.0, training.epochs: 9", 1),
        ("data.sampler: {name: class_aware}, postprocess.fusion: class_only", 1),
        ("assigner: {name: sim_ota}", 2),
        ("data.image_size: [32, 32]", 2),
        ("training.ema: null", 2),
        ("training.batch_size: 2", 2),
    ],
)
def test_variants_that_cost_the_same_are_measured_once(variant, kinds, tmp_path, inputs, measured):
    estimate(plan_of(tmp_path, f"{{a: {{}}, b: {{{variant}}}}}"), inputs)
    assert len(measured) == kinds


def test_a_scheme_on_all_anchors_is_measured_by_itself(tmp_path, inputs, measured):
    changes = "{class_scheme: {name: sigmoid_bce}, loss.class_on: all}"
    estimate(plan_of(tmp_path, "{a: {}, b: {class_scheme: {name: ghm}}}", changes), inputs)
    assert len(measured) == 2


def test_the_probe_leaves_nothing_behind(tmp_path, inputs, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    found = estimate(plan_of(tmp_path, TWO), inputs, 2)
    assert [*folder.iterdir()] == []
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert found.seconds > 2 * START_SECONDS


def test_the_checkpoints_of_a_run_have_the_size_that_was_measured(tmp_path, inputs, tiny_run):
    found = estimate(plan_of(tmp_path, TWO), inputs)
    rows = 4 * 300 * module.DETECTION_BYTES
    checkpoints = found.bytes / found.runs - rows - module.OTHER_BYTES
    real = sum((tiny_run / "checkpoints" / name).stat().st_size for name in ("last.pt", "best.pt"))
    assert checkpoints == pytest.approx(real, rel=0.2)  # so small that names and numbers of a file count


@pytest.mark.parametrize(
    ("runs", "jobs", "seconds", "size", "words"),
    [
        (12, 2, 11_400, 1_234_567_890, "12 runs, about 3 h 10 min with 2 jobs, 1.2 GB"),
        (1, 1, 61, 999_600, "1 run, about 1 min 01 s with 1 job, 1.0 MB"),
        (2, 1, 0, 123_400_000_000_000, "2 runs, about 0 min 00 s with 1 job, 123400 GB"),
        (2, 1, 0, 99_940, "2 runs, about 0 min 00 s with 1 job, 99.9 kB"),
        (2, 1, 0, 99_960, "2 runs, about 0 min 00 s with 1 job, 100 kB"),
    ],
)
def test_it_is_said_in_a_line(runs, jobs, seconds, size, words):
    assert Estimate(runs, jobs, seconds, size, {}, ()).words() == words
