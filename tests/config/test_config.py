"""Configs: what is refused and how it is said, overrides, and the way to a file and back."""

import json
from pathlib import Path

import pytest
import yaml
from tiny_runs import CONFIG, load_run

from dethead import config
from dethead.config import ConfigError, Run, reading
from dethead.config.sections import OwnPart, SigmoidBCE

SCHEME = {"name": "softmax_ce"}


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_run(*overrides)
    return str(error.value)


def written(folder: Path, text: str) -> Path:
    path = folder / "a.yaml"
    path.write_text(text)
    return path


# One mistake a line: the override that makes it, and what the message must say beside the file's name.
MISTAKES = [
    # the four of the style guide
    (
        "class_scheme.class_wieghts=[1.0,1.0,1.0]",
        "class_scheme",
        "unknown key 'class_wieghts'; did you mean 'class_weights'?",
    ),
    ("class_scheme.name=softmax", "class_scheme.name", "unknown name 'softmax'; did you mean 'softmax_ce'?"),
    ("training.optimizer.lr=fast", "training.optimizer.lr", "valid number, got 'fast'"),
    (
        "class_scheme.class_weights=[1.0,2.0]",
        "top level",
        "class_scheme.class_weights has 2 values for 3 classes",
    ),
    # unknown keys and names
    ("trainig.epochs=3", "top level", "unknown key 'trainig'; did you mean 'training'?"),
    ("data.zzz=1", "data", "unknown key 'zzz'; known keys: classes,"),
    ("class_scheme.name=zzz", "class_scheme.name", "unknown name 'zzz'; allowed: softmax_ce, sigmoid_bce"),
    ("assigner.name=max_iuo", "assigner.name", "did you mean 'max_iou'?"),
    ("class_scheme={}", "class_scheme.name", "missing; give one of softmax_ce, sigmoid_bce"),
    ("loss.box_loss={name: smooth_l1}", "loss.box_loss.beta", "Field required"),
    # wrong types: nothing is converted in silence
    ("training.epochs='3'", "training.epochs", "valid integer, got '3'"),
    ("training.epochs=3.5", "training.epochs", "integer"),
    ("training.epochs=true", "training.epochs", "valid integer, got True"),
    ("data=3", "data", "got 3"),
    ("data.classes=car", "data.classes", "valid list, got 'car'"),
    ("training.precision=no", "training.precision", "got False (YAML reads no as False"),
    # ranges
    ("training.epochs=0", "training.epochs", "greater than or equal to 1, got 0"),
    ("seed=4294967296", "seed", "less than 4294967296, got 4294967296"),
    ("training.optimizer.lr=-1.0", "training.optimizer.lr", "greater than 0, got -1.0"),
    ("training.optimizer.lr=.nan", "training.optimizer.lr", "finite number, got nan"),
    ("data.augment.flip=1.5", "data.augment.flip", "less than or equal to 1, got 1.5"),
    ("anchors.sizes=[-3.0]", "anchors.sizes.0", "greater than 0, got -3.0"),
    ("neck.name=pafpn", "neck.name", "'fpn' or 'pan', got 'pafpn'"),
    ("neck.norm=group", "neck.norm", "'none' or 'batch', got 'group'"),
    ("head.towers=two", "head.towers", "'shared' or 'decoupled', got 'two'"),
    ("head.level_norm=own", "head.level_norm", "'shared' or 'per_level', got 'own'"),
    # lists of a wrong length
    ("data.image_size=[64]", "data.image_size", "at least 2 items"),
    ("codec.weights=[1.0,1.0]", "codec.weights", "at least 4 items"),
    ("head.class_prior=[0.5,0.5]", "top level", "head.class_prior has 2 values for 3 classes"),
    (
        "class_scheme={name: sigmoid_bce, pos_weight: [1.0]}",
        "top level",
        "class_scheme.pos_weight has 1 values",
    ),
    # values that contradict each other
    (
        "anchors.sizes=[24, 48]",
        "top level",
        "anchors.sizes has 2 values for 1 levels (strides [8] and 0 extra)",
    ),
    ("neck.extra_levels=1", "top level", "anchors.sizes has 1 values for 2 levels"),
    ("assigner.negative_iou=0.7", "assigner", "negative_iou 0.7 is above positive_iou 0.5"),
    ("training.accumulate=3", "training", "batch_size 4 does not divide into 3 micro-batches"),
    (
        "data.image_size=[60, 64]",
        "top level",
        "[60, 64] must be multiples of the backbone's coarsest stride 8",
    ),
    (
        "backbone.enlarge=1.1",
        "top level",
        "[64, 64] must be multiples of the backbone's coarsest stride 8 over backbone.enlarge 1.1: of 80 px",
    ),
    ("backbone.enlarge=0.5", "backbone.enlarge", "greater than or equal to 1, got 0.5"),
    ("codec=ltrb", "codec.other", "got 'ltrb'"),
    (
        "class_scheme.class_weights=inverse",
        "class_scheme.class_weights",
        "or {recipe: inverse}, got 'inverse'",
    ),
    (
        "loss.embedding={weight: 1.0, kind: triplet}",
        "top level",
        "loss.embedding needs head.embedding_channels above 0",
    ),
    (
        "head.embedding_channels=4",
        "top level",
        "head.embedding_channels 4 makes embeddings that nothing trains",
    ),
    (
        "loss.confidence_target=quality",
        "top level",
        "needs an assigner that gives one (center, sim_ota, task_aligned), which max_iou does not",
    ),
    ("backbone.strides=[16, 8]", "backbone", "strides must increase, finest first, got [16, 8]"),
    ("data.classes=[]", "data", "classes is empty"),
    ("data.classes=[car, {car: [bus]}]", "data", "classes names 'car' twice"),
    (
        "training.schedule={name: steps, milestones: [1, 2]}",
        "training",
        "schedule.milestones: 2 is not before the last of 2 epochs",
    ),
    # what YAML 1.1 makes of a number without a point
    (
        "training.optimizer.lr=1e-3",
        "training.optimizer.lr",
        "got '1e-3' (YAML reads 1e-3 as text: write 1.0e-3)",
    ),
]


@pytest.mark.parametrize(("override", "place", "message"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_by_file_key_value_and_what_is_allowed(override, place, message):
    said = refused(override)
    assert said.startswith(f"{CONFIG}: {place}: ")
    assert message in said
    assert "\n" not in said


ONE_CELL = ("head={norm: batch, depth: 1}", "training.batch_size=1", "data.image_size=[8, 8]")


@pytest.mark.parametrize(
    ("others", "size"),
    [
        ((), "[8, 8]"),
        (("training.batch_size=4", "training.accumulate=4"), "[8, 8]"),
        (("data.image_size=[16, 16]", "data.multi_scale=[[16, 16], [8, 8]]"), "[8, 8]"),
        (("data.image_size=[16, 16]", "neck.extra_levels=1", "anchors.sizes=[24, 48]"), "[16, 16]"),
    ],
)
def test_batch_normalisation_of_one_cell_of_one_image_is_refused(others, size):
    said = refused(*ONE_CELL, *others)
    assert "top level: head.norm 'batch' has a single value to normalise" in said
    assert f"{size} px has one cell" in said


def test_a_range_of_sizes_has_all_that_enlarged_are_whole_cells():
    # 8 / 1.6 = 5 px is the side of a cell; all heights from 50 to 65 px that are whole ones
    run = load_run("backbone.enlarge=1.6", "data.image_size=[60, 60]", "data.multi_scale=[50, 65]")
    sizes = run.data.input_sizes(run.backbone.whole_cells)
    assert sizes == ((50, 50), (55, 55), (60, 60), (65, 65))
    assert "data.multi_scale [50, 64] must be multiples" in refused(
        "backbone.enlarge=1.6", "data.image_size=[60, 60]", "data.multi_scale=[50, 64]"
    )


def test_one_cell_is_counted_on_the_enlarged_image():
    load_run(*ONE_CELL, "backbone.enlarge=2.0")


@pytest.mark.parametrize(
    "other", ["training.batch_size=2", "data.image_size=[8, 16]", "head.norm=group", "head.depth=0"]
)
def test_batch_normalisation_of_two_values_is_not(other):
    load_run(*ONE_CELL, other)


def test_every_mistake_of_a_file_has_its_line():
    lines = refused("training.epochs=0", "data.augment.flip=2.0", "class_scheme.name=softmax").splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "data.augment.flip",
        "class_scheme.name",
        "training.epochs",
    ]


def test_a_key_that_is_no_word_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("? [x, y]\n: 1\n")
    with pytest.raises(ConfigError, match=r"a\.yaml.*a key must be a word, got \['x', 'y'\]"):
        config.load(tmp_path / "a.yaml")


def test_yaml_merge_keys_bring_in_what_is_not_given(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert reading.read_yaml(tmp_path / "a.yaml")["b"] == {"x": 1, "y": 3}


def test_a_key_given_twice_is_refused_where_yaml_would_keep_the_last(tmp_path):
    path = written(tmp_path, CONFIG.read_text() + "training: {epochs: 9}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: .*line 20, column 1: key 'training' is given twice$"):
        config.load(path)


def test_malformed_yaml_is_named_by_file_and_line(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.yaml: not readable as YAML: line 2, column 1: .* line 1 on"):
        config.load(written(tmp_path, "data: {image_size: [64, 64]\nbackbone: 3\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nname: \x07\n", r"line 2: character '\\x07': special characters are not allowed$"),
        ("seed: 2024-13-45\n", r"a\.yaml: not readable as YAML: month must be in 1..12"),
    ],
)
def test_what_no_yaml_holds_is_named(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        config.load(written(tmp_path, text))


@pytest.mark.parametrize("text", ["", "- 3\n", "text\n"], ids=["empty", "list", "text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match=r"must be a mapping of sections"):
        config.load(written(tmp_path, text))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigError, match=r"not readable as YAML"):
        config.load(path)


def test_a_shipped_config_is_found_by_its_name_with_or_without_suffix():
    assert config.find("scenes_softmax_ce") == config.find("scenes_softmax_ce.yaml")


def test_a_file_that_is_missing_is_not_taken_for_a_shipped_one_of_its_name():
    with pytest.raises(ConfigError, match=r"elsewhere/road_softmax_ce\.yaml: no such config file"):
        config.find("elsewhere/road_softmax_ce.yaml")


def test_an_unknown_config_name_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no such config file; did you mean 'road_softmax_ce'\?"):
        config.find("road_softmx_ce")


def test_a_name_near_to_nothing_gets_the_whole_list():
    with pytest.raises(ConfigError, match=r"shipped: .*road_softmax_ce.*scenes_softmax_ce"):
        config.find("zzzzzz.yaml")


def test_an_override_reaches_a_nested_key_and_makes_sections_that_are_left_out():
    run = load_run("training.optimizer.lr=0.5", "postprocess.nms_iou=0.25")
    assert (run.training.optimizer.lr, run.postprocess.nms_iou) == (0.5, 0.25)


def test_an_override_takes_any_yaml_value():
    run = load_run("class_scheme={name: sigmoid_bce, pos_weight: [1.0, 2.0, 3.0]}", "training.ema=null")
    assert run.class_scheme == SigmoidBCE(name="sigmoid_bce", pos_weight=[1.0, 2.0, 3.0])
    assert run.training.ema is None


@pytest.mark.parametrize("override", ["training.epochs", "=3", "training.epochs 3"])
def test_an_override_without_key_or_value_is_refused(override):
    assert "an override must look like key.sub=value" in refused(override)


def test_an_override_below_a_plain_value_is_refused():
    assert "'epochs' is a value, not a section" in refused("training.epochs.more=3")


def test_an_override_that_is_no_yaml_is_refused():
    assert "not readable as YAML" in refused("training.epochs={")


def test_the_dump_of_a_run_loads_back_equal(tmp_path):
    run = load_run("data.classes=[car, {person: [pedestrian]}, truck]", "training.optimizer.lr=1.0e-5")
    assert config.load(written(tmp_path, config.dump(run))) == run


def test_the_dump_spells_out_every_key():
    values = yaml.safe_load(config.dump(load_run()))
    assert set(values) == set(Run.model_fields)
    assert values["training"]["clip_norm"] == 10.0


def test_a_class_may_be_merged_of_several_categories():
    run = load_run(
        "data.classes=[{vehicle: [car, truck], walker: [pedestrian]}]", "head.class_prior=[0.5,0.5]"
    )
    assert run.data.classes == [{"vehicle": ["car", "truck"], "walker": ["pedestrian"]}]


def test_a_name_with_a_colon_is_a_part_of_ones_own():
    run = load_run("class_scheme={name: my.module:make, options: {gamma: 2}}")
    assert run.class_scheme == OwnPart(name="my.module:make", options={"gamma": 2})


def test_a_name_with_a_colon_must_look_like_module_and_factory():
    assert "class_scheme.name: " in refused("class_scheme={name: 'my module:make'}")


def test_a_run_cannot_be_changed_after_the_check():
    with pytest.raises(ValueError, match=r"frozen"):
        load_run().seed = 3


def test_the_json_schema_is_json_and_describes_every_section():
    schema = json.loads(json.dumps(Run.model_json_schema()))
    assert set(schema["properties"]) == set(Run.model_fields)
    assert "Steps between lines of log.jsonl." in json.dumps(schema)
