"""Every ablation that comes with dethead: it loads, every variant builds, and it compares what it says."""

import json
from pathlib import Path

import pytest
import torch

from dethead import build, config
from dethead.ablation.plan import dump_plan, load_plan, parse_plan
from dethead.build import ASSIGNERS, CLASS_SCHEMES, FUSION_FAMILIES, FUSIONS
from dethead.config import flat
from dethead.data import CocoSet
from dethead.training.by_class import resolve

SHIPPED = [*config.shipped_ablations()]
PLANS = {name: load_plan(name) for name in SHIPPED}
RUNS = {f"{plan.name}/{one.name}": one.run for plan in PLANS.values() for one in plan.variants}
"""Every variant's config."""
CATEGORIES = ("bus", "car", "motorbike", "person", "truck", "pedestrian")
"""Of all shipped data sets."""


def test_the_ablations_that_were_promised_are_shipped():
    assert set(SHIPPED) == {
        "assigners",
        "ce_vs_bce",
        "class_losses",
        "confidence_target",
        "imbalance",
        "recipe",
        "road_ce_vs_bce",
        "scenes_a_a",
        "scenes_ce_vs_bce",
        "scenes_imbalance",
        "score_fusion",
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_written_down_and_read_back(name):
    assert parse_plan(dump_plan(PLANS[name])) == PLANS[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_says_what_it_is_about(name):
    assert config.shipped_ablations()[name].read_text().startswith("# ")


@pytest.fixture(scope="module")
def annotations(tmp_path_factory) -> Path:
    """Eight images, each with a box of another class, to take numbers by class from."""
    categories = [{"id": i, "name": name} for i, name in enumerate(CATEGORIES, 1)]
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64} for i in range(1, 9)]
    box = {"bbox": [8, 8, 20, 20], "area": 400, "iscrowd": 0}
    boxes = [{"id": i, "image_id": i, "category_id": i % len(CATEGORIES) + 1, **box} for i in range(1, 9)]
    path = tmp_path_factory.mktemp("set") / "instances_train.json"
    path.write_text(json.dumps({"categories": categories, "images": images, "annotations": boxes}))
    return path


@pytest.fixture(scope="module")
def built() -> dict[str, torch.nn.Module]:
    """Detectors by what they are made of: most variants share one."""
    return {}


@pytest.mark.parametrize("name", RUNS)
def test_a_variant_builds(name, built, annotations):
    training_set = CocoSet.read(annotations, RUNS[name].data.classes)
    run = resolve(RUNS[name], training_set)
    parts = repr((run.backbone, run.neck, run.head, run.anchors, run.codec))
    if parts not in built:
        built[parts] = build.detector(run, run.data.num_classes)
    built[parts].anchors(run.data.image_size)
    build.criterion(run), build.assigner(run), build.postprocessor(run), build.order(run, training_set)


def names(ablation: str, key: str) -> set[object]:
    """The values of a key in all variants."""
    return {flat(one.run.model_dump())[key] for one in PLANS[ablation].variants}


def test_all_class_schemes_are_compared_each_under_its_name():
    assert {one.name: one.run.class_scheme.name for one in PLANS["class_losses"].variants} == {
        name: name for name in CLASS_SCHEMES
    }


def test_all_assigners_and_all_fusions_are_compared_each_under_its_name():
    assert (
        {one.name for one in PLANS["assigners"].variants}
        == names("assigners", "assigner.name")
        == {*ASSIGNERS}
    )
    assert {one.name for one in PLANS["score_fusion"].variants} == {*FUSIONS, *FUSION_FAMILIES}


@pytest.mark.parametrize("name", ["ce_vs_bce", "road_ce_vs_bce", "scenes_ce_vs_bce"])
def test_cross_entropy_meets_binary_cross_entropy_as_in_the_shipped_twins(name):
    plan = PLANS[name]
    twin = config.load(plan.base.replace("softmax_ce", "sigmoid_bce"))
    one, other = (variant.run for variant in plan.variants)
    assert (one.class_scheme, other.class_scheme) == (config.load(plan.base).class_scheme, twin.class_scheme)
    assert one.model_copy(update={"class_scheme": twin.class_scheme}) == other


def test_the_demo_shortens_the_training_of_its_base_and_changes_nothing_else():
    one, base = PLANS["scenes_ce_vs_bce"].variants[0].run, config.load("scenes_softmax_ce")
    assert one.training.epochs < base.training.epochs
    assert one.model_copy(update={"training": base.training}) == base


def test_remedies_for_rare_classes_start_from_the_demos_softmax_head():
    none = PLANS["scenes_imbalance"].variants[0]
    assert none.name == PLANS["scenes_imbalance"].baseline == "none"
    assert none.run == PLANS["scenes_ce_vs_bce"].variants[0].run


def test_the_demo_is_four_runs():
    assert [one.name for one in PLANS["scenes_ce_vs_bce"].runs()] == [
        f"{name}-seed{seed}" for seed in (0, 1) for name in ("softmax_ce", "sigmoid_bce")
    ]


def test_the_test_of_the_statistics_trains_one_config_with_disjoint_seeds():
    runs = PLANS["scenes_a_a"].runs()
    assert len({one.run.model_copy(update={"seed": 0}).model_dump_json() for one in runs}) == 1
    assert len({one.run.seed for one in runs}) == len(runs) == 10


def test_confidence_is_taught_each_target_under_its_name():
    taught = {one.name: one.run.loss.confidence_target for one in PLANS["confidence_target"].variants}
    assert taught == {name: name for name in ("one", "iou", "quality")}
