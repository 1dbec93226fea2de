"""The data section: samplers by name, and the number of classes with their parents."""

import pytest
from tiny_runs import load_run

from dethead import build, config
from dethead.config import ConfigError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.sampler={name: repeat}", "unknown name 'repeat'; did you mean 'repeat_factor'?"),
        ("data.sampler={name: repeat_factor}", "data.sampler.threshold: Field required"),
        ("data.sampler={name: repeat_factor, threshold: 0.0}", "threshold: Input should be greater than 0"),
        ("data.sampler={name: repeat_factor, threshold: 1.5}", "should be less than or equal to 1, got 1.5"),
        ("data.sampler={name: class_aware, threshold: 0.1}", "unknown key 'threshold'"),
        ("data.sampler=class_aware", "data.sampler"),
        ("data.hierarchy=[car]", "data.hierarchy"),
        ("data.hierarchy={vehicle: car}", "data.hierarchy.vehicle"),
    ],
)
def test_a_mistake_in_sampler_or_hierarchy_is_named(override, message):
    with pytest.raises(ConfigError) as error:
        load_run(override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_every_sampler_has_its_order():
    names = ["uniform", "repeat_factor", "class_aware"]
    assert [*build.SAMPLERS] == names
    assert load_run().data.sampler.name == "uniform"


@pytest.mark.parametrize("sampler", ["{name: repeat_factor, threshold: 0.2}", "{name: class_aware}"])
def test_the_dump_of_sampler_and_hierarchy_loads_back_equal_and_in_order(tmp_path, sampler):
    run = load_run(f"data.sampler={sampler}", "data.hierarchy={z: [car], a: [z, truck]}")
    path = tmp_path / "a.yaml"
    path.write_text(config.dump(run))
    again = config.load(path)
    assert again == run
    assert [*again.data.hierarchy] == ["z", "a"]


def test_parents_count_as_classes():
    parents = "data.hierarchy={z: [car], a: [z, truck]}"
    assert load_run(parents).data.num_classes == 5
    assert load_run(parents, "data.classes=[car, {p: [pedestrian], t: [truck]}]").data.num_classes == 5
    assert load_run(parents, "data.classes=null").data.num_classes is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.augment.mosaic=1.5", "data.augment.mosaic: Input should be less than or equal to 1, got 1.5"),
        ("data.augment.jitter=[2.0, 0.5]", "data.augment.jitter: must be [low, high], got [2.0, 0.5]"),
        ("data.augment.jitter=[0.0, 0.5]", "data.augment.jitter.0: Input should be greater than 0"),
        (
            "data.augment.mosaic_scale=[1.5, 0.5]",
            "data.augment.mosaic_scale: must be [low, high], got [1.5, 0.5]",
        ),
        ("data.augment.last_epochs_plain=-1", "data.augment.last_epochs_plain"),
        ("data.multi_scale=64", "data.multi_scale: must be [low, high] or a list of [height, width]"),
        ("data.multi_scale=[64]", "in px, got [64]"),
        ("data.multi_scale=[]", "in px, got []"),
        ("data.multi_scale=[96, 64]", "in px, got [96, 64]"),
        ("data.multi_scale=[64, [96, 96]]", "in px, got [64, [96, 96]]"),
        ("data.multi_scale=[[64, 64.0]]", "in px, got [[64, 64.0]]"),
        ("data.multi_scale=[64, 100]", "data.multi_scale [64, 100] must be multiples of the backbone's"),
        ("data.multi_scale=[[64, 60]]", "data.multi_scale [[64, 60]] must be multiples of the backbone's"),
    ],
)
def test_a_mistake_in_augmentation_or_sizes_is_named_in_one_line(override, message):
    with pytest.raises(ConfigError) as error:
        load_run(override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "sizes"),
    [
        ("data.multi_scale=null", [(64, 128)]),
        ("data.multi_scale=[48, 80]", [(48, 96), (56, 112), (64, 128), (72, 144), (80, 160)]),
        ("data.multi_scale=[64, 64]", [(64, 128)]),
        ("data.multi_scale=[[64, 64], [32, 96]]", [(64, 64), (32, 96)]),
    ],
)
def test_the_sizes_of_batches_keep_the_proportions_or_are_listed(override, sizes):
    run = load_run("data.image_size=[64, 128]", override)
    assert [*run.data.input_sizes(8)] == sizes


def test_widths_in_proportion_are_the_nearest_multiples_and_never_none():
    run = load_run("data.image_size=[64, 8]", "data.multi_scale=[16, 128]")
    assert {width for _, width in run.data.input_sizes(8)} == {8, 16}  # an eighth of 16 px is no whole cell


def test_what_augmentation_can_do_is_off_unless_it_is_asked_for(tmp_path):
    augment = load_run().data.augment
    assert (augment.mosaic, augment.mixup, augment.jitter, augment.last_epochs_plain) == (0, 0, None, 0)
    assert load_run().data.multi_scale is None
    path = tmp_path / "a.yaml"
    changed = load_run("data.augment.jitter=[0.1, 2]", "data.multi_scale=[[64, 64], [32, 96]]")
    path.write_text(config.dump(changed))
    assert config.load(path) == changed
