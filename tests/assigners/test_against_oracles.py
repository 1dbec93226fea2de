"""Every new assigner against plain loops written from its paper, on random images."""

from functools import partial

import pytest
import torch
from assigners import oracles, scenes

from dethead.assigners import ATSSAssigner, CenterAssigner, SimOTAAssigner, TaskAlignedAssigner

CASES = {
    "atss": (ATSSAssigner(), oracles.atss),
    "atss-3": (ATSSAssigner(candidates_per_level=3), partial(oracles.atss, k=3)),
    "center": (CenterAssigner(), oracles.centers),
    "center-whole-box": (CenterAssigner(radius=None), partial(oracles.centers, radius=None)),
    "sim-ota-softmax": (SimOTAAssigner("softmax"), partial(oracles.sim_ota, kind="softmax")),
    "sim-ota-sigmoid": (SimOTAAssigner("sigmoid"), partial(oracles.sim_ota, kind="sigmoid")),
    "sim-ota-narrow": (
        SimOTAAssigner("sigmoid", center_radius=0.75, iou_weight=0.5, top_ious=25),
        partial(oracles.sim_ota, kind="sigmoid", radius=0.75, iou_weight=0.5, best=25),
    ),
    "sim-ota-square": (
        SimOTAAssigner("sigmoid", center_radius=1.5, center_only=True),
        partial(oracles.sim_ota, kind="sigmoid", radius=1.5, in_box=False),
    ),
    "sim-ota-sigmoid-of-classes": (
        SimOTAAssigner("sigmoid", use_confidence=False),
        partial(oracles.sim_ota, kind="sigmoid", confident=False),
    ),
    "sim-ota-softmax-of-classes": (
        SimOTAAssigner("softmax", use_confidence=False),
        partial(oracles.sim_ota, kind="softmax", confident=False),
    ),
    "task-aligned": (TaskAlignedAssigner(), oracles.task_aligned),
    "task-aligned-4": (
        TaskAlignedAssigner(top_k=4, alpha=0.5, beta=2.0),
        partial(oracles.task_aligned, k=4, alpha=0.5, beta=2.0),
    ),
    "task-aligned-of-classes": (
        TaskAlignedAssigner(use_confidence=False),
        partial(oracles.task_aligned, confident=False),
    ),
    "task-aligned-of-small-boxes": (
        TaskAlignedAssigner(min_side=1.5),
        partial(oracles.task_aligned, min_side=1.5),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_assignments_are_those_of_plain_loops_on_50_random_images(case, dtype):
    assigner, oracle = CASES[case]
    positives = 0
    for seed in range(50):
        scene = scenes.random_scene(seed)
        scene = scenes.in_float64(*scene) if dtype == "float64" else scene
        anchors, truth, predictions = scene
        seen = predictions if assigner.needs_predictions else None
        got = assigner(anchors, [truth], seen)
        wanted = oracle(oracles.Scene.of(anchors, truth, seen, 0))
        assert got.matched[0].tolist() == wanted.matched, f"seed {seed}"
        torch.testing.assert_close(got.overlaps[0], got.overlaps.new_tensor(wanted.overlaps))
        assert (got.quality is None) == (wanted.quality is None)
        if wanted.quality is not None:
            torch.testing.assert_close(got.quality[0], got.overlaps.new_tensor(wanted.quality))
        positives += sum(match >= 0 for match in wanted.matched)
    assert positives > 100  # the images are not empty of what is compared
