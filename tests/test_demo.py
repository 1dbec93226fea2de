"""``make demo``'s path, on a tiny size."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY = ["data.image_size=[64,96]", "training.epochs=1", "training.batch_size=4", "neck.channels=16"]


def test_demo_draws_trains_both_heads_and_reports_both(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "tools" / "demo.py"),
        str(tmp_path / "demo"),
        "--images",
        "16",
        *TINY,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "demo" / "results.md").read_text()
    assert table.strip() in done.stdout
    for title, name in (("softmax CE", "scenes_softmax_ce"), ("sigmoid BCE", "scenes_sigmoid_bce")):
        folder = tmp_path / "demo" / name
        best = json.loads((folder / "metrics.json").read_text())["best"]
        row = re.search(rf"\| {title} \| ([\d.]+) \|", table)
        assert row is not None
        assert float(row[1]) == round(100 * best["AP"], 1)
        assert (folder / "curves.png").stat().st_size > 1000
        assert len(list((folder / "examples").glob("*.jpg"))) == 4
