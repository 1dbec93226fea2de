"""Several processes do what one does. Two on the CPU stand for GPUs and nodes: the code is the same."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from tiny_runs import CONFIG, log_lines, start, train_tiny, weights

TOOLS = Path(__file__).parents[2] / "tools"
# GroupNorm and SGD, whose step is the gradient: nothing hides a difference. 2 steps of 4 images.
OVERRIDES = (
    "training.epochs=1",
    "training.optimizer={name: sgd, lr: 0.1}",
    "training.schedule.warmup_steps=0",
)
ON_THE_CPU = ("--device", "cpu", "--workers", "0", "--threads", "1")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# As for two GPUs: Accelerate's own --cpu starts several processes through MPI alone.
ACCELERATE = (
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--mixed_precision",
    "no",
)


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


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_two(arguments: list[str], folder: Path, port: int) -> list[BaseProcess]:
    """Start both processes by hand, as torchrun does; their output is in process0.txt and process1.txt."""
    environment = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    environment["MASTER_PORT"] = str(port)
    return [
        start(arguments, folder / f"process{rank}.txt", RANK=str(rank), LOCAL_RANK=str(rank), **environment)
        for rank in (0, 1)
    ]


def wait_for(processes: list[BaseProcess], folder: Path, status: int) -> None:
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
    said = [(folder / f"process{rank}.txt").read_text() for rank in (0, 1)]
    assert [process.exitcode for process in processes] == [status, status], said


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
    two = start_two([*arguments, *ON_THE_CPU, "--json", str(files[1])], tmp_path, free_port())
    wait_for(two, tmp_path, 0)
    alone.join(120)
    found, wanted = (json.loads(path.read_text()) for path in files)
    assert found["AP"] > 0
    assert found == wanted


def test_accumulated_steps_of_two_processes_give_the_weights_of_one(tiny_data, one_process, tmp_path):
    arguments = ["train", *train_arguments(tiny_data, tmp_path / "run"), "training.accumulate=2"]
    wait_for(start_two(arguments, tmp_path, free_port()), tmp_path, 0)
    assert_same_weights(tmp_path / "run", one_process)
    # what pulled and pushed the classes is that of one process, too
    two, one = (log_lines(out)[0]["class_gradient"] for out in (tmp_path / "run", one_process))
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=1e-4)


def test_a_wish_to_stop_that_one_process_hears_stops_both_at_the_same_step(tiny_data, tmp_path):
    out = tmp_path / "run"
    slow = ("training.epochs=20", "backbone.options={delay: 0.05}")
    both = start_two(["train", *train_arguments(tiny_data, out), *slow], tmp_path, free_port())
    while not log_lines(out) and all(process.is_alive() for process in both):
        time.sleep(0.01)
    assert both[1].pid
    os.kill(both[1].pid, signal.SIGINT)
    wait_for(both, tmp_path, 130)
    said = [(tmp_path / f"process{rank}.txt").read_text().splitlines()[-1] for rank in (0, 1)]
    assert said[0].startswith("dethead: stopped at step")
    assert said[0].removeprefix("dethead: ") == said[1].removeprefix("dethead (process 1): ")
