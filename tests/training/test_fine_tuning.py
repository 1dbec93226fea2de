"""Weights of a run on other classes: rows of the prediction layer move by class name."""

import pytest
import torch
from tiny_runs import load_run

from dethead import build
from dethead.training.fine_tuning import take_weights

BIAS, WEIGHT = "head.prediction.bias", "head.prediction.weight"
OLD, NEW = ("car", "person", "truck"), ("truck", "bus", "car", "van")


def detector(classes: int, *overrides: str, seed: int = 0) -> torch.nn.Module:
    return build.detector(load_run("data.classes=null", f"seed={seed}", *overrides), classes)


def rows(state, key: str, classes: int) -> torch.Tensor:
    """(anchor shapes, C + 5, ...)"""
    return state[key].reshape(-1, classes + 5, *state[key].shape[1:])


@pytest.mark.parametrize("key", [BIAS, WEIGHT])
def test_class_rows_move_by_name_and_the_others_as_they_are(key):
    two_shapes = "anchors.ratios=[0.5, 2.0]"
    old, new = detector(3, two_shapes, seed=1), detector(4, two_shapes)
    state = old.state_dict()
    state[BIAS].copy_(torch.arange(16.0))
    fresh = rows({k: v.clone() for k, v in new.state_dict().items()}, key, 4)
    take_weights(new, state, OLD, NEW)
    before, after = rows(state, key, 3), rows(new.state_dict(), key, 4)
    assert torch.equal(after[:, [0, 2]], before[:, [2, 0]])  # truck and car
    assert torch.equal(after[:, [1, 3]], fresh[:, [1, 3]])  # bus and van
    assert torch.equal(after[:, -5:], before[:, -5:])  # confidence and box


def test_everything_else_is_taken_whole():
    old, new = detector(3, seed=1).state_dict(), detector(4)
    taken = take_weights(new, old, OLD, NEW)
    state = new.state_dict()
    assert all(torch.equal(state[key], old[key]) for key in old if key not in (BIAS, WEIGHT))
    assert taken.tensors == len(old)
    assert (
        taken.describe() == f"{len(old)} tensors taken; class rows taken: truck, car; 0 tensors start fresh"
    )


@pytest.mark.parametrize("norm", ["shared", "per_level"])
def test_two_towers_start_as_the_one_of_the_other_run(norm):
    old = detector(3, f"head={{depth: 2, level_norm: {norm}}}", seed=1).eval()
    new = detector(3, f"head={{depth: 2, level_norm: {norm}, towers: decoupled}}").eval()
    taken = take_weights(new, old.state_dict(), OLD, OLD)
    images = torch.randint(256, (1, 3, 64, 64))
    assert taken.fresh == ()
    torch.testing.assert_close(new(images).raw, old(images).raw)


def test_what_does_not_fit_starts_fresh_and_is_named():
    old, new = detector(3, seed=1).state_dict(), detector(3, "anchors.ratios=[0.5, 2.0]")
    before = new.state_dict()[BIAS].clone()
    taken = take_weights(new, old, OLD, OLD)
    assert set(taken.fresh) == {WEIGHT, BIAS}
    assert taken.classes == ()
    assert "class rows taken: none; 2 tensors start fresh (head.prediction." in taken.describe()
    assert torch.equal(new.state_dict()[BIAS], before)
