"""The whole learns: eight real photographs by heart, with each class scheme."""

import json

import pytest
from tiny_runs import log_lines

from dethead import config
from dethead.data import Split
from dethead.training import Inputs, train

IMAGES, STEPS = 8, 320
# No augmentation and no average: what is seen is what is asked, and the last weights answer.
OVERRIDES = (
    "data.augment={photometric: 0.0, zoom_out: 0.0, iou_crop: 0.0, flip: 0.0}",
    "backbone.norm=frozen",
    "backbone.frozen_stages=0",
    "backbone.enlarge=1.0",
    "anchors.sizes=[24, 48, 96, 192]",
    'training.precision="no"',
    "loss.confidence_target=one",
    # Positives that do not depend on what is learnt: those of max-IoU, the rest as it goes with it.
    "head.towers=shared",
    "loss.box_term.weight=2.0",
    "loss.box_loss={name: smooth_l1, beta: 0.1}",
    "postprocess.suppression={name: nms}",
    "postprocess.fusion=product",
    # With three scales from 1 on one small car has no anchor of its own: all that overlap it overlap another
    # object more. What answers for nothing cannot be learnt.
    "anchors.scales=[0.5, 0.7, 1.0, 1.26, 1.59]",
    # Nor may an anchor be taught nothing: what it says of its own accord would be a false positive.
    "assigner={name: max_iou, positive_iou: 0.5, negative_iou: 0.5}",
    f"training.epochs={STEPS * 4 // IMAGES}",
    "training.batch_size=4",
    "training.optimizer={name: adamw, lr: 2.0e-3, weight_decay: 0.0}",
    "training.schedule={name: cosine, warmup_steps: 10}",
    "training.ema=null",
    "training.validate_every=40",
)


@pytest.fixture
def photographs(shared_folder, tmp_path) -> Split:
    """The first eight photographs with objects of the road set, which is both training and validation set."""
    content = json.loads(
        (shared_folder / "data" / "road" / "annotations" / "instances_train.json").read_text()
    )
    with_objects = {one["image_id"] for one in content["annotations"]}
    chosen = sorted(with_objects)[:IMAGES]
    content["images"] = [one for one in content["images"] if one["id"] in chosen]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in chosen]
    (tmp_path / "eight.json").write_text(json.dumps(content))
    return Split(tmp_path / "eight.json", shared_folder / "data" / "road" / "images")


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("scheme", ["softmax_ce", "sigmoid_bce"])
def test_eight_photographs_are_learnt_by_heart(scheme, photographs, shared_folder, tmp_path):
    weights = shared_folder / "weights" / "efficientnet-lite0-57934424.pth"
    inputs = Inputs(train=photographs, val=photographs, weights=weights, device="cpu")
    report = train(config.load(f"road_{scheme}", OVERRIDES), inputs, tmp_path / "run")
    lines = [line["total"] for line in log_lines(tmp_path / "run") if "val" not in line]
    assert lines[-1] < lines[0] / 10
    assert report["last"]["AP50"] == pytest.approx(1.0)
