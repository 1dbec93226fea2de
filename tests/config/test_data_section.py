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
