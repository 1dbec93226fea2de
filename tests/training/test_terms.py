"""Loss terms beside class, confidence and box, in a whole training: logged, scored, resumed."""

from unittest.mock import patch

import pytest
import torch
from tiny_runs import log_lines, tensors, train_tiny, weights

from dethead.config import ConfigError
from dethead.training.loop import Trainer

ONE = ("training.epochs=1",)


def test_an_embedding_branch_is_trained_and_logged(tiny_data, tmp_path):
    options = ("head.embedding_channels=4", "loss.embedding={weight: 0.5, kind: triplet, mining: hardest}")
    train_tiny(tiny_data, tmp_path / "run", *ONE, *options)
    lines = [line for line in log_lines(tmp_path / "run") if "val" not in line]
    assert all(line["embedding"] > 0 for line in lines)
    total = sum(lines[0][name] for name in ("classification", "confidence", "box", "embedding"))
    assert lines[0]["total"] == pytest.approx(total, rel=1e-5)
    assert log_lines(tmp_path / "run")[-1]["val"]["embedding"] >= 0


def test_the_penalty_of_class_weights_is_logged_and_shrinks_them(tiny_data, tmp_path):
    rows = []
    for strength in (0.0, 1.0):
        out = tmp_path / str(strength)
        train_tiny(tiny_data, out, *ONE, f"loss.class_l2={strength}")
        model = torch.load(out / "checkpoints" / "last.pt", weights_only=True)["model"]
        weight = model["head.prediction.weight"]
        rows.append(weight.reshape(-1, 8, *weight.shape[1:])[:, :3].square().sum().item())
    assert rows[1] < rows[0]
    assert all(line["class_l2"] > 0 for line in log_lines(out) if "val" not in line)


def test_what_pulled_and_pushed_each_class_is_logged(tiny_run):
    for line in log_lines(tiny_run):
        if "val" not in line:
            assert line["class_gradient"].keys() == {"car", "pedestrian", "truck"}
            assert all(g["up"] >= 0 and g["down"] >= 0 for g in line["class_gradient"].values())


def test_a_student_follows_a_teacher(tiny_data, tiny_run, tmp_path):
    options = (*ONE, "loss.distillation={weight: 2.0, temperature: 2.0}")
    train_tiny(tiny_data, tmp_path / "run", *options, teacher=tiny_run)
    lines = log_lines(tmp_path / "run")
    assert all(line["distillation"] > 0 for line in lines if "val" not in line)
    assert lines[-1]["val"]["distillation"] > 0


def test_distillation_without_teacher_and_teacher_without_distillation_are_refused(
    tiny_data, tiny_run, tmp_path
):
    with pytest.raises(
        ConfigError, match=r"loss\.distillation needs a teacher: give a finished run with --teacher"
    ):
        train_tiny(tiny_data, tmp_path / "run", "loss.distillation={weight: 1.0}")
    with pytest.raises(ConfigError, match=r"--teacher .* is given, but the config has no loss\.distillation"):
        train_tiny(tiny_data, tmp_path / "run", teacher=tiny_run)


def test_a_teacher_of_other_classes_or_anchors_is_refused(tiny_data, tiny_run, tmp_path):
    distil = "loss.distillation={weight: 1.0}"
    with pytest.raises(
        ConfigError, match="the teacher knows the classes car, pedestrian, truck, this run has car"
    ):
        train_tiny(tiny_data, tmp_path / "run", distil, "data.classes=[car, truck]", teacher=tiny_run)
    with pytest.raises(ConfigError, match=r"the teacher's anchors .* are not"):
        train_tiny(tiny_data, tmp_path / "run", distil, "anchors.sizes=[20]", teacher=tiny_run)
    with pytest.raises(ConfigError, match=r"the teacher's anchors .* are not"):
        train_tiny(tiny_data, tmp_path / "run", distil, "backbone.enlarge=1.5", teacher=tiny_run)


@pytest.mark.parametrize(
    "scheme",
    ["{name: sigmoid_bce}", "{name: ldam, max_margin: 0.5, scale: 30.0}", "{name: kl, temperature: 2.0}"],
)
def test_a_teacher_whose_logits_mean_something_else_is_refused(tiny_data, tiny_run, tmp_path, scheme):
    options = ("loss.distillation={weight: 1.0}", f"class_scheme={scheme}")
    with pytest.raises(ConfigError, match="'softmax_ce' makes other probabilities of the same logits than"):
        train_tiny(tiny_data, tmp_path / "run", *options, teacher=tiny_run)


def test_the_validation_loss_penalises_the_weights_that_are_validated(tiny_data, tmp_path):
    out = tmp_path / "run"
    train_tiny(tiny_data, out, *ONE, "loss.class_l2=1.0")  # with an average of the weights
    weight = weights(out, "best")["head.prediction.weight"]
    penalty = weight.reshape(-1, 8, *weight.shape[1:])[:, :3].square().sum().item()
    assert log_lines(out)[-1]["val"]["class_l2"] == pytest.approx(penalty, rel=1e-5)


@pytest.mark.parametrize("scheme", ["{name: seesaw}", "{name: equalization}"])
def test_what_a_scheme_has_seen_survives_a_resume(tiny_data, tmp_path, scheme):
    options = (f"class_scheme={scheme}", "loss.class_term.normaliser={name: running_positives}")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_tiny(tiny_data, whole, *options)
    step = Trainer._step

    def until_the_second_epoch(self, batches):
        if self.step == 3:
            raise RuntimeError("the lights went out")
        step(self, batches)

    with patch.object(Trainer, "_step", until_the_second_epoch), pytest.raises(RuntimeError, match="lights"):
        train_tiny(tiny_data, cut, *options)
    train_tiny(tiny_data, cut, *options, resume=True)
    one, two = (tensors(out / "checkpoints" / "last.pt") for out in (cut, whole))
    assert two["/running/positives"].sum() > 0
    assert two["/running/no_gradient"].sum() > 0
    assert two["/running/mean_positives"] < 100
    for key in one.keys() - {"/seconds"}:
        same = torch.equal(one[key], two[key]) if isinstance(one[key], torch.Tensor) else one[key] == two[key]
        assert same, key
