"""The benchmark of losses on a GPU, in processes of its own: its folder has modules of the names of tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_losses.py"


def run(*arguments, **environ):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environ)


@pytest.mark.slow
def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path):
    done = run("--json", str(tmp_path / "rows.json"), CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert "measures on a CUDA device, and PyTorch finds none here" in done.stderr
    assert not (tmp_path / "rows.json").exists()


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_quick_run_tells_the_share_of_a_copy(tmp_path):
    done = run("--quick", "--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rows.json").is_file()
    assert "copy" in done.stdout
