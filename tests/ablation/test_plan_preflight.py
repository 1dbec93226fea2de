"""Before anything trains: every variant is built on the data, and who cannot be is refused by name."""

import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from plans import plan_of

from dethead.ablation.plan import PlanError
from dethead.ablation.preflight import preflight
from dethead.data import CocoSet, DataError
from dethead.training import Inputs

VARIANTS = (
    "{a: {}, bce: {class_scheme: {name: sigmoid_bce, class_weights: {recipe: inverse}}},"
    " small: {training.batch_size: 2, training.epochs: 3}}"
)


@pytest.fixture
def inputs(tiny_data):
    return Inputs.find(tiny_data, device="cpu")


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder that temporary ones are made in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def refused(tmp_path, inputs, variants, changes="{}"):
    with pytest.raises(PlanError) as error:
        preflight(plan_of(tmp_path, variants, changes), inputs)
    return str(error.value)


def test_every_variant_is_made_ready_with_its_numbers_by_class_and_its_steps(tmp_path, inputs):
    ready = preflight(plan_of(tmp_path, VARIANTS), inputs)
    assert {name: one.steps for name, one in ready.items()} == {"a": 4, "bce": 4, "small": 12}  # 8 images
    assert len(ready["bce"].run.class_scheme.class_weights) == 3
    assert all(len(one.data.train) == 8 and len(one.data.val) == 4 for one in ready.values())


def test_the_annotations_are_read_once_for_all_variants(tmp_path, inputs, monkeypatch):
    read, files = CocoSet.read, []
    monkeypatch.setattr(CocoSet, "read", lambda path, *a, **k: files.append(path.name) or read(path, *a, **k))
    ready = preflight(plan_of(tmp_path, VARIANTS), inputs)
    assert files == ["instances_train.json", "instances_val.json"]
    assert len({id(one.data.train.coco) for one in ready.values()}) == 1


def test_each_variant_has_its_own_augmentation_and_size(tmp_path, inputs):
    variants = "{a: {}, plain: {data.augment: {flip: 0.0}, data.image_size: [32, 48]}}"
    ready = preflight(plan_of(tmp_path, variants), inputs)
    assert [one.data.train.size for one in ready.values()] == [(64, 64), (32, 48)]
    assert [one.data.train.transform.flip for one in ready.values()] == [0.5, 0.0]


def test_nothing_is_left_behind_and_no_random_number_is_drawn(tmp_path, inputs, temporary, tiny_data):
    files, state = sorted(tiny_data.rglob("*")), torch.get_rng_state()
    preflight(plan_of(tmp_path, VARIANTS), inputs)
    assert [*temporary.iterdir()] == []
    assert sorted(tiny_data.rglob("*")) == files
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.batch_size: 16", "8 images do not fill one step of training.batch_size 16"),
        (
            "class_scheme.class_weights: {bus: 2.0}",
            "class_scheme.class_weights: unknown class 'bus'; classes: car",
        ),
        ("loss.distillation: {weight: 1.0}", "loss.distillation needs a teacher"),
        ("assigner: {name: 'nowhere:make'}", "'nowhere:make' cannot be imported"),
        ("backbone.name: 'tiny_backbone:made'", "'tiny_backbone:made' cannot be imported"),
        ("head.width: 21", "head: a width of 21 does not divide into groups of 8"),
        ("loss.class_on: all", "loss: "),
    ],
)
def test_a_variant_that_cannot_be_built_is_refused_by_name(change, message, tmp_path, inputs):
    said = refused(tmp_path, inputs, f"{{a: {{}}, wide: {{neck.channels: 8}}, bad: {{{change}}}}}")
    assert said.startswith("variant 'bad': ")
    assert message in said


def test_classes_that_a_results_file_cannot_tell_apart_are_refused_before_the_training(tmp_path, inputs):
    changes = "{data.classes: [car, {any: [car, truck]}, pedestrian], class_scheme: {name: sigmoid_bce}}"
    said = refused(tmp_path, inputs, "{a: {}, b: {head.depth: 2}}", changes)
    assert said.startswith("mine: classes car, any, pedestrian share a category id [1, 1, 3]")


def test_a_broken_image_is_a_matter_of_the_data_and_of_no_variant(tmp_path, tiny_data):
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    (data / "images" / "10.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 8 images cannot be used"):
        preflight(plan_of(tmp_path, VARIANTS), Inputs.find(data, device="cpu"))
