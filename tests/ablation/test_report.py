"""What the report says, and that every number in it is the one it should be."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from report_cases import ERROR, edit_json, folder_of, make_ablation
from tiny_runs import write_data

from dethead.ablation.report import build_report
from dethead.ablation.report.build import comparable
from dethead.ablation.report.content import Content
from dethead.ablation.report.measured import measure
from dethead.ablation.results import read_results
from dethead.cli import main
from dethead.evaluation import coco_metrics, read_evaluation

FEW = 40  # resamples: here it is not their number that counts
THREE = "{a: {}, b: {class_scheme: {name: sigmoid_bce}}, again: {same_as: a, seed_offset: 9}}"
MANY = "{a: {}, " + ", ".join(f"v{n}: {{training.optimizer.lr: {n}.5e-3}}" for n in range(1, 21)) + "}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("report") / "data", train_images=4, val_images=14)


@pytest.fixture(scope="module")
def files(tmp_path_factory, data):
    """The report of an ablation that is finished, ``b`` far worse; not to be changed."""
    out = make_ablation(tmp_path_factory.mktemp("report"), data, seeds="3", shifts={"b": 0.4})
    return build_report(out, resamples=FEW)


@pytest.fixture(scope="module")
def interim(tmp_path_factory, data):
    """The report of one that is not; not to be changed."""
    states = {"a-seed2": "stopped", "b-seed1": "failed", "again-seed0": "waiting", "again-seed1": "waiting"}
    states |= {"again-seed2": "waiting", "b-seed2": "waiting"}
    out = make_ablation(tmp_path_factory.mktemp("interim"), data, THREE, seeds="3", states=states)
    return build_report(out, resamples=FEW)


def measured(folder):
    return {one.name: one for one in measure(read_results(folder))}


def section(markdown, title):
    """The rows of a table as dictionaries."""
    table = markdown.split(f"## {title}\n\n")[1].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    return [dict(zip(head, row, strict=True)) for row in rows]


# --- the answer


def test_the_page_leads_with_the_verdict_in_words(files):
    page = files.html.read_text()
    said = json.loads(files.json.read_text())["statistics"]["comparisons"][0]
    assert said["verdict"] == "worse"
    assert said["words"] in page
    assert page.index(said["words"]) < page.index("<table")


def test_the_markdown_and_the_terminal_lead_with_the_same_words(files):
    words = json.loads(files.json.read_text())["statistics"]["comparisons"][0]["words"]
    assert files.markdown.read_text().startswith(f"# mine\n\n- **worse**: {words}")
    assert files.answer == (words,)


def test_many_verdicts_are_summed_up_in_a_sentence_with_the_best_variants_first(tmp_path, data):
    out = make_ablation(tmp_path, data, THREE, seeds="3", shifts={"b": 0.4})
    files = build_report(out, resamples=FEW)
    assert re.fullmatch(r"Of 2 variants against a: 1 worse and 1 not told apart from it\.", files.answer[0])
    rows = section(files.markdown.read_text(), "Differences in AP")
    assert [row["variant"] for row in rows] == ["again", "b"]


def test_a_variant_that_should_equal_the_baseline_is_said_to(tmp_path, data):
    out = make_ablation(tmp_path, data, THREE, seeds="2")
    page = build_report(out, resamples=FEW).html.read_text()
    assert "It was expected to equal the baseline, and nothing speaks against it." in page


def test_shifted_seeds_are_compared_unpaired(tmp_path, data):
    out = make_ablation(tmp_path, data, THREE, states={"a-seed0": "waiting", "again-seed1": "waiting"})
    tables, unpaired = comparable(read_results(out))
    assert (set(tables), unpaired) == ({"a", "b", "again"}, ["again"])


def test_variants_without_a_common_seed_are_not_compared(tmp_path, data):
    out = make_ablation(tmp_path, data, states={"a-seed0": "waiting", "b-seed1": "waiting"})
    assert comparable(read_results(out))[0].keys() == {"a"}


# --- while others still train


def test_an_interim_report_says_how_many_runs_it_rests_on(interim):
    said = "3 of 9 runs are finished (1 stopped, 1 failed, 4 waiting)"
    assert f"<b>Interim report.</b> {said}" in interim.html.read_text()
    assert f"> **Interim report.** {said}" in interim.markdown.read_text()
    assert interim.answer[0].startswith(f"Interim report. {said}")


def test_where_only_failed_runs_are_missing_nothing_more_is_awaited(tmp_path, data):
    files = build_report(make_ablation(tmp_path, data, THREE, states={"b-seed1": "failed"}), resamples=FEW)
    page = files.html.read_text()
    assert "<b>Some runs failed.</b> 5 of 6 runs are finished (1 failed)." in page
    assert "Interim" not in page
    assert files.answer[0].startswith("Some runs failed. 5 of 6 runs are finished (1 failed).")


def test_an_ablation_whose_runs_all_failed_has_a_report_with_their_reasons(tmp_path, data):
    states = {f"{variant}-seed{seed}": "failed" for variant in "ab" for seed in (0, 1)}
    files = build_report(make_ablation(tmp_path, data, states=states), resamples=FEW)
    assert files.answer[0].startswith("All runs failed. 0 of 4 runs are finished (4 failed).")
    assert files.answer[1] == "No answer: no run of the baseline a is finished."
    assert files.html.read_text().count("the gradient is not finite") == 8  # at the top, and in the table


def test_runs_that_are_no_part_of_the_plan_are_named(tmp_path, data):
    out = make_ablation(tmp_path, data, seeds="1")
    shutil.copytree(folder_of(out, "b-seed0"), out / "runs" / "b-seed0-0123abcd")
    shutil.copytree(folder_of(out, "b-seed0"), out / "runs" / "b-seed7-0123abcd")
    (out / "runs" / ".DS_Store").touch()
    said = "is no run of this plan, and is left out: b-seed0-0123abcd, b-seed7-0123abcd."
    assert said in build_report(out, resamples=FEW).html.read_text()


def test_verdicts_of_an_interim_report_rest_on_the_seeds_that_are_complete(interim):
    (comparison,) = json.loads(interim.json.read_text())["statistics"]["comparisons"]
    assert (comparison["variant"], comparison["seeds"]) == ("b", [0])
    assert "Nothing can be said yet of again" in interim.html.read_text()


def test_failed_and_missing_runs_are_named(interim):
    page = interim.html.read_text()
    assert (
        "<b>b-seed1</b>: FloatingPointError: the gradient is not finite &lt;at step 7&gt; &amp; so on" in page
    )
    assert "a-seed2 (stopped)" in page
    assert {
        row["variant"] + row["seed"]: row["state"] for row in section(interim.markdown.read_text(), "Runs")
    }["b1"] == "failed"


def test_runs_that_still_train_are_in_the_learning_curves(interim):
    assert 'id="learning"' in interim.html.read_text()
    epochs = {
        row["variant"] + row["seed"]: row["epochs"] for row in section(interim.markdown.read_text(), "Runs")
    }
    assert (epochs["a0"], epochs["a2"], epochs["again0"]) == ("2 of 2", "1 of 2", "0 of 2")


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ({"a-seed0": "failed"}, ": no run of the baseline a is finished"),
        (
            {"b-seed0": "waiting"},
            " yet: no variant has a finished run of a seed that the baseline a has, too",
        ),
        ({"a-seed0": "waiting", "b-seed0": "waiting"}, " yet: no run of the baseline a is finished"),
    ],
)
def test_without_a_complete_pair_there_is_a_report_without_statistics(tmp_path, data, states, reason):
    files = build_report(make_ablation(tmp_path, data, seeds="1", states=states), resamples=FEW)
    assert files.answer[1:] == (f"No answer{reason}.",)
    assert reason in files.html.read_text()
    assert json.loads(files.json.read_text())["statistics"] is None


# --- the numbers


def test_means_and_deviations_are_those_of_the_runs_scored_one_by_one(files, data):
    results = read_results(files.html.parent)
    paths = [run.folder / "detections.json" for run in results.of("b")]
    aps = [coco_metrics(read_evaluation(path, results.coco)).AP for path in paths]
    row = next(one for one in json.loads(files.json.read_text())["variants"] if one["name"] == "b")
    assert row["mean"]["AP"] == pytest.approx(np.mean(aps), abs=1e-12)
    assert row["standard_deviation"]["AP"] == pytest.approx(np.std(aps, ddof=1), abs=1e-12)
    shown = section(files.markdown.read_text(), "COCO numbers")[1]
    assert (shown["variant"], shown["AP"]) == (
        "b",
        f"{100 * np.mean(aps):.1f} ± {100 * np.std(aps, ddof=1):.1f}",
    )


def test_the_csv_has_a_row_with_all_numbers_for_each_run(interim):
    rows = list(csv.DictReader(interim.csv.open()))
    assert [(row["variant"], row["seed"], row["state"]) for row in rows][:2] == [
        ("a", "0", "finished"),
        ("b", "0", "finished"),
    ]
    results = read_results(interim.csv.parent)
    finished = next(row for row in rows if (row["variant"], row["seed"]) == ("b", "0"))
    assert float(finished["AP"]) == results.of("b")[0].metrics["AP"]
    assert float(finished["AP car"]) == results.of("b")[0].metrics["per_class"][0]["AP"]
    failed = next(row for row in rows if row["state"] == "failed")
    assert (failed["AP"], failed["problem"]) == ("", ERROR)


def test_numbers_that_are_not_defined_are_null(files):
    values = json.loads(files.json.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert values["variants"][0]["mean"]["APl"] is None  # no object is larger than 96 x 96
    assert section(files.markdown.read_text(), "COCO numbers")[0]["APl"] == "-"


def test_the_curve_over_recall_has_the_ap_as_its_area(files):
    for one in measured(files.html.parent).values():
        for run in one.runs:
            found = run.precision.mean(axis=1)
            assert found == pytest.approx([run.metrics.AP50, run.metrics.AP75, run.metrics.AP], abs=1e-12)


def test_pooled_calibration_is_that_of_all_claims_together(files):
    one = measured(files.html.parent)["a"]
    pooled = one.pooled("score")
    each = [run.reliability["score"] for run in one.runs]
    place = int(pooled.claims.argmax())
    right = sum(diagram.right[place] * diagram.claims[place] for diagram in each if diagram.claims[place])
    assert pooled.claims.tolist() == sum(diagram.claims for diagram in each).tolist()
    assert pooled.right[place] == pytest.approx(right / pooled.claims[place])
    assert np.isnan(pooled.right[pooled.claims == 0]).all()


def test_scores_that_are_no_probabilities_leave_calibration_out(tmp_path, data):
    out = make_ablation(tmp_path, data, seeds="1")
    path = folder_of(out, "b-seed0") / "detections.json"
    edit_json(path, lambda rows: [row.update(score=9 * row["score"]) for row in rows])
    one = measured(out)
    assert (one["b"].pooled("score"), one["b"].runs[0].reliability) == (None, {})
    assert one["a"].pooled("score") is not None


def test_cost_is_shown_in_readable_units(files):
    row = section(files.markdown.read_text(), "What training took")[0]
    values = {"training images/s": "8.0 ± 0.0", "training min": "1.0 ± 0.0", "peak memory MiB": "1024 ± 0"}
    assert {name: row[name] for name in values} == values
    assert row["parameters M"] == "5.00"


def test_a_run_that_does_not_say_what_it_took_shows_nothing(tmp_path, data):
    out = make_ablation(tmp_path, data, seeds="1")
    for name in ("a-seed0", "b-seed0"):
        edit_json(folder_of(out, name) / "metrics.json", lambda values: values.pop("peak_memory_bytes"))
    files = build_report(out, resamples=FEW)
    assert section(files.markdown.read_text(), "What training took")[0]["peak memory MiB"] == "-"


def test_oracles_are_shown_as_gains_where_all_runs_of_a_variant_have_them(tmp_path, data):
    out = make_ablation(tmp_path, data, seeds="1")
    (folder_of(out, "a-seed0") / "oracles.json").write_text(
        json.dumps({"box": {"AP": 0.9}, "class": {"AP": 0.0}})
    )
    rows = section(build_report(out, resamples=FEW).markdown.read_text(), "AP gained with true")
    ap = measured(out)["a"].mean_ap
    assert len(rows) == 1
    assert (rows[0]["boxes"], rows[0]["classes"]) == (f"{100 * (0.9 - ap):.1f}", f"{-100 * ap:.1f}")
    assert rows[0]["confidences"] == "-"


def test_what_an_oracle_gains_is_counted_on_the_images_that_it_was_asked_about(tmp_path, data):
    out = make_ablation(tmp_path, data, seeds="1")
    (folder_of(out, "a-seed0") / "oracles.json").write_text(json.dumps({"box": {"AP": 0.9}}))
    skipped = {"unreadable": {"train": 0, "val": 3}}
    edit_json(
        folder_of(out, "a-seed0") / "metrics.json",
        lambda values: (values["last"].update(AP=0.7), values.update(skipped)),
    )
    (row,) = section(build_report(out, resamples=FEW).markdown.read_text(), "AP gained with true")
    assert row["boxes"] == "20.0"


def test_without_oracles_the_page_says_how_to_get_them(files):
    assert "--oracles" in files.html.read_text()


def test_detections_that_are_not_those_of_the_last_validation_are_called_out(tmp_path, data):
    out = make_ablation(tmp_path, data, seeds="1")
    edit_json(folder_of(out, "b-seed0") / "metrics.json", lambda values: values["last"].update(AP=0.987))
    page = build_report(out, resamples=FEW).html.read_text()
    assert "b-seed0: its detections have AP" in page
    assert "98.70 %; they do not belong together" in page
    assert "a-seed0: its detections" not in page


def test_only_keys_that_differ_are_in_the_config_diff(files):
    rows = section(files.markdown.read_text(), "What the variants change")
    assert {
        "variant": "b",
        "key": "class_scheme.name",
        "a": "softmax_ce",
        "variant's value": "sigmoid_bce",
    } in rows
    assert {row["variant"] for row in rows} == {"b"}
    assert all(row["key"].startswith("class_scheme.") for row in rows)


# --- the page as a file


def test_the_page_is_complete_in_itself(files):
    page = files.html.read_text()
    links = re.findall(r"(?:src|href)=\"([^\"]{0,24})", page)
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"https?://|@import|url\(", page)


def test_names_of_classes_files_and_errors_cannot_become_markup(tmp_path):
    data = write_data(tmp_path / "data", train_images=4, val_images=12)
    evil = "<img src=x onerror=alert(1)>|*&"
    for split in ("train", "val"):
        path = data / "annotations" / f"instances_{split}.json"
        edit_json(path, lambda values: values["categories"][0].update(name=evil))
    variants = (
        f"{{a: {{data.classes: ['{evil}', truck]}}, b: {{data.classes: ['{evil}', truck], head.depth: 2}}}}"
    )
    files = build_report(make_ablation(tmp_path, data, variants, seeds="1"), resamples=FEW)
    page = files.html.read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;|*&amp;" in page
    assert r"| &lt;img src=x onerror=alert(1)&gt;\|\*&amp; |" in files.markdown.read_text()


def test_twenty_one_variants_stay_readable(tmp_path, data):
    shifts = {f"v{n}": 0.05 + 0.03 * n for n in range(1, 21)}
    out = make_ablation(tmp_path, data, MANY, seeds="1", shifts=shifts)
    files = build_report(out, resamples=FEW)
    variants = list(measured(out).values())
    styles = [one.style for one in variants]
    assert (styles[0], styles.count("rest"), len(set(styles))) == ("s0", 14, 8)
    order = sorted(variants[1:], key=lambda one: -one.mean_ap)
    assert {one.name for one in variants if one.style not in ("s0", "rest")} == {
        one.name for one in (*order[:3], *order[-3:])
    }
    assert "14 others" in files.html.read_text()
    assert files.html.stat().st_size < 5e6


# --- the gallery


def test_the_gallery_begins_with_the_image_of_the_largest_disagreement(tmp_path, data):
    out = make_ablation(tmp_path, data, seeds="2")
    results = read_results(out)
    objects = np.bincount(results.runs[0].given.truth.image)
    less, most = np.flatnonzero(objects == 1)[0], np.flatnonzero(objects == 2)[-1]
    unseen = results.coco.image_ids[[less, most]].tolist()
    perfect = [
        {"image_id": image, "category_id": category, "bbox": box, "score": 0.9}
        for place, image in enumerate(results.coco.image_ids.tolist())
        for truth in [results.coco.evaluation_truth(place)]
        for box, category in zip(
            truth.boxes.tolist(),
            [results.coco.classes.category_ids[label] for label in truth.labels],
            strict=True,
        )
    ]
    for name in ("a-seed0", "a-seed1", "b-seed0", "b-seed1"):
        rows = perfect if name[0] == "a" else [row for row in perfect if row["image_id"] not in unseen]
        (folder_of(out, name) / "detections.json").write_text(json.dumps(rows))
    results = read_results(out)
    (room,) = Content(results, object(), measure(results)).gallery
    assert room.disagreeing == 2
    assert [one.file for one in room.exhibits] == [results.coco.file_name(int(row)) for row in (most, less)]
    assert room.exhibits[0].words == "2 objects; a finds 2, b finds 0 (mean over seeds)"
    assert [one.heading for one in room.exhibits[0].thumbnails] == ["truth", "a, seed 0", "b, seed 0"]


def test_an_image_that_cannot_be_read_is_counted_and_the_next_one_shown(tmp_path, data):
    moved = shutil.copytree(data, tmp_path / "data")
    out = make_ablation(tmp_path, moved, seeds="2", shifts={"b": 0.5})
    before = read_results(out)
    first = Content(before, object(), measure(before)).gallery[0]
    (moved / "images" / first.exhibits[0].file).write_bytes(b"no image")
    results = read_results(out)
    room = Content(results, object(), measure(results)).gallery[0]
    assert room.unreadable == 1
    assert room.exhibits[0].file == first.exhibits[1].file


def test_without_images_there_is_a_report_without_gallery(tmp_path, data):
    out = make_ablation(tmp_path, data, seeds="1")
    edit_json(out / "data.json", lambda made_of: made_of["val"].update(images="/not/there"))
    page = build_report(out, resamples=FEW).html.read_text()
    assert "The image folder is not there" in page
    assert "data:image/jpeg" not in page


# --- the command


def test_the_command_prints_the_answer_and_where_the_report_is(tmp_path, data, capsys):
    out = make_ablation(tmp_path, data, seeds="2")
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(out)])
    said = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 0
    assert said[0] == json.loads((out / "results.json").read_text())["statistics"]["comparisons"][0]["words"]
    assert said[-1] == f"{out}/report.html, report.md, results.json, results.csv"


def test_the_command_reads_the_truth_where_it_is_told_to(tmp_path, data, capsys):
    moved = shutil.copytree(data, tmp_path / "data")
    out = make_ablation(tmp_path, moved, seeds="2")
    named = (moved / "annotations" / "instances_val.json").rename(tmp_path / "labels.json")
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(out)])
    assert stopped.value.code == 2
    assert "say where it is with --data or --val-annotations" in capsys.readouterr().err.replace("\n", " ")
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(out), "--val-annotations", str(named), "--val-images", str(moved / "images")])
    assert stopped.value.code == 0
    assert "report.html" in capsys.readouterr().out


def test_the_command_refuses_a_folder_without_an_ablation(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(tmp_path)])
    assert stopped.value.code == 2
    assert f"{tmp_path}: holds no ablation (no plan.yaml)" in capsys.readouterr().err


def test_a_report_made_again_replaces_the_one_before(files):
    before = {path: path.read_bytes() for path in files[:4]}
    build_report(files.html.parent, resamples=FEW)
    assert {path: path.read_bytes() for path in files[:4]} == before
