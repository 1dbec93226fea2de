"""Every config that comes with dethead: it loads, builds without a network, and has an honest twin."""

import math
from unittest.mock import patch

import pytest
from coco_tree import IDS, NAMES, write_coco_2017
from pycocotools.coco import COCO
from tiny_runs import log_lines

from dethead import build, config
from dethead.config.sections import Run
from dethead.training import Inputs, train

SHIPPED = [*config.shipped()]
PAIRS = sorted(name.removesuffix("_softmax_ce") for name in SHIPPED if name.endswith("_softmax_ce"))
MULTILABEL = ("road_multilabel", "road_multilabel_softmax")
COCO_CONFIGS = [name for name in SHIPPED if name.startswith("coco_")]
WITHOUT_NETWORK = "backbone.weights=null"


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return write_coco_2017(tmp_path_factory.mktemp("coco") / "coco")


def test_the_five_uses_are_shipped_each_as_a_pair():
    assert set(PAIRS) == {
        "coco_mobilenet_v3_large",
        "coco_resnet50",
        "coco_traffic",
        "road",
        "road_traffic",
        "scenes",
    }
    paired = {f"{name}_{scheme}" for name in PAIRS for scheme in ("softmax_ce", "sigmoid_bce")}
    assert set(SHIPPED) == paired | {*MULTILABEL}


@pytest.mark.parametrize("pair", PAIRS)
def test_twins_differ_in_the_class_scheme_alone(pair):
    first, second = (config.load(f"{pair}_{scheme}") for scheme in ("softmax_ce", "sigmoid_bce"))
    assert [key for key in Run.model_fields if getattr(first, key) != getattr(second, key)] == [
        "class_scheme"
    ]


def test_the_two_schemes_for_several_labels_are_twins_of_each_other_and_of_the_five_classes():
    several, softmax = map(config.load, MULTILABEL)
    five = config.load("road_sigmoid_bce")
    assert several.model_copy(update={"class_scheme": softmax.class_scheme}) == softmax
    assert several.model_copy(update={"data": five.data}) == five
    assert several.data.model_copy(update={"hierarchy": {}}) == five.data
    assert several.data.hierarchy == {"vehicle": ["bus", "car", "motorbike", "truck"]}
    assert not build.class_scheme(several).exclusive
    assert not build.class_scheme(softmax).exclusive


@pytest.mark.parametrize("pair", PAIRS)
def test_a_config_is_named_like_its_scheme(pair):
    for scheme in ("softmax_ce", "sigmoid_bce"):
        assert config.load(f"{pair}_{scheme}").class_scheme.name == scheme


@pytest.mark.parametrize("name", [*[name for name in SHIPPED if name.endswith("_softmax_ce")], *MULTILABEL])
def test_a_config_builds_without_a_network(name):
    run = config.load(name, [WITHOUT_NETWORK])
    classes = run.data.num_classes or 80
    detector = build.detector(run, classes)
    anchors = detector.anchors(run.data.image_size)
    assert detector.head.prediction.out_channels == detector.grid.anchors_per_cell * (classes + 5)
    assert len(anchors.levels) == len(run.anchors.sizes)
    build.criterion(run), build.assigner(run), build.postprocessor(run)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_input_size_is_a_multiple_of_the_backbones_last_stride(name):
    run = config.load(name)
    assert all(side % run.backbone.strides[-1] == 0 for side in run.data.image_size)


def test_the_tree_is_one_that_pycocotools_reads(coco):
    truth = COCO(coco / "annotations" / "instances_train2017.json")
    assert sorted(truth.getCatIds()) == IDS
    assert len(NAMES) == 80
    crowd = truth.loadAnns(truth.getAnnIds(iscrowd=True))[0]
    assert truth.annToMask(crowd).sum() == crowd["area"] == 20 * 25


@pytest.mark.parametrize("name", COCO_CONFIGS)
def test_a_coco_config_trains_two_steps_and_evaluates_on_a_tree_laid_out_as_coco(
    name, coco, tmp_path, capsys
):
    small = ["data.image_size=[64, 64]", "neck.channels=16", "head.width=16", "head.depth=1"]
    short = ["training.epochs=1", "training.batch_size=2", "training.log_every=1"]
    run = config.load(name, [WITHOUT_NETWORK, *small, *short])
    # The checkpoints of a ResNet-50 are 400 MB each, and tested elsewhere.
    with patch("dethead.training.checkpoint.save"), patch("dethead.training.loop.leave_pictures"):
        report = train(run, Inputs.find(coco, device="cpu"), tmp_path)
    said = capsys.readouterr().out
    assert "train: 4 images (1 without objects); " in said
    assert "ignore regions 1" in said
    assert [line["step"] for line in log_lines(tmp_path) if "val" not in line] == [1, 2]
    assert all(math.isfinite(line["total"]) for line in log_lines(tmp_path) if "val" not in line)
    assert report["last"]["AP"] is not None
    assert len(report["last"]["per_class"]) == (80 if run.data.classes is None else 3)
