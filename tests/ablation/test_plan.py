"""Plans: what a file means, what is written down of it, and in what order its runs go."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_runs import CONFIG

from dethead import config
from dethead.ablation.plan import ABSENT, Difference, differences, dump_plan, load_plan, parse_plan
from dethead.config.sections import Recipe, SigmoidBCE

HEAD = "base: base.yaml\nbaseline: plain\nseeds: 2\n"
GRID = """
factors:
  scheme:
    plain: {}
    bce: {class_scheme: {name: sigmoid_bce}}
  weights:
    even: {}
    rare: {class_scheme.class_weights: {recipe: inverse}, loss.class_term.weight: 2.0}
"""


@pytest.fixture
def write(tmp_path):
    """Write a plan beside its base, the config of the tests."""
    shutil.copy(CONFIG, tmp_path / "base.yaml")

    def to_file(variants: str, head: str = HEAD) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(head + variants)
        return path

    return to_file


@pytest.fixture
def grid(write):
    return load_plan(write(GRID, HEAD.replace("plain", "plain+even")))


def test_a_variant_is_the_base_with_its_keys_changed_and_nothing_else(write):
    plan = load_plan(write("variants: {plain: {}, long: {training.epochs: 7, loss.box_term.weight: 2.0}}"))
    base = config.load(CONFIG)
    assert plan.variant("plain").run == base
    assert plan.variant("long").run == config.load(CONFIG, ["training.epochs=7", "loss.box_term.weight=2.0"])
    assert differences(plan) == {
        "plain": (),
        "long": (Difference("loss.box_term.weight", 1.0, 2.0), Difference("training.epochs", 2, 7)),
    }


def test_a_section_is_replaced_whole_where_merging_would_leave_keys_of_another_scheme(write):
    path = write(
        "changes: {class_scheme: {name: softmax_ce, label_smoothing: 0.1}}\n"
        "variants: {plain: {}, focal: {class_scheme: {name: focal, alpha: 0.25, gamma: 2.0}}}"
    )
    rows = {row.key: row[1:] for row in differences(load_plan(path))["focal"]}
    assert rows["class_scheme.name"] == ("softmax_ce", "focal")
    assert rows["class_scheme.label_smoothing"] == (0.1, ABSENT)
    assert rows["class_scheme.gamma"] == (ABSENT, 2.0)
    assert all(key.startswith("class_scheme.") for key in rows)


def test_changes_reach_every_variant_and_overrides_come_after_them(write):
    path = write("changes: {training.epochs: 5, neck.channels: 8}\nvariants: {plain: {}, b: {head.depth: 2}}")
    plan = load_plan(path, ["training.epochs=9"])
    assert [(one.run.training.epochs, one.run.neck.channels) for one in plan.variants] == [(9, 8), (9, 8)]
    assert plan.overrides == ("training.epochs=9",)


def test_a_grid_is_every_combination_of_levels(grid):
    assert [one.name for one in grid.variants] == ["plain+even", "plain+rare", "bce+even", "bce+rare"]
    assert dict(grid.variant("bce+rare").changes) == {
        "class_scheme": {"name": "sigmoid_bce"},
        "class_scheme.class_weights": {"recipe": "inverse"},
        "loss.class_term.weight": 2.0,
    }


def test_a_key_of_one_factor_goes_into_the_section_of_another_in_either_order(write, grid):
    head, weights = GRID.split("  weights:")
    swapped = f"factors:\n  weights:{weights}{head.removeprefix(chr(10) + 'factors:' + chr(10))}"
    other = load_plan(write(swapped, HEAD.replace("plain", "even+plain")))
    wanted = SigmoidBCE(name="sigmoid_bce", class_weights=Recipe(recipe="inverse"))
    assert grid.variant("bce+rare").run.class_scheme == wanted
    assert other.variant("rare+bce").run == grid.variant("bce+rare").run


def test_the_variants_of_a_grid_do_not_share_what_they_change(grid):
    assert grid.variant("bce+even").run.class_scheme == SigmoidBCE(name="sigmoid_bce")
    assert grid.variant("bce+even").changes == {"class_scheme": {"name": "sigmoid_bce"}}


def test_runs_go_seed_by_seed_with_the_baseline_first(write):
    plan = load_plan(write("variants: {a: {head.depth: 2}, plain: {}}"), seeds=2)
    assert [one.name for one in plan.runs()] == ["plain-seed0", "a-seed0", "plain-seed1", "a-seed1"]
    assert [one.run.seed for one in plan.runs()] == [0, 0, 1, 1]


def test_seeds_are_counted_listed_or_counted_by_who_asks(write):
    variants = "variants: {plain: {}, a: {head.depth: 2}}"
    assert load_plan(write(variants)).seeds == (0, 1)
    listed = write(variants, HEAD.replace("2", "[7, 3]"))
    assert load_plan(listed).seeds == (7, 3)
    assert load_plan(listed, seeds=3).seeds == (0, 1, 2)


def test_a_variant_expected_equal_takes_the_changes_of_the_other_and_may_shift_its_seeds(write):
    plan = load_plan(
        write(
            "variants:\n  plain: {}\n  again: {same_as: deep, seed_offset: 50}\n  deep: {head.depth: 2}\n"
            "  pieces: {same_as: deep, changes: {training.accumulate: 2}}"
        )
    )
    again, pieces = plan.variant("again"), plan.variant("pieces")
    assert again.run == plan.variant("deep").run
    assert (again.same_as, pieces.same_as) == ("deep", "deep")
    assert dict(pieces.changes) == {"head.depth": 2, "training.accumulate": 2}
    assert [(one.seed, one.run.seed) for one in plan.runs() if one.variant == again] == [(0, 50), (1, 51)]


def test_equal_variants_may_share_all_their_seeds(write):
    plan = load_plan(write("variants: {plain: {}, again: {same_as: plain}, twin: {same_as: plain}}"))
    assert len({one.run.model_dump_json() for one in plan.runs()}) == 2


def test_the_plan_that_is_written_down_reads_back_equal_without_its_files(write):
    path = write(
        "variants:\n  plain: {class_scheme: {name: sigmoid_bce}}\n"
        "  f: {class_scheme: {name: focal, alpha: null, gamma: 2.0}, training.optimizer.lr: 1.0e-5}\n"
        "  again: {same_as: plain, seed_offset: 9}"
    )
    plan = load_plan(path, ["training.epochs=3"])
    path.unlink()
    assert parse_plan(dump_plan(plan)) == plan


def test_a_grid_that_is_written_down_reads_back_equal(grid):
    assert parse_plan(dump_plan(grid)) == grid


def test_the_record_spells_out_the_baseline_and_of_the_others_what_differs(write):
    record = yaml.safe_load(dump_plan(load_plan(write("variants: {plain: {}, a: {head.depth: 2}}"))))
    assert record["run"] == config.load(CONFIG).model_dump(mode="json")
    assert record["variants"]["plain"] == {"changes": {}, "sections": {}}
    assert record["variants"]["a"]["changes"] == {"head.depth": 2}
    assert record["variants"]["a"]["sections"]["head"]["depth"] == 2
    assert [*record["variants"]["a"]["sections"]] == ["head"]


def test_every_difference_from_the_base_is_below_a_key_that_is_named(grid):
    base = grid.variant("plain+even")
    for name, rows in differences(grid).items():
        named = grid.variant(name).changes
        assert bool(rows) == (name != base.name)
        assert all(any(f"{row.key}.".startswith(f"{key}.") for key in named) for row in rows)


def test_a_shipped_config_is_the_base_by_its_name_wherever_the_plan_lies(write):
    plan = load_plan(
        write("variants: {plain: {}, a: {head.depth: 1}}", HEAD.replace("base.yaml", "road_softmax_ce"))
    )
    assert plan.variant("plain").run == config.load("road_softmax_ce")
    assert plan.base == "road_softmax_ce"


def test_who_asks_for_a_variant_that_is_not_there_gets_the_list(grid):
    with pytest.raises(KeyError, match=r"no variant 'bce' in mine: plain\+even, plain\+rare"):
        grid.variant("bce")


def test_a_plan_is_read_before_pytorch_is_loaded():
    script = (
        "import sys; from dethead.ablation.plan import load_plan; load_plan('ce_vs_bce'); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
