"""Runs on a real Ray cluster of two machines' worth of workers, all of them here."""

import json
import os
from pathlib import Path

import pytest
from tiny_runs import CONFIG, train_tiny

from dethead.ablation.plan import load_plan
from dethead.ablation.runner import run_plan
from dethead.ablation.status import read_status
from dethead.training import Inputs

ray = pytest.importorskip("ray", reason="needs Ray: pip install dethead[ray]")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    tests = Path(CONFIG).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
        )
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            made.add_node(num_cpus=1)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


def test_runs_on_a_cluster_of_two_workers_come_to_the_numbers_of_this_process(cluster, tiny_data, tmp_path):
    path = tmp_path / "losses.yaml"
    path.write_text(
        f"base: {CONFIG}\nbaseline: ce\nseeds: 1\n"
        "variants:\n  ce: {}\n  bce: {class_scheme: {name: sigmoid_bce}}\n"
        "  broken: {training.optimizer.lr: 1.0e+30}\n"
    )
    out = tmp_path / "out"
    plan = load_plan(path)
    outcome = run_plan(plan, Inputs.find(tiny_data, device="cpu"), out, launcher="ray", threads=1)
    assert (outcome.finished, [one.name for one in outcome.failed]) == (2, ["broken-seed0"])
    (folder,) = (out / "runs").glob("ce-seed0-*")
    train_tiny(tiny_data, tmp_path / "here")
    here, there = (
        json.loads((one / "metrics.json").read_text())["last"] for one in (tmp_path / "here", folder)
    )
    assert there == here
    assert read_status(folder).state == "finished"
