"""Comparing two sets of detections, and the intervals of one."""

import io
import json
import math

import numpy as np
import pytest
from drawn_sets import draw_set
from rich.console import Console

from dethead.evaluation.bootstrap import bootstrap, spread
from dethead.evaluation.coco import coco_metrics
from dethead.evaluation.comparison import compare
from dethead.evaluation.intervals import bca_interval, holm, percentile_interval, shifted_p_value
from dethead.evaluation.matches import match
from dethead.evaluation.rules import CocoRules
from dethead.evaluation.uncertainty import score_intervals

GIVEN = draw_set(images=60, classes=3, seed=5)


def with_worse_boxes(given, by=0.3):
    found = given.detections
    shift = np.random.default_rng(0).normal(0, by, found.boxes.shape) * found.boxes[:, [2, 3, 2, 3]]
    boxes = found.boxes + shift
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
    return given._replace(detections=found._replace(boxes=boxes))


@pytest.fixture(scope="module")
def tables():
    return match(GIVEN), match(with_worse_boxes(GIVEN))


@pytest.fixture(scope="module")
def found(tables):
    return compare(*tables, 400, 3)


def test_the_numbers_are_those_of_the_engine_and_the_difference_is_b_minus_a(found):
    a, b = coco_metrics(GIVEN), coco_metrics(with_worse_boxes(GIVEN))
    assert [one.name for one in found.numbers] == [*a.numbers()]
    expected = {name: (a.numbers()[name], b.numbers()[name]) for name in a.numbers()}
    for one in found.numbers:
        assert (one.a, one.b) == pytest.approx(expected[one.name], abs=1e-12)
        assert one.difference == one.b - one.a
    assert [one.name for one in found.classes] == ["class 0", "class 1", "class 2"]
    assert [one.a for one in found.classes] == pytest.approx([c.AP for c in a.per_class], abs=1e-12)


def test_resamples_are_paired(found, tables):
    """Interval and p-value are those of differences on the same images."""
    a, b = (bootstrap(table, 400, 3).numbers[:, 0] for table in tables)
    ap = found.numbers[0]
    assert ap.interval == percentile_interval(b - a)
    assert ap.p_value == shifted_p_value(b - a, ap.difference)


def test_bca_intervals_are_those_of_the_difference(tables):
    ap = compare(*tables, 100, intervals="bca").numbers[0]
    a, b = (spread(table, 100) for table in tables)
    left_out = b.left_out.numbers[:, 0] - a.left_out.numbers[:, 0]
    resampled = b.resampled.numbers[:, 0] - a.resampled.numbers[:, 0]
    assert ap.interval == bca_interval(resampled, ap.difference, left_out)


def test_classes_and_sizes_are_corrected_as_families_and_other_numbers_not(found):
    by_name = {one.name: one for one in found.numbers}
    sizes = [by_name[name] for name in ("APs", "APm", "APl")]
    for family in (sizes, found.classes):
        corrected = holm(np.array([one.p_value for one in family]))
        assert [one.p_holm for one in family] == pytest.approx(corrected.tolist(), nan_ok=True)
    assert math.isnan(by_name["AP"].p_holm)


def test_worse_boxes_are_called_worse_and_the_other_way_round_better(found, tables):
    assert found.verdict().startswith("B is worse than A: AP -")
    assert compare(tables[1], tables[0], 400).verdict().startswith("B is better than A: AP +")


def test_no_difference_found_says_how_large_it_could_be():
    slightly = match(with_worse_boxes(GIVEN, 0.002))
    found = compare(match(GIVEN), slightly, 200)
    most = 100 * max(abs(end) for end in found.numbers[0].interval)
    assert found.verdict().startswith("No difference found: AP ")
    assert found.verdict().endswith(f"It could be as large as {most:.1f} points.")


def test_identical_results_differ_by_exactly_0_with_p_1(tables):
    found = compare(tables[0], tables[0], 50)
    assert found.identical
    assert found.verdict() == "A and B are identical: no number differs."
    for one in [*found.numbers, *found.classes]:
        assert (one.difference, one.p_value, tuple(one.interval)) == (0.0, 1.0, (0.0, 0.0))


def test_fewer_than_10_images_with_objects_say_nothing_unless_nothing_differs():
    """A class in two images would else be told apart with any certainty: its resamples hardly vary."""
    truth = GIVEN.truth
    label = np.where(
        (truth.label == 2) & (truth.image > np.unique(truth.image[truth.label == 2])[1]), 0, truth.label
    )
    rare = GIVEN._replace(truth=truth._replace(label=label, crowd=np.zeros_like(truth.crowd)))
    table, other = match(rare), match(with_worse_boxes(rare))
    of_class = compare(table, other, 20).classes[2]
    assert of_class.images == 2
    assert of_class.difference != 0
    assert all(math.isnan(value) for value in (*of_class.interval, of_class.p_value, of_class.p_holm))
    assert compare(table, table, 20).classes[2].p_value == 1.0
    assert math.isnan(score_intervals(table, 20).class_ap[2].low)


def test_images_with_objects_are_counted(found):
    truth = GIVEN.truth
    small = ~truth.crowd & (truth.areas <= 1024)
    by_name = {one.name: one.images for one in found.numbers}
    assert by_name["AP"] == len(np.unique(truth.image[~truth.crowd]))
    assert by_name["APs"] == by_name["ARs"] == len(np.unique(truth.image[small]))
    of_class = ~truth.crowd & (truth.label == 1)
    assert found.classes[1].images == len(np.unique(truth.image[of_class]))


def test_a_number_that_is_undefined_stays_undefined():
    rules = CocoRules(area_ranges=(("all", 0.0, 1e10),))
    found = compare(match(GIVEN, rules), match(with_worse_boxes(GIVEN), rules), 20)
    small = found.numbers[3]
    assert small.name == "APs"
    assert all(math.isnan(value) for value in (small.a, small.difference, *small.interval, small.p_value))
    assert not found.identical


def test_without_an_object_nothing_can_be_said_not_even_that_they_are_identical():
    nothing = GIVEN._replace(truth=GIVEN.truth._replace(crowd=np.ones_like(GIVEN.truth.crowd)))
    found = compare(match(nothing), match(with_worse_boxes(nothing)), 20)
    assert not found.identical
    assert found.verdict().startswith("Nothing can be said about AP")


def test_resamples_that_cannot_reach_the_level_say_so_in_place_of_no_difference():
    """18 resamples tell p-values down to 1 / 19 = 0.053, and 19 down to 0.05."""
    table, other = match(GIVEN), match(with_worse_boxes(GIVEN))
    assert compare(table, other, 18).verdict().startswith("Too few resamples to tell, 18: AP -")
    assert compare(table, other, 19).verdict().startswith("B is worse than A: AP -")


def test_a_class_name_is_no_markup(tables):
    named = [table._replace(class_names=("[red]", "[/b]", "class 2")) for table in tables]
    console = Console(width=140, record=True, file=io.StringIO())
    for table in compare(*named, 20).as_tables():
        console.print(table)
    shown = console.export_text()
    assert "[red]" in shown
    assert "[/b]" in shown


def test_few_resamples_for_many_classes_take_p_values_from_the_normal_curve():
    """Three classes at 0.95 ask for 5 * 3 / 0.05 = 300 resamples, and one more counts itself."""
    table, other = match(GIVEN), match(with_worse_boxes(GIVEN))
    few, enough = compare(table, other, 298), compare(table, other, 299)
    assert (few.class_p_values, enough.class_p_values) == ("normal", "counted")
    strongest = min(one.p_value for one in few.classes)
    assert strongest < 1 / 299  # no count of so few resamples could say that


def test_json_is_complete_and_has_null_where_undefined(found):
    read = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert read["numbers"][0]["name"] == "AP"
    assert read["numbers"][0]["interval"] == [*found.numbers[0].interval]
    assert read["numbers"][0]["p_holm"] is None
    assert (read["images"], read["resamples"], read["seed"], read["level"]) == (60, 400, 3, 0.95)
    assert read["verdict"] == found.verdict()


def test_the_tables_show_every_number_and_class(found):
    console = Console(width=140, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in found.as_tables():
        console.print(table)
    shown = console.export_text()
    assert all(one.name in shown for one in [*found.numbers, *found.classes])
    assert f"{100 * found.numbers[0].difference:+.1f}" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda g: g._replace(class_names=("a", "b", "c")),
            r"classes differ: \['class 0', .* \['a', 'b', 'c'\]",
        ),
        (
            lambda g: g._replace(image_ids=g.image_ids + 1),
            "images differ: 60 and 60, image id 5 is in one only",
        ),
        (lambda g: g._replace(truth=g.truth._replace(crowd=~g.truth.crowd)), "objects differ: 180 and 180"),
        (lambda g: g._replace(truth=g.truth._replace(areas=g.truth.areas * 2)), "areas or crowds"),
    ],
    ids=["classes", "images", "crowds", "areas"],
)
def test_results_of_another_truth_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        compare(match(GIVEN), match(change(GIVEN)), 5)


def test_results_by_other_rules_are_refused():
    with pytest.raises(ValueError, match="the rules differ"):
        compare(match(GIVEN), match(GIVEN, CocoRules(max_detections=(1, 10, 50))), 5)


def test_score_intervals_hold_the_numbers_and_are_bca(tables):
    got = score_intervals(tables[0], 300, 1)
    samples = spread(tables[0], 300, 1)
    assert got.numbers["AP"] == samples.number(0).interval("bca", 0.95)
    assert got.class_ap[2] == samples.class_ap(2).interval("bca", 0.95)
    for name, value in coco_metrics(GIVEN).numbers().items():
        assert got.numbers[name].low <= value <= got.numbers[name].high
    read = json.loads(json.dumps(got.as_dict(), allow_nan=False))
    assert read["AP"] == [*got.numbers["AP"]]
    assert len(read["per_class_AP"]) == 3


def test_a_level_that_is_no_share_is_refused_before_the_work(tables):
    for work in (
        lambda: compare(*tables, 10**9, level=95),
        lambda: score_intervals(tables[0], 10**9, level=95),
    ):
        with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 95"):
            work()
