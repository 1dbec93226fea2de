"""Every class scheme, with settings that work, learns what it is shown: drawn rectangles, and photographs."""

import json

import pytest
from test_overfit import OVERRIDES as BY_HEART
from tiny_runs import log_lines, train_tiny, write_data

from dethead import config
from dethead.build import CLASS_SCHEMES
from dethead.data import Split
from dethead.training import Inputs, train

SETTINGS = {
    "softmax_ce": "",
    "sigmoid_bce": "",
    "multilabel_softmax": "",
    "focal": "alpha: 0.25, gamma: 2.0",
    "softmax_focal": "gamma: 2.0",
    "quality_focal": "beta: 2.0",
    "varifocal": "alpha: 0.75, gamma: 2.0",
    "asymmetric": "gamma_pos: 0.0, gamma_neg: 2.0",
    "ghm": "bins: 30",
    "poly1": "epsilon: 1.0",
    "softmax_poly1": "epsilon: 1.0",
    "hinge": "margin: 2.0",
    "margin_ranking": "margin: 2.0",
    "kl": "temperature: 1.0",
    "brier": "",
    "softmax_brier": "",
    "seesaw": "",
    "equalization": "",
    "logit_adjustment": "tau: 1.0",
    "balanced_softmax": "",
    "ldam": "max_margin: 0.5",
}
"""The table of docs/schemes.md is made of these."""
TOY = (
    "data.augment={photometric: 0.0, zoom_out: 0.0, iou_crop: 0.0, flip: 0.0}",
    "anchors={sizes: [24], ratios: [0.7, 1.0, 1.4]}",
    "assigner.negative_iou=0.5",
    "training.epochs=60",
    "training.ema=null",
    "training.validate_every=60",
)
IMAGES = 32
PHOTOGRAPHS = (*BY_HEART, "data.image_size=[224, 224]", "training.epochs=80", "training.validate_every=80")
"""Small photographs, since it is a question of learning at all, 21 times; four images a step."""
SLOWER = ("softmax_focal", "seesaw", "equalization")
"""At the learning rate of the others these three stop at AP50 0.85 to 0.87."""


def test_every_scheme_of_the_name_table_is_here():
    assert SETTINGS.keys() == CLASS_SCHEMES.keys()


def section(name: str) -> str:
    return f"class_scheme={{name: {name}{', ' if SETTINGS[name] else ''}{SETTINGS[name]}}}"


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_scheme_learns_three_classes_of_rectangles(name, tmp_path):
    data = write_data(tmp_path / "data", train_images=16)
    annotations = data / "annotations"
    (annotations / "instances_val.json").write_text((annotations / "instances_train.json").read_text())
    report = train_tiny(data, tmp_path / "run", *TOY, section(name))
    lines = [line["total"] for line in log_lines(tmp_path / "run") if "val" not in line]
    print(f"{name}: loss {lines[0]:.2f} -> {lines[-1]:.2f}, AP50 {report['last']['AP50']:.3f}")
    assert lines[-1] < lines[0] / 2
    assert report["last"]["AP50"] > 0.9


@pytest.fixture
def photographs(shared_folder, tmp_path) -> Split:
    """The first 32 photographs with objects of the road set, which is both training and validation set."""
    road = shared_folder / "data" / "road"
    content = json.loads((road / "annotations" / "instances_train.json").read_text())
    chosen = sorted({one["image_id"] for one in content["annotations"]})[:IMAGES]
    content["images"] = [one for one in content["images"] if one["id"] in chosen]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in chosen]
    (tmp_path / "some.json").write_text(json.dumps(content))
    return Split(tmp_path / "some.json", road / "images")


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", SETTINGS)
def test_a_scheme_learns_32_photographs(name, photographs, shared_folder, tmp_path):
    weights = shared_folder / "weights" / "efficientnet-lite0-57934424.pth"
    inputs = Inputs(train=photographs, val=photographs, weights=weights, device="cpu")
    rate = ("training.optimizer={name: adamw, lr: 1.0e-3, weight_decay: 0.0}",) if name in SLOWER else ()
    run = config.load("road_softmax_ce", (*PHOTOGRAPHS, *rate, section(name)))
    report = train(run, inputs, tmp_path / "run")
    lines = [line["total"] for line in log_lines(tmp_path / "run") if "val" not in line]
    print(f"{name}: loss {lines[0]:.2f} -> {lines[-1]:.2f}, AP50 {report['last']['AP50']:.3f}")
    assert lines[-1] < lines[0] / 2
    assert report["last"]["AP50"] > 0.9
