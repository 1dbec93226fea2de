"""Reading the folder of an ablation, however far it is."""

import json
import shutil
from pathlib import Path

import pytest
from report_cases import ERROR, edit_json, folder_of, make_ablation
from tiny_runs import write_data

from dethead.ablation.results import read_results
from dethead.ablation.status import Status, write_status
from dethead.data import DataError
from dethead.evaluation import read_evaluation
from dethead.training.run_folder import RunFolderError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("results") / "data", train_images=4, val_images=12)


@pytest.fixture
def out(tmp_path, data):
    return make_ablation(tmp_path, data)


def by_name(results):
    return {run.planned.name: run for run in results.runs}


def test_every_run_of_the_plan_is_there_with_its_state(tmp_path, data):
    states = {"a-seed1": "failed", "b-seed0": "stopped", "b-seed1": "waiting"}
    runs = by_name(read_results(make_ablation(tmp_path, data, states=states)))
    assert {name: run.state for name, run in runs.items()} == {"a-seed0": "finished", **states}


def test_only_finished_runs_are_scored(tmp_path, data):
    out = make_ablation(tmp_path, data, states={"a-seed1": "failed", "b-seed1": "waiting"})
    tables = read_results(out).tables()
    assert {name: [*seeds] for name, seeds in tables.items()} == {"a": [0], "b": [0]}


def test_a_failed_run_says_why(tmp_path, data):
    out = make_ablation(tmp_path, data, states={"b-seed0": "failed"})
    assert by_name(read_results(out))["b-seed0"].problem == ERROR


def test_a_finished_run_without_its_detections_counts_as_failed(out):
    (folder_of(out, "b-seed1") / "detections.json").unlink()
    run = by_name(read_results(out))["b-seed1"]
    assert (run.state, run.table) == ("failed", None)
    assert "detections.json is not in its folder" in run.problem


def test_a_finished_run_without_its_metrics_counts_as_failed(out):
    for name in ("a-seed0", "b-seed0"):
        (folder_of(out, name) / "metrics.json").unlink()
    run = by_name(read_results(out))["a-seed0"]
    assert (run.state, run.problem) == ("failed", "finished, but metrics.json is not in its folder")


def test_a_run_that_ends_while_the_others_are_read_still_counts_as_training(tmp_path, data, monkeypatch):
    out = make_ablation(tmp_path, data, seeds="1", states={"b-seed0": "stopped"})
    path = folder_of(out, "b-seed0")

    def ends_meanwhile(*arguments):
        shutil.copy(folder_of(out, "a-seed0") / "detections.json", path)
        write_status(path, Status("finished"))
        return read_evaluation(*arguments)

    monkeypatch.setattr("dethead.ablation.results.read_evaluation", ends_meanwhile)
    assert by_name(read_results(out))["b-seed0"].state == "stopped"


def test_the_runs_of_a_variant_come_by_seed(tmp_path, data):
    out = make_ablation(tmp_path, data, seeds="[7, 3]")
    assert [run.planned.seed for run in read_results(out).of("b")] == [3, 7]


def test_a_log_whose_last_line_is_being_written_is_read_up_to_it(out):
    with (folder_of(out, "a-seed0") / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "ep')
    assert by_name(read_results(out))["a-seed0"].log[-1]["epoch"] == 2


def test_all_categories_of_the_file_are_the_classes_where_the_config_names_none(tmp_path, data):
    out = make_ablation(
        tmp_path, data, "{a: {data.classes: null}, b: {data.classes: null, training.epochs: 3}}"
    )
    assert read_results(out).coco.classes.names == ("car", "pedestrian", "truck")


def test_before_a_run_is_finished_the_truth_is_not_needed(tmp_path, data):
    states = {f"{variant}-seed{seed}": "waiting" for variant in "ab" for seed in (0, 1)}
    out = make_ablation(tmp_path, data, states=states)
    edit_json(out / "data.json", lambda made_of: made_of["val"].update(annotations="/not/there.json"))
    assert read_results(out).coco is None


def test_truth_that_is_gone_is_named_with_the_option_that_helps(out):
    edit_json(out / "data.json", lambda made_of: made_of["val"].update(annotations="/not/there.json"))
    with pytest.raises(DataError, match=r"/not/there\.json: is not there any more; .*--data"):
        read_results(out)


def test_truth_elsewhere_is_found_by_its_data_folder(out, data, tmp_path):
    moved = shutil.copytree(data, tmp_path / "moved")
    edit_json(out / "data.json", lambda made_of: made_of["val"].update(annotations="/not/there.json"))
    results = read_results(out, moved)
    assert (results.coco.path.parents[1], results.images) == (moved, moved / "images")


@pytest.mark.parametrize("with_data", [True, False])
def test_truth_under_another_name_is_read_where_one_says_it_is(out, data, tmp_path, with_data):
    moved = shutil.copytree(data, tmp_path / "moved")
    named = (moved / "annotations" / "instances_val.json").rename(moved / "annotations" / "labels.json")
    pictures = (moved / "images").rename(moved / "jpg")
    edit_json(out / "data.json", lambda made_of: made_of["val"].update(annotations="/not/there.json"))
    results = read_results(out, moved if with_data else None, annotations=named, images=pictures)
    assert (results.coco.path, results.images) == (named, pictures)
    assert len(results.finished) == 4


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"annotations": Path("/no/such.json")}, "/no/such.json: no such annotation file"),
        ({"images": Path("/no/such")}, "/no/such: no such image folder"),
    ],
)
@pytest.mark.parametrize("with_data", [True, False])
def test_a_named_place_of_the_truth_that_is_not_there_is_refused(out, data, with_data, named, message):
    with pytest.raises(DataError, match=message):
        read_results(out, data if with_data else None, **named)


def test_other_truth_than_the_runs_were_scored_against_is_refused(out, tmp_path):
    other = write_data(tmp_path / "other", train_images=4, val_images=13)
    with pytest.raises(
        DataError, match=r"instances_val\.json: is not the file that the runs were scored against"
    ):
        read_results(out, other)


@pytest.mark.parametrize("given", [True, False])
def test_without_the_image_folder_the_rest_is_read(out, data, tmp_path, given):
    annotations = shutil.copytree(data / "annotations", tmp_path / "bare" / "annotations")
    recorded = {"annotations": str(annotations / "instances_val.json"), "images": str(tmp_path / "gone")}
    edit_json(out / "data.json", lambda made_of: made_of["val"].update(recorded))
    results = read_results(out, annotations.parent if given else None)
    assert results.images is None
    assert len(results.finished) == 4


@pytest.mark.parametrize("file", ["plan.yaml", "data.json"])
def test_a_folder_without_an_ablation_is_refused(out, file):
    (out / file).unlink()
    with pytest.raises(RunFolderError, match=rf"{out}: holds no ablation \(no {file}\)"):
        read_results(out)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read as JSON"), ("[]", "must hold a mapping")]
)
def test_a_damaged_file_is_named(out, text, message):
    path = folder_of(out, "b-seed0") / "metrics.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"b-seed0-\w+/metrics\.json: {message}"):
        read_results(out)


def test_totals_are_apart_from_validations(out):
    run = read_results(out).runs[0]
    assert (run.totals["parameters"], run.metrics["epoch"]) == (5_000_000, 2)
    assert not {"best", "last"} & run.totals.keys()


def test_the_oracles_of_a_run_are_read_where_they_are(out):
    (folder_of(out, "a-seed0") / "oracles.json").write_text(json.dumps({"box": {"AP": 0.5}}))
    runs = by_name(read_results(out))
    assert (runs["a-seed0"].oracles, runs["a-seed1"].oracles) == ({"box": {"AP": 0.5}}, {})
