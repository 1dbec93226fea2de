"""How the 12 numbers are shown, and the rules they are measured by."""

import io
import json

import pytest
from rich.console import Console

from dethead.evaluation.metrics import NUMBER_NAMES, ClassMetrics, CocoMetrics
from dethead.evaluation.rules import CocoRules

NAN = float("nan")
VALUES = dict(zip(NUMBER_NAMES, [0.12345, 1.0, 0.0, NAN, *[0.5] * 8], strict=True))
METRICS = CocoMetrics(per_class=(ClassMetrics(name="car", objects=3, **VALUES),), **VALUES)


def test_as_dict_is_json_with_null_where_undefined():
    read = json.loads(json.dumps(METRICS.as_dict(), allow_nan=False))
    assert [*read] == [*NUMBER_NAMES, "per_class"]
    assert (read["AP"], read["APs"]) == (0.12345, None)
    assert read["per_class"][0]["name"] == "car"
    assert (read["per_class"][0]["objects"], read["per_class"][0]["APs"]) == (3, None)


def test_the_names_are_those_of_coco_in_its_order():
    assert " ".join(NUMBER_NAMES) == "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl"


def test_markdown_is_in_percent_with_one_decimal_and_a_dash_where_undefined():
    lines = METRICS.as_markdown().splitlines()
    assert lines[0].startswith("| class | objects | AP | AP50 |")
    assert lines[2].startswith("| all | 3 | 12.3 | 100.0 | 0.0 | - | 50.0 |")
    assert lines[3].startswith("| car | 3 | 12.3 |")
    assert len({line.count("|") for line in lines}) == 1


def test_the_terminal_table_shows_the_same():
    console = Console(width=160, file=io.StringIO())
    console.print(METRICS.as_table())
    shown = console.file.getvalue()
    assert [row for row in shown.splitlines() if "car" in row and "12.3" in row]


def shown_in(width, metrics):
    console = Console(width=width, file=io.StringIO())
    console.print(metrics.as_table())
    return console.file.getvalue()


def test_the_table_is_whole_in_a_terminal_of_80_characters():
    values = dict.fromkeys(NUMBER_NAMES, 0.456)
    classes = [ClassMetrics(name=name, objects=12345, **values) for name in ("motorbike", "pedestrian")]
    shown = shown_in(80, CocoMetrics(per_class=tuple(classes), **values))
    assert shown.split("class")[1].split()[:13] == ["objects", *NUMBER_NAMES]
    assert shown.count(" 45.6") == 3 * 12
    assert "motorbike 12345" in " ".join(shown.split())
    assert "pedestrian 12345" in " ".join(shown.split())


@pytest.mark.parametrize("name", ["[red]", "[/b] car", "a|b"])
def test_a_class_name_is_shown_as_it_is_and_not_taken_for_markup(name):
    metrics = CocoMetrics(per_class=(ClassMetrics(name=name, objects=3, **VALUES),), **VALUES)
    assert name in shown_in(120, metrics)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iou_thresholds": (0.6, 0.5)}, "iou_thresholds must be ascending"),
        ({"iou_thresholds": ()}, "iou_thresholds must be ascending and not empty"),
        ({"iou_thresholds": (0.0, 0.5)}, r"iou_thresholds must be in \(0, 1\]"),
        ({"max_detections": (0, 5)}, "max_detections must be at least 1"),
        ({"area_ranges": ()}, "area_ranges must have distinct names, at least one"),
    ],
)
def test_rules_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CocoRules(**changes)
