"""A training whose batches have several sizes, and one of mosaics: the loop, micro-batches, and a resume."""

from unittest.mock import patch

import pytest
import torch
from test_resume import assert_same_run
from tiny_runs import load_run, log_lines, train_tiny, weights

from dethead.ablation.preflight import trial
from dethead.training import Inputs
from dethead.training.inputs import open_data
from dethead.training.loop import Interrupted, Trainer

SIZES = "data.multi_scale=[40, 88]"
MOSAICS = "data.augment={mosaic: 0.7, mixup: 0.5, jitter: [0.5, 1.5], last_epochs_plain: 1}"


def sizes_of_an_epoch(data, *overrides):
    run, inputs = load_run(*overrides), Inputs.find(data, device="cpu")
    with trial(run, inputs, open_data(run, inputs)) as trainer:
        return [tuple(batch.images.shape[2:]) for batch in trainer.loader], trainer.data.val[0, 0].image.shape


def test_each_batch_has_one_of_the_sizes_and_validation_its_own(tiny_data):
    sizes, val = sizes_of_an_epoch(tiny_data, SIZES, "training.batch_size=1")

    assert len({*sizes}) > 2
    assert {*sizes} <= {(side, side) for side in range(40, 89, 8)}
    assert val == (3, 64, 64)


@pytest.mark.parametrize("assigner", ["max_iou", "atss", "center", "sim_ota", "task_aligned"])
def test_every_assigner_trains_on_several_sizes(tiny_data, tmp_path, assigner):
    name = f"assigner={{name: {assigner}}}"
    report = train_tiny(tiny_data, tmp_path, SIZES, name, "training.batch_size=2", "training.epochs=1")

    assert report["last"]["step"] == 4
    assert all(line["total"] > 0 for line in log_lines(tmp_path) if "val" not in line)


def test_2_x_4_accumulated_images_of_several_sizes_move_the_weights_as_8(tiny_data, tmp_path):
    sgd = "training.optimizer={name: sgd, lr: 0.1}"
    step = ("training.epochs=3", "training.batch_size=8", sgd, "training.schedule.warmup_steps=0", SIZES)
    for name, accumulate in (("one", 1), ("two", 2)):
        train_tiny(tiny_data, tmp_path / name, *step, f"training.accumulate={accumulate}")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=1e-5)


def test_a_run_of_mosaics_and_sizes_that_was_stopped_ends_with_the_same_bits(tiny_data, tmp_path):
    options = (SIZES, MOSAICS, "training.batch_size=2", "training.epochs=3")
    train_tiny(tiny_data, tmp_path / "whole", *options)

    def ask_in_epoch_two(trainer, *arguments):
        trainer.asked = trainer.asked or trainer.step == 5
        return agree(trainer, *arguments)

    agree = Trainer._agree
    with (
        patch.object(Trainer, "_agree", ask_in_epoch_two),
        pytest.raises(Interrupted, match="at step 6 of 12"),
    ):
        train_tiny(tiny_data, tmp_path / "stopped", *options)
    train_tiny(tiny_data, tmp_path / "stopped", *options, resume=True)

    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_anchors_are_those_of_the_batch_and_the_run_s_own_where_it_has_one_size(tiny_data):
    run, inputs = load_run(), Inputs.find(tiny_data, device="cpu")
    with trial(run, inputs, open_data(run, inputs)) as trainer:
        batch = next(iter(trainer.loader))
        larger = batch._replace(images=torch.zeros(4, 3, 80, 96, dtype=torch.uint8))

        assert trainer._anchors(batch).boxes is trainer.anchors.boxes
        assert trainer._anchors(larger).cells == ((10, 12),)
