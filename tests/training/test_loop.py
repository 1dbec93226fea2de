"""One process training in this one: what it does to the weights and what it leaves in its folder."""

import json
import math
import re
import shutil
from unittest.mock import patch

import pytest
import torch
from tiny_runs import load_run, log_lines, tensors, train_tiny, weights

from dethead.config import ConfigError
from dethead.data import DataError
from dethead.structures import ClassesSeen, GroundTruth, HeadOutput
from dethead.training import Inputs
from dethead.training.accelerator import make_accelerator
from dethead.training.inputs import open_data
from dethead.training.loop import Trainer
from dethead.training.run_folder import RunFolder, RunFolderError

TERMS = ("total", "classification", "confidence", "box")
SGD = "training.optimizer={name: sgd, lr: 0.1, backbone_lr_factor: 1.0}"
ONE_STEP = ("training.epochs=1", "training.batch_size=8", SGD, "training.schedule.warmup_steps=0")


def trainer(data, out, *overrides):
    run, inputs = load_run(*overrides), Inputs.find(data, device="cpu")
    return Trainer(run, inputs, open_data(run, inputs), make_accelerator("cpu"), RunFolder(out))


# --- the run folder


def test_a_run_folder_is_complete(tiny_run):
    names = {str(path.relative_to(tiny_run)) for path in tiny_run.rglob("*") if path.is_file()}
    assert {n for n in names if not n.startswith("examples/")} == {
        "config.yaml",
        "environment.json",
        "log.jsonl",
        "metrics.json",
        "detections.json",
        "oracles.json",
        "curves.png",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
    }
    assert {n for n in names if n.startswith("examples/")} == {f"examples/{i}.jpg" for i in range(18, 22)}


def test_every_line_about_steps_has_loss_terms_rate_speed_and_gradient(tiny_run):
    lines = [line for line in log_lines(tiny_run) if "val" not in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert line.keys() >= {"epoch", "lr", "images_per_s", "gradient_norm", *TERMS}
        terms = [line[name] for name in TERMS[1:]]
        assert line["total"] == pytest.approx(sum(terms), rel=1e-5)
        assert min(line["images_per_s"], line["gradient_norm"], line["lr"]) > 0


def test_the_first_loss_is_what_the_priors_say(tiny_data, tmp_path):
    # The mean of four seeds: the few positives of one step share what its random weights add, up to 5 %.
    first = []
    for seed in range(4):
        train_tiny(tiny_data, tmp_path / str(seed), f"seed={seed}", "training.epochs=1")
        first.append(log_lines(tmp_path / str(seed))[0]["classification"])
    assert sum(first) / 4 == pytest.approx(math.log(3), rel=0.02)


def test_the_lines_about_validation_have_the_12_numbers_and_every_loss_term(tiny_run):
    lines = [line for line in log_lines(tiny_run) if "val" in line]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 2), (2, 4)]
    names = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}
    assert all(line["val"].keys() == names | {*TERMS} for line in lines)


def test_the_learning_rates_of_the_log_are_those_of_the_schedule(tiny_run):
    # by hand: 0.01 * warm-up (1/2, then 1) * (0.01 + 0.99 * (1 + cos(pi * k / 3)) / 2)
    found = [line["lr"] for line in log_lines(tiny_run) if "val" not in line]
    assert found == pytest.approx([0.005, 0.01 * (0.01 + 0.99 * 0.75), 0.01 * (0.01 + 0.99 * 0.25), 1e-4])


def test_a_log_line_is_the_mean_over_its_steps(tiny_data, tiny_run, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", "training.log_every=2", "training.epochs=2")
    one = [line["total"] for line in log_lines(tiny_run) if "val" not in line]
    two = [line["total"] for line in log_lines(tmp_path / "run") if "val" not in line]
    assert two == pytest.approx([(one[0] + one[1]) / 2, (one[2] + one[3]) / 2], rel=1e-5)


def test_metrics_json_is_what_train_gives_with_best_and_last(tiny_data, tmp_path):
    report = train_tiny(tiny_data, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == report
    totals = {"train_seconds", "images_per_s", "peak_memory_bytes", "parameters", "unreadable"}
    assert report.keys() == {"best", "last"} | totals
    assert report["unreadable"] == {"train": 0, "val": 0}
    assert report["last"]["epoch"] == 2
    assert [one["name"] for one in report["last"]["per_class"]] == ["car", "pedestrian", "truck"]
    assert report["last"]["APl"] is None  # no large objects: undefined is null in JSON, not -1


def test_the_best_epoch_is_the_one_of_the_highest_ap(tiny_data, tmp_path):
    report = train_tiny(tiny_data, tmp_path / "run", "training.epochs=4", "training.optimizer.lr=0.05")
    found = {line["epoch"]: line["val"]["AP"] for line in log_lines(tmp_path / "run") if "val" in line}
    assert report["best"]["AP"] == max(found.values())
    assert found[report["best"]["epoch"]] == report["best"]["AP"]
    best = tensors(tmp_path / "run" / "checkpoints" / "best.pt")
    assert best["/epoch"] == report["best"]["epoch"]


def test_validation_comes_every_n_epochs_and_at_the_end(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", "training.epochs=3", "training.validate_every=2")
    assert [line["epoch"] for line in log_lines(tmp_path / "run") if "val" in line] == [2, 3]


def test_the_environment_names_versions_device_data_and_command(tiny_run):
    found = json.loads((tiny_run / "environment.json").read_text())
    assert found["torch"] == torch.__version__
    assert (found["device"], found["processes"]) == ("cpu", 1)
    assert found["files"].keys() == {"train", "val"}
    assert found.keys() >= {"dethead", "commit", "python", "torchvision", "numpy", "accelerate", "threads"}
    assert found["files"]["train"]["name"] == "instances_train.json"
    assert len(found["files"]["val"]["sha256"]) == 64


def test_the_best_checkpoint_holds_the_average_and_not_the_weights(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", "training.epochs=1")
    last, best = (tensors(tmp_path / "run" / "checkpoints" / f"{name}.pt") for name in ("last", "best"))
    key = "head.prediction.weight"
    assert torch.equal(best[f"/model/{key}"], last[f"/average/{key}"])
    assert not torch.equal(best[f"/model/{key}"], last[f"/model/{key}"])


def test_without_an_average_the_weights_themselves_are_kept(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", "training.epochs=1", "training.ema=null")
    last, best = (weights(tmp_path / "run", name) for name in ("last", "best"))
    assert all(torch.equal(last[key], best[key]) for key in last)


def losses_in(line):
    return re.search(
        r"loss ([\d.]+) \(classification ([\d.]+), confidence ([\d.]+), box ([\d.]+)\)", line
    ).groups()


@pytest.mark.parametrize(("threshold", "told"), [(0.9999, 1), (0.0, 0)])
def test_an_epoch_without_detections_is_explained(tiny_data, tmp_path, capsys, threshold, told):
    train_tiny(tiny_data, tmp_path / "run", *ONE_STEP, f"postprocess.score_threshold={threshold}")
    said = capsys.readouterr().out
    assert said.count("nothing was detected on val") == told
    assert said.count(f"no score reaches postprocess.score_threshold {threshold:g}") == told


@pytest.mark.parametrize("stopped", [False, True])
def test_the_line_of_an_epoch_tells_the_mean_of_all_its_steps(tiny_data, tmp_path, capsys, stopped):
    one_image = ("training.epochs=1", "training.batch_size=1")
    every_step = tmp_path / "every_step"
    train_tiny(tiny_data, every_step, *one_image)
    steps = [line for line in log_lines(every_step) if "val" not in line]
    assert len(steps) == 8
    names = ("total", "classification", "confidence", "box")
    means = tuple(f"{sum(line[name] for line in steps) / 8:.3f}" for name in names)
    capsys.readouterr()
    rarely = (*one_image, "training.log_every=3", "training.checkpoint_every=5")
    if stopped:
        with patch.object(Trainer, "_note", stop_after(5)), pytest.raises(KeyboardInterrupt):
            train_tiny(tiny_data, tmp_path / "run", *rarely)
    train_tiny(tiny_data, tmp_path / "run", *rarely, resume=stopped)
    assert losses_in(capsys.readouterr().out) == means


def stop_after(steps):
    note = Trainer._note

    def noting(trainer, *args):
        if trainer.step > steps:
            raise KeyboardInterrupt
        note(trainer, *args)

    return noting


# --- what is refused before any work


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tiny_data, tiny_run):
    before = (tiny_run / "log.jsonl").read_bytes()
    with pytest.raises(RunFolderError, match=r"holds a run already; go on with --resume"):
        train_tiny(tiny_data, tiny_run)
    assert (tiny_run / "log.jsonl").read_bytes() == before


def test_fewer_images_than_a_batch_are_refused_also_with_micro_batches(tiny_data, tmp_path):
    with pytest.raises(DataError, match=r"8 images do not fill one step of training\.batch_size 16"):
        train_tiny(tiny_data, tmp_path / "run", "training.batch_size=16", "training.accumulate=4")
    assert not (tmp_path / "run").exists()


def test_a_list_by_class_must_fit_the_classes_of_the_data(tiny_data, tmp_path):
    scheme = "class_scheme.class_weights=[1.0, 2.0]"
    with pytest.raises(ValueError, match=r"class_weights"):
        train_tiny(tiny_data, tmp_path / "run", "data.classes=null", scheme)
    assert not (tmp_path / "run").exists()


# --- steps


def test_a_step_of_sgd_moves_against_the_gradient(tiny_data, tmp_path):
    """By hand: w - lr * gradient of the whole batch; no momentum yet, no clipping, no decay."""
    sgd = "training.optimizer={name: sgd, lr: 0.1, weight_decay: 0.0}"
    one = trainer(tiny_data, tmp_path, *ONE_STEP[:2], sgd, ONE_STEP[3], "training.clip_norm=null")
    before = {key: value.clone() for key, value in one.detector.state_dict().items()}
    batch = next(iter(one.loader))
    terms = one.criterion(one.detector(batch.images), one._assign(batch, None), batch.truth, one.anchors)
    gradient = torch.autograd.grad(terms.total, [*one.detector.parameters()])
    one._step([batch])
    for (name, value), slope in zip(one.detector.named_parameters(), gradient, strict=True):
        torch.testing.assert_close(value.detach(), before[name] - 0.1 * slope)


def test_the_gradient_is_clipped_to_the_norm_and_logged_before(tiny_data, tmp_path):
    sgd = "training.optimizer={name: sgd, lr: 1.0, weight_decay: 0.0}"
    one = trainer(tiny_data, tmp_path, *ONE_STEP[:2], sgd, ONE_STEP[3], "training.clip_norm=0.5")
    before = [p.detach().clone() for p in one.detector.parameters()]
    norm = 0.0
    one.record.steps = lambda line, step, epoch: setattr(one, "line", line)
    one._step([next(iter(one.loader))])
    moved = torch.cat([(p - b).flatten() for p, b in zip(one.detector.parameters(), before, strict=True)])
    norm = one.line["gradient_norm"]
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert norm > 1.0


def test_2_x_4_accumulated_images_move_the_weights_as_8(tiny_data, tmp_path):
    for name, accumulate in (("one", 1), ("two", 2)):
        train_tiny(tiny_data, tmp_path / name, *ONE_STEP, f"training.accumulate={accumulate}")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    start = trainer(tiny_data, tmp_path / "x", *ONE_STEP).detector.state_dict()
    assert max((one[key] - start[key]).abs().max() for key in one) > 1e-2
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=1e-6)


def test_an_assigner_that_looks_ahead_at_predictions_moves_batch_statistics_once(tiny_data, tmp_path):
    step = (*ONE_STEP, "training.accumulate=2", "backbone.options={norm: batch}")
    for name in ("max_iou", "task_aligned"):
        train_tiny(tiny_data, tmp_path / name, *step, f"assigner={{name: {name}}}")
    one, two = (weights(tmp_path / name) for name in ("max_iou", "task_aligned"))
    statistics = [key for key in one if key.endswith(("running_mean", "running_var"))]
    assert len(statistics) == 6
    for key in statistics:
        assert torch.equal(one[key], two[key])


def test_twins_see_the_same_first_batch_to_the_bit(tiny_data, tmp_path):
    batches = [
        next(iter(trainer(tiny_data, tmp_path, f"class_scheme={{name: {name}}}").loader))
        for name in ("softmax_ce", "sigmoid_bce")
    ]
    assert torch.equal(batches[0].images, batches[1].images)
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(*(b.truth for b in batches), strict=True))


def test_a_gradient_that_is_not_finite_stops_with_step_terms_and_images(tiny_data, tmp_path):
    overrides = ("class_scheme={name: 'tiny_scheme:Exploding'}", "training.validate_every=2")
    with pytest.raises(FloatingPointError) as error:
        train_tiny(tiny_data, tmp_path / "run", *overrides)
    said = str(error.value)
    assert "at step 3; loss terms {'total': inf, 'classification': inf" in said
    ids = json.loads(said.split("image ids ")[1].split(".")[0])
    assert len(ids) == 4
    assert set(ids) <= set(range(10, 18))


def test_the_weights_saved_last_are_those_before_the_broken_step(tiny_data, tmp_path):
    overrides = ("class_scheme={name: 'tiny_scheme:Exploding'}", "training.validate_every=2")
    with pytest.raises(FloatingPointError):
        train_tiny(tiny_data, tmp_path / "run", *overrides)
    last = tensors(tmp_path / "run" / "checkpoints" / "last.pt")
    assert last["/step"] == 2
    assert all(v.isfinite().all() for k, v in last.items() if k.startswith("/model"))


def test_bfloat16_trains_and_keeps_float32_weights(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", "training.precision=bf16", "training.epochs=1")
    assert all(v.dtype == torch.float32 and v.isfinite().all() for v in weights(tmp_path / "run").values())
    assert all(math.isfinite(line.get("total", 0.0)) for line in log_lines(tmp_path / "run"))


def test_bfloat16_is_really_used(tiny_data, tmp_path, tiny_run):
    train_tiny(tiny_data, tmp_path / "run", "training.precision=bf16")
    exact, rounded = (log_lines(out)[0]["total"] for out in (tiny_run, tmp_path / "run"))
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=1e-2)


@pytest.mark.slow  # the compiler takes a minute
def test_a_compiled_detector_trains_like_the_plain_one(tiny_data, tmp_path, tiny_run):
    train_tiny(tiny_data, tmp_path / "run", "training.compile=true")
    plain, compiled = weights(tiny_run), weights(tmp_path / "run")
    assert plain.keys() == compiled.keys()
    for key in plain:
        torch.testing.assert_close(compiled[key], plain[key], rtol=0, atol=1e-3)


def test_tensorboard_gets_its_events(tiny_data, tmp_path):
    pytest.importorskip("tensorboard", reason="the tracker is an extra: pip install tensorboard")
    train_tiny(tiny_data, tmp_path / "run", "training.epochs=1", trackers=("tensorboard",))
    events = [*(tmp_path / "run").rglob("events.out.tfevents.*")]
    assert len(events) == 1
    assert b"val/AP50" in events[0].read_bytes()


# --- fine-tuning


def test_fine_tuning_says_what_was_taken_and_starts_from_it(tiny_data, tiny_run, tmp_path, capsys):
    other = ("data.classes=[truck, car]", "training.epochs=1", "training.optimizer.lr=1.0e-9")
    train_tiny(tiny_data, tmp_path / "run", *other, init_from=tiny_run)
    assert f"weights of {tiny_run}: " in (said := capsys.readouterr().out)
    assert "class rows taken: truck, car; 0 tensors start fresh" in said
    key = "head.prediction.bias"
    old, new = weights(tiny_run, "best")[key].reshape(-1, 8), weights(tmp_path / "run")[key].reshape(-1, 7)
    torch.testing.assert_close(new, old[:, [2, 0, 3, 4, 5, 6, 7]], rtol=0, atol=1e-6)


def test_a_run_started_from_another_is_resumed_without_it(tiny_data, tiny_run, tmp_path, capsys):
    other = ("data.classes=[truck, car]", "training.epochs=1")
    train_tiny(tiny_data, tmp_path / "run", *other, init_from=tiny_run)
    capsys.readouterr()
    train_tiny(tiny_data, tmp_path / "run", *other, init_from=tiny_run, resume=True)
    assert "tensors taken" not in capsys.readouterr().out


def test_categories_that_nobody_chose_may_differ_between_the_files(tiny_data, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(tiny_data, copy)
    file = copy / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["categories"].append({"id": 90, "name": "kiosk"})
    file.write_text(json.dumps(content))
    report = train_tiny(copy, tmp_path / "run", "training.epochs=1")
    assert report["last"]["epoch"] == 1


def test_with_all_categories_ids_may_differ_between_the_files(tiny_data, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(tiny_data, copy)
    file = copy / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    other = {1: 50, 3: 2, 8: 7}  # another order, too
    for category in content["categories"]:
        category["id"] = other[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = other[annotation["category_id"]]
    file.write_text(json.dumps(content))
    before = train_tiny(tiny_data, tmp_path / "one", "training.epochs=1", "data.classes=null")
    after = train_tiny(copy, tmp_path / "two", "training.epochs=1", "data.classes=null")
    assert after["last"] == before["last"]


def test_a_tracker_that_is_not_installed_is_refused(tiny_data, tmp_path):
    with pytest.raises(ConfigError, match=r"tracker 'clearml' is not installed"):
        train_tiny(tiny_data, tmp_path / "run", trackers=("clearml",))
    assert not (tmp_path / "run").exists()


def test_a_step_that_overflows_leaves_nothing_behind_in_the_running_state(tiny_data, tmp_path):
    made = trainer(tiny_data, tmp_path / "run", "class_scheme={name: seesaw}")
    output = HeadOutput(torch.zeros(1, len(made.anchors.boxes), 8, requires_grad=True))
    truth = [GroundTruth.from_labels(made.anchors.boxes[:1], torch.tensor([1]), num_classes=3)]
    terms = made.criterion(output, made.assigner(made.anchors, truth), truth, made.anchors)
    broken = terms._replace(seen=ClassesSeen(*(column * float("nan") for column in terms.seen)))
    made.overflows = 1  # as after a step whose fp16 gradient was infinite
    assert made._remember([broken]) is None
    made.overflows = 0
    assert made._remember([terms]) is not None
    assert torch.equal(made.state.classes().positives, terms.seen.positives)
    assert terms.seen.positives[1] > 0
