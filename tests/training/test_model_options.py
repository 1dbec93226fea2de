"""Necks and heads beside the plain ones, in a whole training."""

import math

from tiny_runs import log_lines, train_tiny, weights

OPTIONS = (
    "training.epochs=1",
    "neck={channels: 16, separable: true, norm: batch}",
    "head={depth: 1, norm: batch, towers: decoupled, level_norm: per_level, box_scale: true}",
)


def test_a_head_with_every_option_trains_and_is_scored(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", *OPTIONS, "loss.class_l2=0.01")
    assert all(math.isfinite(line["total"]) for line in log_lines(tmp_path / "run") if "val" not in line)
    state = weights(tmp_path / "run")
    assert state["head.box_factors"].item() != 1
    assert state["head.box_tower.0.1.0.running_mean"].any()
    assert state["backbone.merge.layer_blocks.0.1.running_mean"].any()
