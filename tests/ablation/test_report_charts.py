"""Scales, lines and bands of the report's charts, and what is drawn of a log."""

import json

import numpy as np
import pytest
from report_cases import folder_of, make_ablation
from tiny_runs import write_data

from dethead.ablation.report.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, Line, Scale
from dethead.ablation.report.learning import learning_charts
from dethead.ablation.report.measured import measure
from dethead.ablation.results import read_results


@pytest.fixture(scope="module")
def charts(tmp_path_factory):
    """Of two seeds whose logs hold 1 and 2 times the same numbers."""
    folder = tmp_path_factory.mktemp("charts")
    data = write_data(folder / "data", train_images=4, val_images=12)
    results = read_results(make_ablation(folder, data))
    return {chart.title.split(",")[0]: chart for chart in learning_charts(results, measure(results))}


def line_of(chart, name):
    return next(line for line in chart.lines if line.name == name)


@pytest.mark.parametrize(
    ("scale", "texts"),
    [
        (Scale(0, 1), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (Scale(-2.1, 0.4), ["-2", "-1.5", "-1", "-0.5", "0"]),
        (Scale(0.1234, 0.1239), ["0.1234", "0.1235", "0.1236", "0.1237", "0.1238", "0.1239"]),
        (Scale(0, 12, whole=True), ["0", "3", "6", "9", "12"]),
        (Scale(0, 2, whole=True), ["0", "1", "2"]),
        (Scale(0.7, 30, log=True), ["1", "2", "5", "10", "20"]),
        (Scale(1e-3, 1e5, log=True), ["0.001", "0.01", "0.1", "1", "10", "100", "1000", "10000", "100000"]),
    ],
)
def test_marks_are_round_numbers_on_the_axis(scale, texts):
    ticks = scale.ticks()
    assert [tick.text for tick in ticks] == texts
    assert all(-1e-9 <= tick.share <= 1 + 1e-9 for tick in ticks)


@pytest.mark.parametrize(
    "values", [[], [float("nan")], [3.0], [0.0, 0.0], [-5.0, 7.0], [1e-9, 2e-9], [float("inf"), 1.0]]
)
def test_every_finite_value_is_on_the_scale(values):
    scale = Scale.around(values, zero=True)
    known = [value for value in [*values, 0.0] if np.isfinite(value)]
    assert ((scale.share(np.array(known)) >= 0) & (scale.share(np.array(known)) <= 1)).all()
    assert scale.ticks()


def test_values_over_decades_get_a_logarithmic_scale_unless_one_is_not_positive():
    assert Scale.around([0.1, 50.0], log=True).log
    assert not Scale.around([0.0, 50.0], log=True).log
    assert not Scale.around([1.0, 2.0], log=True).log


def test_a_logarithmic_scale_puts_equal_factors_at_equal_distances():
    assert Scale(1, 100, log=True).share(np.array([1.0, 10.0, 100.0])).tolist() == pytest.approx([0, 0.5, 1])
    assert np.isnan(Scale(1, 100, log=True).share(0.0))


def drawn(y, low=None, high=None):
    line = Line("one", "s0", np.arange(float(len(y))), np.array(y), low, high)
    chart = Chart("title", "x", [line], Scale(0, len(y) - 1), Scale(0, 1))
    return chart.path(line), chart.band(line)


def test_a_line_runs_from_corner_to_corner():
    assert drawn([0.0, 1.0])[0] == f"M{LEFT:.1f},{BOTTOM:.1f} {RIGHT:.1f},{TOP:.1f}"


def test_a_gap_splits_a_line_and_a_lone_point_becomes_a_dot():
    first, second = drawn([0.0, 0.0, np.nan, 1.0])[0].split("M")[1:]
    assert len(first.split()) == 2
    point, again = second.split()
    assert point == again == f"{RIGHT:.1f},{TOP:.1f}"


def test_a_band_goes_there_along_its_top_and_back_along_its_bottom():
    band = drawn([0.5, 0.5], np.array([0.0, 0.0]), np.array([1.0, 1.0]))[1]
    corners = [(LEFT, TOP), (RIGHT, TOP), (RIGHT, BOTTOM), (LEFT, BOTTOM)]
    assert band == f"M{' '.join(f'{x:.1f},{y:.1f}' for x, y in corners)}Z"


def test_a_range_of_no_width_has_no_band():
    same = np.array([0.5, 0.5])
    assert drawn([0.5, 0.5], same, same)[1] == drawn([0.5, 0.5])[1] == ""


def test_ap_is_drawn_in_percent_at_the_epochs_of_the_validations(charts):
    line = line_of(charts["AP"], "a, validation")
    assert line.x.tolist() == [1, 2]
    assert line.y.tolist() == pytest.approx([15, 30])  # mean of 0.1 * epoch * (1, 2), in percent


def test_bands_reach_from_the_lowest_seed_to_the_highest(charts):
    line = line_of(charts["AP"], "a, validation")
    assert (line.low.tolist(), line.high.tolist()) == ([10, 20], [20, 40])


def test_every_loss_term_has_a_panel_with_training_and_validation(charts):
    assert [*charts] == ["AP", "AP50", "all loss terms together", "box"]
    trained, validated = (line_of(charts["box"], f"b, {kind}") for kind in ("training", "validation"))
    assert trained.x.tolist() == [0.5, 1, 1.5, 2]
    assert trained.y.tolist() == pytest.approx([1.5, 1.5, 0.75, 0.75])
    assert validated.y.tolist() == pytest.approx([3, 3])
    assert (trained.dashed, validated.dashed) == (False, True)


def test_a_number_that_was_never_defined_has_no_panel(charts):
    assert "AP75" not in charts


def test_the_baseline_is_drawn_on_top(charts):
    assert charts["AP"].lines[-1].style == "s0"


def test_long_logs_are_drawn_as_means_over_stretches(tmp_path):
    data = write_data(tmp_path / "data", train_images=4, val_images=12)
    out = make_ablation(tmp_path, data, seeds="1")
    lines = [{"step": n, "epoch": n / 100, "total": float(n % 2), "box": 1.0} for n in range(1, 401)]
    lines.append({"step": 400, "epoch": 4, "val": {"AP": 0.5, "total": 1.0}})
    (folder_of(out, "b-seed0") / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = read_results(out)
    chart = next(one for one in learning_charts(results, measure(results)) if "together" in one.title)
    line = line_of(chart, "b, training")
    assert len(line.x) == 40
    assert line.y[1:-1] == pytest.approx(np.full(38, 0.5), abs=0.06)


def test_a_mean_over_seeds_is_of_the_same_epochs_also_while_one_still_trains(tmp_path):
    data = write_data(tmp_path / "data", train_images=4, val_images=12)
    out = make_ablation(tmp_path, data, states={"b-seed1": "stopped"})
    for name, steps, total in (("b-seed0", 400, 1.0), ("b-seed1", 100, 3.0)):
        lines = [{"step": n, "epoch": n / 100, "total": total} for n in range(1, steps + 1)]
        lines.append({"step": steps, "epoch": steps // 100, "val": {"AP": 0.5, "total": 1.0}})
        (folder_of(out, name) / "log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    results = read_results(out)
    chart = next(one for one in learning_charts(results, measure(results)) if "together" in one.title)
    line = line_of(chart, "b, training")
    assert len(line.x) == 40
    assert line.y[:10].tolist() == [2.0] * 10
    assert line.y[11:].tolist() == [1.0] * 29
