"""Suppression and thresholds by class in a config, and what is built of them."""

import pytest
import torch
from tiny_runs import load_run

from dethead import build, config
from dethead.config import ConfigError
from dethead.data import CocoSet
from dethead.postprocess import NMS, BoxVoting, SoftNMS
from dethead.training.by_class import resolve


def built(*overrides):
    return build.postprocessor(load_run(*overrides))


def test_without_the_keys_it_is_nms_and_one_threshold():
    post = built()
    assert (post.suppression, post.class_thresholds) == (NMS(), ())


@pytest.mark.parametrize(
    ("section", "wanted"),
    [
        ("{name: nms}", NMS()),
        ("{name: soft_nms}", SoftNMS(0.5)),
        ("{name: soft_nms, sigma: 0.3}", SoftNMS(0.3)),
        ("{name: box_voting}", BoxVoting(0.5, False)),
        ("{name: box_voting, overlap: 0.7, iou_weighted: true}", BoxVoting(0.7, True)),
        ("{name: box_voting, agreement: 3}", BoxVoting(0.5, False, 3.0)),
    ],
)
def test_a_section_builds_its_suppression(section, wanted):
    assert built(f"postprocess.suppression={section}").suppression == wanted


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("postprocess.suppression={name: softnms}", "unknown name 'softnms'; did you mean 'soft_nms'?"),
        ("postprocess.suppression={name: nms, sigma: 0.5}", "unknown key 'sigma'"),
        ("postprocess.suppression={name: soft_nms, sigma: 0.0}", "greater than 0, got 0.0"),
        ("postprocess.suppression={name: box_voting, overlap: 1.5}", "less than or equal to 1, got 1.5"),
        ("postprocess.suppression={name: box_voting, agreement: -1}", "greater than or equal to 0, got -1"),
        ("postprocess.class_thresholds=[0.5]", "postprocess.class_thresholds has 1 values for 3 classes"),
        ("postprocess.class_thresholds=[0.5, 0.2, 1.5]", "less than or equal to 1, got 1.5"),
    ],
)
def test_a_mistake_is_named(override, message):
    with pytest.raises(ConfigError) as said:
        load_run(override)
    assert message in str(said.value)


def test_thresholds_by_name_are_put_in_order_by_the_training_set(tiny_data):
    coco = CocoSet.read(tiny_data / "annotations" / "instances_train.json")
    run = load_run("postprocess.class_thresholds={truck: 0.5, car: 0.25}")
    with pytest.raises(ConfigError, match="must be put in the order of the labels first"):
        build.postprocessor(run)
    resolved = resolve(run, coco)
    assert build.postprocessor(resolved).class_thresholds == (0.25, 0.0, 0.5)
    again = config.check(resolved.model_dump(), "checkpoint")
    assert build.postprocessor(again).class_thresholds == (0.25, 0.0, 0.5)


def test_a_threshold_for_an_unknown_class_is_refused(tiny_data):
    coco = CocoSet.read(tiny_data / "annotations" / "instances_train.json")
    with pytest.raises(ConfigError, match=r"class_thresholds: unknown class 'trcuk'; did you mean 'truck'?"):
        resolve(load_run("postprocess.class_thresholds={trcuk: 0.5}"), coco)


def test_free_shapes_build_the_grid():
    run = load_run("anchors={shapes: [[[10, 13.5], [16, 30]]]}")
    grid = build.detector(run, 3).grid
    assert grid.strides == (8,)
    assert grid.shapes == (((10.0, 13.5), (16.0, 30.0)),)
    assert config.check(run.model_dump(), "again") == run


def test_shapes_that_sizes_could_have_made_are_the_same_detector_to_the_bit():
    sizes = load_run("anchors={sizes: [24], ratios: [0.25, 4.0]}")
    shapes = load_run("anchors={shapes: [[[48, 12], [12, 48]]]}")
    one, two = (build.detector(run, 3) for run in (sizes, shapes))
    assert one.grid == two.grid
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(one(images).raw, two(images).raw)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{}", "give sizes, or shapes in their place, got none"),
        ("{sizes: [24], shapes: [[[8, 8]]]}", "give sizes, or shapes in their place, not both"),
        (
            "{shapes: [[[8, 8]]], ratios: [1.0]}",
            "in place of ratios and scales, got ratios [1.0]",
        ),
        ("{shapes: [[[8, 8]], [[16, 16]]]}", "anchors.shapes has 2 values for 1 levels"),
        ("{shapes: [[[8, 8]], [[16, 16], [9, 9]]]}", "levels differ in their number of shapes: [1, 2]"),
        ("{shapes: [[[8]]]}", "at least 2 items"),
        ("{shapes: [[[8, 0]]]}", "greater than 0, got 0"),
        ("{shapes: [[]]}", "at least 1 item"),
    ],
)
def test_anchors_that_cannot_be_meant_are_refused(section, message):
    with pytest.raises(ConfigError) as said:
        load_run(f"anchors={section}")
    assert message in str(said.value)
