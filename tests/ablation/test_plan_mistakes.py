"""Plans that cannot be meant: each mistake is refused by name, with the value and what is allowed."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import CONFIG

from dethead import config
from dethead.ablation.plan import PlanError, dump_plan, load_plan, parse_plan

HEAD = {"base": "base.yaml", "baseline": "a", "seeds": "2"}
TWO = "variants: {a: {}, b: {head.depth: 2}}"

# What is wrong: the body of the file, keys of HEAD that are changed, what is said behind the file's name.
MISTAKES = {
    "an unknown key": (
        "variants: {a: {}, b: {loss.box_term.weigth: 2.0}}",
        {},
        "variant 'b': loss.box_term: unknown key 'weigth'; did you mean 'weight'?",
    ),
    "an unknown key of a level": (
        "factors: {x: {a: {}, b: {head.dept: 2}}, y: {c: {}, d: {neck.channels: 8}}}",
        {"baseline": "a+c"},
        "variant 'b+c', variant 'b+d': head: unknown key 'dept'; did you mean 'depth'?",
    ),
    "an unknown section": (
        "variants: {a: {}, b: {haed.depth: 2}}",
        {},
        "variant 'b': top level: unknown key 'haed'; did you mean 'head'?",
    ),
    "a key below a value": (
        "variants: {a: {}, b: {training.epochs.more: 3}}",
        {},
        "variant 'b': training.epochs.more: 'epochs' is a value, not a section",
    ),
    "a value out of range": (
        "variants: {a: {}, b: {training.epochs: 0}}",
        {},
        "variant 'b': training.epochs: Input should be greater than or equal to 1, got 0",
    ),
    "parts that do not fit": (
        "variants: {a: {}, b: {loss.confidence_target: quality}}",
        {},
        "variant 'b': top level: loss.confidence_target 'quality' needs an assigner",
    ),
    "a change that changes nothing": (
        "variants: {a: {}, b: {training.epochs: 2}}",
        {},
        "variant 'b': training.epochs 2 changes nothing: the base says so already; {} is 'as the base'",
    ),
    "one of two changes that changes nothing": (
        "variants: {a: {}, b: {head.depth: 2, class_scheme: {name: softmax_ce}}}",
        {},
        "variant 'b': class_scheme {'name': 'softmax_ce'} changes nothing",
    ),
    "a level that changes nothing": (
        "factors: {x: {a: {}, b: {head.depth: 1}}, y: {c: {}, d: {neck.channels: 8}}}",
        {"baseline": "a+c"},
        "variant 'b+c', variant 'b+d': head.depth 1 changes nothing",
    ),
    "two variants alike": (
        "variants: {a: {}, b: {head.depth: 2}, c: {head.depth: 2}}",
        {},
        "variants 'b' and 'c' are alike; if that is meant, mark one: {same_as: b}",
    ),
    "two variants alike by the same number in another way of writing": (
        "variants: {a: {}, b: {loss.box_term.weight: 2.0}, c: {loss.box_term: {weight: 2.0}}}",
        {},
        "variants 'b' and 'c' are alike",
    ),
    "a baseline that is not there": (
        TWO.replace("b:", "beta:"),
        {"baseline": "bata"},
        "baseline: no variant 'bata'; did you mean 'beta'?",
    ),
    "a baseline near to nothing": (TWO, {"baseline": "zzz"}, "baseline: no variant 'zzz'; there are a, b"),
    "a baseline marked as equal to another": (
        "variants: {a: {same_as: b}, b: {}}",
        {},
        "baseline 'a' is marked same_as 'b': that one is the baseline",
    ),
    "no seeds": (
        TWO,
        {"seeds": "[]"},
        "seeds: must be how many (1, 2, ...) or a list of seeds (0, 1, ...), got []",
    ),
    "zero seeds": (TWO, {"seeds": "0"}, "seeds: must be how many (1, 2, ...) or a list"),
    "a negative seed": (TWO, {"seeds": "[0, -1]"}, "got [0, -1]"),
    "seeds in words": (TWO, {"seeds": "five"}, "got 'five'"),
    "a truth for seeds": (TWO, {"seeds": "true"}, "got True"),
    "a seed beyond 32 bits": (TWO, {"seeds": "[4294967296]"}, "4294967296 is too large: seeds are below"),
    "a seed twice": (TWO, {"seeds": "[3, 1, 3]"}, "seeds: 3 is there twice in [3, 1, 3]"),
    "offsets that share some seeds": (
        "variants: {a: {}, b: {same_as: a, seed_offset: 2}}",
        {"seeds": "3"},
        "variant 'b': seed_offset 2 gives it seed 2 of its equal 'a' (seed_offset 0), but not all its seeds: "
        "offsets must be equal, or at least 3 apart",
    ),
    "offsets of two equals that share some seeds": (
        "variants: {a: {}, b: {same_as: a, seed_offset: 5}, c: {same_as: a, seed_offset: 6}}",
        {},
        "variant 'c': seed_offset 6 gives it seed 6 of its equal 'b' (seed_offset 5)",
    ),
    "an offset where pairs are compared": (
        "variants: {a: {}, b: {changes: {head.depth: 2}, seed_offset: 9}}",
        {},
        "variants.b: seed_offset 9 goes with same_as",
    ),
    "a seed in a variant": (
        "variants: {a: {}, b: {seed: 3}}",
        {},
        "variant 'b': seed is no matter of a config here; give seeds, or same_as and seed_offset",
    ),
    "a seed for all": (f"changes: {{seed: 3}}\n{TWO}", {}, "changes: seed is no matter of a config here"),
    "equal to itself": ("variants: {a: {}, b: {same_as: b}}", {}, "variant 'b': same_as names itself"),
    "equal to none": (
        "variants: {a: {}, b: {same_as: bb}}",
        {},
        "variant 'b': same_as: no variant 'bb'; did you mean 'b'?",
    ),
    "equal to one that is equal": (
        "variants: {a: {}, b: {same_as: a}, c: {same_as: b}}",
        {},
        "variant 'c': same_as names 'b', which is same_as another",
    ),
    "both forms of a variant mixed": (
        "variants: {a: {}, b: {same_as: a, head.depth: 2}}",
        {},
        "variants.b: unknown key 'head.depth'; known keys: changes, same_as, seed_offset",
    ),
    "a name with a slash": (
        "variants: {a: {}, b/c: {head.depth: 2}}",
        {},
        "the name 'b/c' cannot be a folder's",
    ),
    "a name of dots": ("variants: {a: {}, ..: {head.depth: 2}}", {}, "the name '..' cannot be a folder's"),
    "a level's name with the sign between levels": (
        "factors: {x: {a: {}, b+c: {head.depth: 2}}}",
        {},
        "the name 'b+c' cannot be a folder's",
    ),
    "a name that YAML takes for a number": (
        "factors: {x: {a: {}, 0.1: {head.depth: 2}}}",
        {},
        "the name 0.1 is not text: put it in quotes",
    ),
    "a name that is too long": (
        f"variants: {{a: {{}}, {'b' * 101}: {{head.depth: 2}}}}",
        {},
        "up to 100 letters",
    ),
    "levels whose names are too long together": (
        f"factors: {{x: {{a: {{}}, {'b' * 60}: {{head.depth: 2}}}}, "
        f"y: {{c: {{}}, {'d' * 60}: {{neck.channels: 8}}}}}}",
        {"baseline": "a+c"},
        "has 121 characters, 100 fit",
    ),
    "names that some disks take for one": (
        "variants: {a: {}, A: {head.depth: 2}}",
        {},
        "variants 'a' and 'A' are one folder where case does not count",
    ),
    "a variant of nothing": (
        "variants: {a: , b: {head.depth: 2}}",
        {},
        "variants: 'a' must be a mapping of changes",
    ),
    "variants as a list": (
        "variants: [a, b]",
        {},
        "variants: Input should be a valid dictionary, got ['a', 'b']",
    ),
    "one variant": ("variants: {a: {}}", {}, "a comparison needs two variants or more, got 1"),
    "no variants": ("", {}, "give factors (a full grid) or variants (one by one), got neither"),
    "factors and variants": (
        f"{TWO}\nfactors: {{x: {{a: {{}}, b: {{head.depth: 2}}}}}}",
        {},
        "give factors (a full grid) or variants (one by one), got both",
    ),
    "a factor of one level": (
        "factors: {x: {a: {head.depth: 2}}}",
        {},
        "'x' needs two levels or more, got a",
    ),
    "two factors with one key": (
        "factors: {x: {a: {}, b: {head.depth: 2}}, y: {c: {}, d: {head.depth: 3}}}",
        {},
        "factors 'x' and 'y' both set head.depth",
    ),
    "a key that is unknown to plans": (
        f"{TWO}\nbaselin: a",
        {},
        "unknown key 'baselin'; did you mean 'baseline'?",
    ),
    "a base that is not there": (
        TWO,
        {"base": "road_softmx_ce"},
        "base: road_softmx_ce: no such config file; did you",
    ),
    "a shipped ablation as base": (
        TWO,
        {"base": "ce_vs_bce"},
        "base: ce_vs_bce: no such config file; it is an ablation, which `dethead ablate` runs",
    ),
    "an ablation as base": (TWO, {"base": "other.yaml"}, "base: other.yaml is itself an ablation"),
    "changes that the base cannot take": (
        f"changes: {{training.epochs: -1}}\n{TWO}",
        {},
        "base base.yaml: training.epochs: Input should be greater than or equal to 1, got -1",
    ),
    "other objects to find": (
        "variants: {a: {}, b: {data.classes: [car]}}",
        {},
        "variant 'b': data.classes ['car'] is not the baseline's ['car', 'pedestrian', 'truck']",
    ),
}


def write(folder: Path, body: str, **head: str) -> Path:
    shutil.copy(CONFIG, folder / "base.yaml")
    (folder / "other.yaml").write_text("base: road_softmax_ce\n")
    path = folder / "mine.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in {**HEAD, **head}.items()) + body)
    return path


def refused(path: Path, *arguments: object) -> str:
    with pytest.raises(PlanError) as error:
        load_plan(path, *arguments)
    return str(error.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_by_file_variant_key_and_what_is_allowed(mistake, tmp_path):
    body, head, message = MISTAKES[mistake]
    path = write(tmp_path, body, **head)
    said = refused(path)
    assert said.startswith(f"{path}: ")
    assert message in said
    assert "\n" not in said


def test_the_mistakes_of_all_variants_are_told_at_once(tmp_path):
    path = write(tmp_path, "variants: {a: {}, b: {head.dept: 2}, c: {neck.channels: 0, training.epochs: 0}}")
    assert [line.removeprefix(f"{path}: ").split(": ")[:2] for line in refused(path).splitlines()] == [
        ["variant 'b'", "head"],
        ["variant 'c'", "neck.channels"],
        ["variant 'c'", "training.epochs"],
    ]


def test_a_level_that_only_a_partner_makes_possible_is_no_mistake(tmp_path):
    body = (
        "variants: {a: {}, b: {assigner: {name: center}, loss.confidence_target: quality}}"  # alone neither
    )
    assert load_plan(write(tmp_path, body)).variant("b").run.assigner.name == "center"


def test_the_config_of_one_run_is_no_ablation():
    assert "is the config of one run; an ablation has a base and variants of it" in refused(CONFIG)


def test_an_ablation_that_is_not_there_gets_the_nearest_shipped_one():
    assert refused(Path("ce_vs_bec")) == "ce_vs_bec: no such ablation file; did you mean 'ce_vs_bce'?"


def test_an_ablation_is_no_config_of_one_run():
    with pytest.raises(config.ConfigError, match=r"ce_vs_bce: no such config file; it is an ablation"):
        config.load("ce_vs_bce")


@pytest.mark.parametrize(
    ("override", "message"),
    [("seed=3", "'seed=3': seed is no matter"), ("head.dept=2", "base base.yaml: head: unknown key 'dept'")],
)
def test_a_wrong_override_is_named(override, message, tmp_path):
    assert message in refused(write(tmp_path, TWO), [override])


def test_an_override_that_takes_the_difference_away_is_refused(tmp_path):
    said = refused(write(tmp_path, TWO), ["head.depth=2"])
    assert "variant 'b': head.depth 2 changes nothing" in said


def test_a_count_of_seeds_below_one_is_refused(tmp_path):
    assert "seeds must be at least 1, got 0" in refused(write(tmp_path, TWO), (), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("baseline: a", "baseline: c"), "plan.yaml: baseline: no variant 'c'; there are a, b"),
        (("depth: 2", "depth: -2"), "plan.yaml: variant 'b': head.depth: Input should be greater"),
        (("overrides:", "overides:"), "unknown key 'overides'; did you mean 'overrides'?"),
        (("name: mine", "{"), "plan.yaml: not readable as YAML"),
    ],
)
def test_a_record_that_was_changed_by_hand_is_refused_by_name(change, message, tmp_path):
    text = dump_plan(load_plan(write(tmp_path, TWO)))
    with pytest.raises(PlanError) as error:
        parse_plan(text.replace(*change))
    assert message in str(error.value)
