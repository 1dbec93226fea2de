"""Runs of one seed share their random numbers, however variants differ: weights, images, augmentation."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
from plans import plan_of

from dethead import build, config
from dethead.ablation.plan import Plan
from dethead.ablation.preflight import preflight, trial
from dethead.structures import Batch
from dethead.training import Inputs
from dethead.training.inputs import use_sets
from dethead.training.loop import Trainer

SAME_HEAD = {
    "scheme": "class_scheme: {name: sigmoid_bce}",
    "weights": "loss.class_term.weight: 3.0, training.optimizer.lr: 0.5",
    "assigner": "assigner: {name: sim_ota}",
    "confidence": "loss.confidence_target: iou",
    "embedding": "head.embedding_channels: 8, loss.embedding: {weight: 1.0, kind: triplet}",
    "ema": "training.ema: null",
    "prior": "head.confidence_prior: 0.1",
}
OTHER_HEAD = {
    "width": "head.width: 24",
    "depth": "head.depth: 3",
    "norm": "head.norm: none",
    "anchors": "anchors.ratios: [0.5, 1.0, 2.0]",
    "separable": "head.separable: true",
}
PLAN = ", ".join(f"{name}: {{{change}}}" for name, change in {**SAME_HEAD, **OTHER_HEAD}.items())


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    return plan_of(
        tmp_path_factory.mktemp("plan"), f"{{a: {{}}, {PLAN}, again: {{same_as: a, seed_offset: 7}}}}"
    )


class Start(NamedTuple):
    """A run as it begins."""

    weights: dict[str, torch.Tensor]
    batches: list[Batch]
    """The first epoch, and the first batch of the second."""
    random: torch.Tensor
    """What dropout draws from."""


@pytest.fixture(scope="module")
def begin(plan, tiny_data) -> Callable[..., Start]:
    """Begin a run of the plan as training would."""
    inputs = Inputs.find(tiny_data, device="cpu")
    ready = preflight(plan, inputs)

    @cache
    def begun(name: str, seed: int = 1) -> Start:
        planned = next(one for one in plan.runs() if one.variant.name == name and one.seed == seed)
        sets = ready[name].data.train.coco, ready[name].data.val.coco
        with trial(planned.run, inputs, use_sets(planned.run, inputs, *sets)) as trainer:
            trainer.begin()
            random = torch.get_rng_state()
            return Start(trainer.detector.state_dict(), first_batches(trainer), random)

    return begun


def first_batches(trainer: Trainer) -> list[Batch]:
    epochs = []
    for epoch in range(2):
        trainer.sampler.set_epoch(epoch)
        epochs.append([*trainer.loader])
    return [*epochs[0], epochs[1][0]]


def unequal(one: Start, other: Start) -> list[str]:
    """Parameters and buffers of both, of one shape, that do not agree to the bit."""
    return [
        name
        for name, value in one.weights.items()
        if name in other.weights and other.weights[name].shape == value.shape
        if not torch.equal(other.weights[name], value)
    ]


def test_softmax_and_sigmoids_start_alike_but_for_the_bias_that_makes_classes_equally_likely(begin):
    assert unequal(begin("a"), begin("scheme")) == ["head.prediction.bias"]


@pytest.mark.parametrize("name", [name for name in SAME_HEAD if name not in ("scheme", "prior")])
def test_what_does_not_shape_the_head_leaves_every_initial_weight_as_it_is(name, begin):
    assert unequal(begin("a"), begin(name)) == []
    assert begin("a").weights.keys() <= begin(name).weights.keys()


@pytest.mark.parametrize("name", OTHER_HEAD)
def test_another_head_leaves_all_initial_weights_whose_shapes_agree_as_they_are(name, begin):
    assert unequal(begin("a"), begin(name)) == []


@pytest.mark.parametrize("name", [*SAME_HEAD, *OTHER_HEAD])
def test_the_first_batches_are_the_same_images_augmented_alike(name, begin):
    for mine, theirs in zip(begin("a").batches, begin(name).batches, strict=True):
        assert mine.image_ids == theirs.image_ids
        assert torch.equal(mine.images, theirs.images)
        for left, right in zip(mine.truth, theirs.truth, strict=True):
            assert torch.equal(left.boxes, right.boxes)
            assert torch.equal(left.targets, right.targets)


@pytest.mark.parametrize("name", [*SAME_HEAD, *OTHER_HEAD])
def test_dropout_draws_the_same_numbers_from_the_first_step_on(name, begin):
    assert torch.equal(begin("a").random, begin(name).random)


@pytest.mark.parametrize("other", [("a", 0), ("again", 1)])
def test_another_seed_and_shifted_seeds_draw_everything_anew(other, begin):
    one, two = begin("a"), begin(*other)
    assert {"backbone.backbone", "backbone.merge", "head.tower", "head.prediction"} == {
        ".".join(name.split(".")[:2]) for name in unequal(one, two)
    }
    assert not any(
        torch.equal(*(b.images for b in pair)) for pair in zip(one.batches, two.batches, strict=True)
    )
    assert not torch.equal(one.random, two.random)


def test_shipped_detectors_agree_wherever_shapes_do_whatever_the_head():
    base = build.detector(config.load("scenes_softmax_ce"), 3).state_dict()
    changes = [
        "head.depth=1",
        "anchors.scales=[1.0]",
        "neck.extra_levels=1",
        "anchors.sizes=[18, 44, 104, 200]",
    ]
    other = build.detector(config.load("scenes_sigmoid_bce", changes), 3).state_dict()
    shared = [name for name in base if name in other and base[name].shape == other[name].shape]
    assert len(shared) > 40
    assert "head.tower.0.0.weight" in shared
    assert all(torch.equal(base[name], other[name]) for name in shared)
