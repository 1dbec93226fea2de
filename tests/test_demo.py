"""``make demo``'s path, on a tiny size."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY = ["data.image_size=[64,96]", "training.epochs=1", "training.batch_size=4", "neck.channels=16"]


def test_demo_draws_trains_both_heads_twice_and_reports_them(tmp_path):
    out = tmp_path / "demo" / "ablation"
    script = str(ROOT / "tools" / "demo.py")
    command = [sys.executable, script, str(tmp_path / "demo"), "--images", "32", *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (out / "report.md").read_text() in done.stdout
    assert "<html" in (out / "report.html").read_text()[:200]
    folders = sorted((out / "runs").iterdir())
    assert [one.name.rpartition("-")[0] for one in folders] == [
        "sigmoid_bce-seed0",
        "sigmoid_bce-seed1",
        "softmax_ce-seed0",
        "softmax_ce-seed1",
    ]
    for folder in folders:
        assert json.loads((folder / "metrics.json").read_text())["last"]["AP"] is not None
        assert (folder / "curves.png").stat().st_size > 1000
        assert len(list((folder / "examples").glob("*.jpg"))) == 8
