"""From sections to objects: each table entry, own parts, and what two runs share."""

import pytest
import torch
from tiny_backbone import TinyBackbone
from tiny_runs import load_run

from dethead import build, config, normalisers, postprocess
from dethead.backbones import PathAggregation
from dethead.boxes import BoxCodec
from dethead.config import ConfigError
from dethead.losses import regression
from dethead.schemes import SigmoidBCE, SoftmaxCE

CLASS_BIAS = "head.prediction.bias"


def test_the_class_scheme_gets_the_options_of_its_section():
    run = load_run("class_scheme={name: sigmoid_bce, pos_weight: [1.0, 2.0, 3.0]}")
    assert build.class_scheme(run) == SigmoidBCE(pos_weight=(1.0, 2.0, 3.0))
    assert build.class_scheme(load_run()) == SoftmaxCE()


@pytest.mark.parametrize("name", ["positives", "positives_per_image", "anchors"])
def test_a_normaliser_is_named_like_its_function(name):
    term = build.criterion(load_run(f"loss.box_term.normaliser={{name: {name}}}")).box_term
    assert term.normaliser is getattr(normalisers, f"by_{name}")


def test_a_constant_normaliser_has_its_value():
    term = build.criterion(
        load_run("loss.class_term={weight: 3.0, normaliser: {name: constant, value: 7.0}}")
    )
    assert (term.class_term.weight, term.class_term.normaliser) == (3.0, normalisers.Constant(7.0))


def test_the_box_loss_has_the_beta_of_the_config():
    loss = build.criterion(load_run("loss.box_loss.beta=0.25")).box_loss
    assert loss.keywords == {"beta": 0.25}


def test_the_criterion_gets_the_box_loss_and_the_anchors_of_the_confidence():
    loss = build.criterion(load_run("loss.box_loss={name: iou_squared}", "loss.confidence_on=positives"))
    assert loss.box_loss is regression.iou_squared_loss
    assert loss.confidence_on == "positives"
    assert build.criterion(load_run()).confidence_on == "all"


def test_a_confidence_without_background_and_mining_of_it_are_refused_in_the_config_words():
    with pytest.raises(ConfigError, match=r"loss: hard_negatives 3\.0 chooses background anchors"):
        build.criterion(load_run("loss.hard_negatives=3.0", "loss.confidence_on=positives"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head.class_prior=data", r"head\.class_prior: 'data' must be worked out from a training set first"),
        ("head.class_prior=0.01", r"head: softmax probabilities sum to 1, the prior 0\.01 does not"),
    ],
)
def test_a_prior_that_the_head_cannot_start_with_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        build.detector(load_run(override), 3)


def test_loss_and_postprocessor_share_codec_and_scheme():
    run = load_run("codec.weights=[10.0, 10.0, 5.0, 5.0]")
    assert build.criterion(run).codec == build.postprocessor(run).codec == BoxCodec((10.0, 10.0, 5.0, 5.0))
    assert build.criterion(run).scheme == build.postprocessor(run).scheme


@pytest.mark.parametrize("name", ["product", "geometric_mean", "class_only", "confidence_only"])
def test_a_fusion_is_named_like_its_function(name):
    assert build.postprocessor(load_run(f"postprocess.fusion={name}")).fusion is getattr(postprocess, name)


def test_the_assigner_gets_its_thresholds():
    assigner = build.assigner(load_run("assigner.positive_iou=0.6", "assigner.ignore_overlap=0.7"))
    assert (assigner.positive_iou, assigner.negative_iou, assigner.ignore_overlap) == (0.6, 0.4, 0.7)


def test_a_backbone_of_ones_own_is_made_with_its_options():
    detector = build.detector(load_run("backbone.options={norm: batch}"), 3)
    assert isinstance(detector.backbone.backbone, TinyBackbone)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in detector.backbone.backbone.modules())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:make", "'no_such_module:make' cannot be imported: No module named 'no_such_module'"),
        ("tiny_backbone:mkae", "cannot be imported: module 'tiny_backbone' has no attribute 'mkae'"),
        ("tiny_backbone:NOT_CALLABLE", "is not callable, got int"),
    ],
)
def test_an_own_part_that_is_not_there_is_named(name, message):
    with pytest.raises(ConfigError, match=message):
        build.detector(load_run(f"backbone.name={name}"), 3)


def test_an_option_that_an_own_part_does_not_take_is_named():
    with pytest.raises(ConfigError, match=r"'tiny_backbone:make' cannot be made with .*'nrom'"):
        build.detector(load_run("backbone.options={nrom: batch}"), 3)


def test_options_are_refused_for_a_backbone_of_torchvision():
    run = load_run("backbone={name: resnet18, strides: [8], options: {depth: 3}}")
    with pytest.raises(ConfigError, match=r"backbone\.options"):
        build.detector(run, 3)


@pytest.mark.parametrize("name", ["sim_ota", "task_aligned"])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_an_assigner_looks_at_the_confidence_only_where_it_is_taught(name, weight):
    run = load_run(f"assigner={{name: {name}}}", f"loss.confidence_term.weight={weight}")
    assert build.assigner(run).use_confidence == (weight > 0)


def test_an_unknown_backbone_gets_the_nearest_name():
    with pytest.raises(ValueError, match=r"did you mean resnet18\?"):
        build.detector(load_run("backbone.name=resnt18"), 3)


def test_the_same_seed_builds_the_same_weights_whatever_was_drawn_before():
    first = build.detector(load_run(), 3).state_dict()
    torch.rand(7)
    second = build.detector(load_run(), 3).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_another_seed_builds_other_weights():
    key = "backbone.backbone.steps.0.0.weight"
    first, second = (build.detector(load_run(f"seed={seed}"), 3).state_dict()[key] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_twins_start_from_the_same_weights_but_for_the_bias_of_the_class_rows():
    twins = [
        build.detector(load_run(f"class_scheme={{name: {n}}}"), 3) for n in ("softmax_ce", "sigmoid_bce")
    ]
    first, second = (twin.state_dict() for twin in twins)
    assert [key for key in first if not torch.equal(first[key], second[key])] == [CLASS_BIAS]
    bias = [state[CLASS_BIAS].reshape(-1, 8) for state in (first, second)]  # rows of 3 + 1 + 4 numbers
    assert torch.equal(bias[0][:, 3:], bias[1][:, 3:])


def test_parts_that_two_runs_share_start_alike_however_the_others_differ():
    first = build.detector(load_run(), 3).state_dict()
    second = build.detector(load_run("neck.channels=24", "head.depth=2"), 3).state_dict()
    shared = [key for key in first if key.startswith("backbone.backbone.")]
    assert shared
    assert all(torch.equal(first[key], second[key]) for key in shared)


def test_the_head_starts_alike_however_many_levels_the_neck_adds():
    first = build.detector(load_run(), 3).head.state_dict()
    second = build.detector(load_run("neck.extra_levels=1", "anchors.sizes=[24, 48]"), 3).head.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_frozen_stages_and_frozen_norm_reach_the_backbone():
    run = load_run("backbone.frozen_stages=1", "backbone.norm=frozen", "backbone.options={norm: batch}")
    steps = build.detector(run, 3).train().backbone.backbone.steps
    assert [any(p.requires_grad for p in step.parameters()) for step in steps] == [False, True, True]
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in steps.modules())


def test_a_frozen_stage_keeps_its_statistics_also_when_the_others_are_synchronised():
    run = load_run("backbone={name: resnet18, strides: [8], norm: sync, frozen_stages: 1}")
    norms = [m for m in build.detector(run, 3).backbone.backbone.modules() if "BatchNorm" in type(m).__name__]
    assert type(norms[0]).__name__ == "FrozenBatchNorm2d"
    assert {type(norm).__name__ for norm in norms[1:]} == {"SyncBatchNorm"}


ROAD = {
    "backbone.backbone": (288, 39357.7279074614, 60376.1138744966),
    "backbone.merge": (12, -37.9871227676, 579.5196920205),
    "backbone.extra": (2, 8.8784744720, 95.4968059891),
    "head.tower": (8, 214.0239232655, 971.4421719486),
    "head.prediction": (2, -112.7737650149, 307.4896993445),
}
"""Tensors, their sum and their sum of squares, in each part of road_softmax_ce, as of its first version."""
FIRST_VERSION = (
    "backbone.weights=null",
    "anchors.scales=[1.0, 1.2599, 1.5874]",
    *("head.towers=shared", "head.norm=group", "head.level_norm=shared"),
)


def test_a_config_starts_from_the_weights_that_it_always_started_from():
    state = build.detector(config.load("road_softmax_ce", FIRST_VERSION), 5).state_dict()
    found = {}
    for name, value in state.items():
        part = found.setdefault(".".join(name.split(".")[:2]), [0, 0.0, 0.0])
        for place, number in enumerate(
            (1, value.double().sum().item(), value.double().square().sum().item())
        ):
            part[place] += number
    assert found.keys() == ROAD.keys()
    for part, numbers in ROAD.items():
        assert found[part] == pytest.approx(numbers, rel=1e-5), part


EVERY_OPTION = (
    "neck={name: pan, channels: 16, extra_levels: 1, separable: true, norm: batch}",
    "head={width: 16, norm: batch, towers: decoupled, level_norm: per_level, box_scale: true}",
)


def test_neck_and_head_get_the_options_of_their_sections():
    detector = build.detector(config.load("road_softmax_ce", EVERY_OPTION), 5)
    neck, head = detector.backbone, detector.head
    assert isinstance(neck, PathAggregation)
    assert (neck.strides, neck.channels) == ((8, 16, 32, 64), (16,) * 4)
    assert {"steps.1.0.0.weight", "steps.1.1.running_mean", "extra.0.1.weight"} <= neck.state_dict().keys()
    names = {"box_tower.0.1.3.running_mean", "tower.1.1.0.weight", "box_factors"}
    assert names <= head.state_dict().keys()
    detector(torch.zeros(2, 3, 128, 128)).raw.sum().backward()  # normalisation needs more than a cell
    assert all(one.grad is not None for one in head.parameters())


def test_a_run_with_every_option_of_neck_and_head_is_written_and_read_back(tmp_path):
    run = config.load("road_softmax_ce", EVERY_OPTION)
    (tmp_path / "a.yaml").write_text(config.dump(run))
    assert config.load(tmp_path / "a.yaml") == run
    assert (run.neck.name, run.head.towers, run.head.level_norm) == ("pan", "decoupled", "per_level")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["neck.name=pan"], r"neck: a path needs a backbone of at least 2 maps, got strides \(8,\)"),
        (
            ["head.level_norm=per_level", "head.norm=none"],
            "head: level_norm 'per_level' needs norm 'group', 'batch' or 'sync'",
        ),
        (["head.towers=decoupled", "head.depth=0"], "head: towers 'decoupled' needs a depth of at least 1"),
    ],
)
def test_options_that_do_not_go_together_are_named_in_the_config_words(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build.detector(load_run(*overrides), 3)


@pytest.mark.parametrize("factor", [1.3333, 1.3333333333, 4 / 3])
def test_a_factor_that_is_no_short_decimal_is_the_fraction_that_is_meant(factor):
    run = load_run(f"backbone.enlarge={factor}", "data.image_size=[48, 96]")
    detector = build.detector(run, 3)
    assert detector.grid.strides == (6.0,)
    output = detector(torch.zeros(1, 3, 48, 96))
    assert output.raw.shape[1] == len(detector.anchors((48, 96)).boxes) == 8 * 16
