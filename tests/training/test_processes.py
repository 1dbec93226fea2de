"""Several processes do what one does. Two on the CPU stand for GPUs and nodes: the code is the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import CONFIG, start, train_tiny, weights

TOOLS = Path(__file__).parents[2] / "tools"
# GroupNorm and SGD, whose step is the gradient: nothing hides a difference. 2 steps of 4 images.
OVERRIDES = (
    "training.epochs=1",
    "training.optimizer={name: sgd, lr: 0.1}",
    "training.schedule.warmup_steps=0",
)
ON_THE_CPU = ("--device", "cpu", "--workers", "0", "--threads", "1")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--main_process_port", "0")


def launch(*arguments: str) -> str:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(CONFIG.parent), str(TOOLS.parent)]),
    }
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def train_arguments(data: Path, out: Path) -> list[str]:
    return [str(CONFIG), *OVERRIDES, "--data", str(data), "--out", str(out), *ON_THE_CPU]


def together(arguments: list[str], folder: Path, port: str) -> list[str]:
    """Start both processes by hand, as torchrun does; gives what each printed."""
    environment = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    logs = [folder / f"process{rank}.txt" for rank in (0, 1)]
    started = [
        start(arguments, log, RANK=str(rank), LOCAL_RANK=str(rank), **environment)
        for rank, log in enumerate(logs)
    ]
    for process in started:
        process.join(120)
        if process.is_alive():
            process.kill()
    said = [log.read_text() for log in logs]
    assert [process.exitcode for process in started] == [0, 0], said
    return said


@pytest.fixture(scope="module")
def one_process(tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    train_tiny(tiny_data, out, *OVERRIDES)
    return out


def assert_same_weights(found: Path, wanted: Path) -> None:
    one, two = weights(wanted), weights(found)
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=0, atol=1e-6)


def test_torchrun_on_two_processes_gives_the_weights_of_one(tiny_data, one_process, tmp_path):
    said = launch(*TORCHRUN, str(TOOLS / "train.py"), *train_arguments(tiny_data, tmp_path / "run"))
    assert "2 steps of 4 images on 2 x cpu" in said
    assert said.count("epoch 1/1") == 1  # one of the two speaks
    assert_same_weights(tmp_path / "run", one_process)
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow  # the same again by another launcher
def test_accelerate_launch_on_two_processes_gives_the_weights_of_one(tiny_data, one_process, tmp_path):
    said = launch(*ACCELERATE, str(TOOLS / "train.py"), *train_arguments(tiny_data, tmp_path / "run"))
    assert "on 2 x cpu" in said
    assert_same_weights(tmp_path / "run", one_process)


def test_two_processes_evaluate_like_one(tiny_data, tiny_run, tmp_path):
    arguments = ["evaluate", str(tiny_run), "--data", str(tiny_data), "--split", "train", "--batch-size", "3"]
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    alone = start([*arguments, *ON_THE_CPU, "--json", str(files[0])], tmp_path / "alone.txt")
    together([*arguments, *ON_THE_CPU, "--json", str(files[1])], tmp_path, port="29613")
    alone.join(120)
    one, two = (json.loads(path.read_text()) for path in files)
    assert one["AP"] > 0
    assert one == two


def test_accumulated_steps_of_two_processes_give_the_weights_of_one(tiny_data, one_process, tmp_path):
    arguments = ["train", *train_arguments(tiny_data, tmp_path / "run"), "training.accumulate=2"]
    together(arguments, tmp_path, port="29614")
    assert_same_weights(tmp_path / "run", one_process)
