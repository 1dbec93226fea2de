"""A trained run from Python: images in, detections in original pixels out."""

import json
import shutil

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from tiny_runs import train_tiny
from torch import nn

import dethead
from dethead.boxes import BoxCodec
from dethead.data import DataError, find_split, read_image
from dethead.postprocess import Postprocessor
from dethead.predict import Predictor, find_images, for_pictures, predict_folder
from dethead.schemes import SoftmaxCE
from dethead.structures import Detections
from dethead.training import FinishedRun, evaluate_run
from dethead.training.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def predictor(tiny_run) -> Predictor:
    return dethead.load(tiny_run)


@pytest.fixture
def image(tiny_data):
    return tiny_data / "images" / "18.png"


def assert_same(found: Detections, wanted: Detections) -> None:
    assert len(found.scores) == len(wanted.scores) > 0
    assert torch.equal(found.labels, wanted.labels)
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)  # batches of other sizes round otherwise


def test_an_image_is_predicted_as_it_is_evaluated(tiny_run, tiny_data, predictor):
    done = evaluate_run(tiny_run, find_split(tiny_data, "val"), device="cpu", keep_detections=True)
    assert len(done.detections) == 4
    for place, wanted in done.detections.items():
        assert_same(predictor.predict(tiny_data / "images" / done.coco.file_name(place)), wanted)


def test_batch_normalisation_is_folded_and_the_run_itself_is_not(tiny_data, tmp_path):
    train_tiny(tiny_data, tmp_path / "run", "training.epochs=1", "backbone.options={norm: batch}")
    finished = FinishedRun.load(tmp_path / "run")
    folded = Predictor(finished).detector
    norms = [[m for m in d.modules() if isinstance(m, nn.BatchNorm2d)] for d in (finished.detector, folded)]
    assert [len(found) for found in norms] == [3, 0]


def test_a_tensor_is_predicted_like_its_file(predictor, image):
    assert_same(predictor.predict(read_image(image)), predictor.predict(str(image)))


def test_many_images_of_different_sizes_are_predicted_like_each_alone(predictor, image):
    tall = read_image(image).transpose(1, 2).contiguous()
    together = predictor.predict_many([image, tall])
    assert_same(together[0], predictor.predict(image))
    assert_same(together[1], predictor.predict(tall))


def test_no_images_are_no_detections(predictor):
    assert predictor.predict_many([]) == []


def test_boxes_are_inside_the_original_image_and_beyond_the_networks(predictor, image):
    boxes = predictor.predict(image).boxes
    assert boxes[:, 0::2].max() <= 96
    assert boxes[:, 1::2].max() <= 72
    assert boxes.max() > 64  # the network saw 64 x 48


def test_class_probability_and_confidence_are_given_apart(predictor, image):
    found = predictor.predict(image)
    torch.testing.assert_close(found.scores, found.class_probabilities * found.confidence)


def test_a_photograph_is_turned_upright_by_its_exif_data(predictor, image, tmp_path):
    turned, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    with Image.open(image) as original:
        original.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    assert_same(predictor.predict(turned), predictor.predict(image))


def test_a_lowest_score_keeps_the_better_detections(tiny_run, predictor, image):
    every = predictor.predict(image)
    limit = every.scores.median().item()
    assert_same(dethead.load(tiny_run, score=limit).predict(image), every.select(every.scores >= limit))


@pytest.mark.parametrize(
    ("own", "lowest"), [((), 0.3), ((0.1, 0.0, 0.0), 0.1), ((0.0, 0.5, 0.4), 0.3), ((0.6, 0.5, 0.4), 0.4)]
)
def test_pictures_show_a_class_from_its_own_threshold_on(own, lowest):
    shown = for_pictures(Postprocessor(SoftmaxCE(), BoxCodec(), score_threshold=0.001, class_thresholds=own))
    assert shown.score_threshold == lowest
    assert shown.class_thresholds == tuple(value if value else 0.3 for value in own)


def test_chosen_classes_are_the_only_ones(tiny_run, predictor, image):
    every = predictor.predict(image)
    found = dethead.load(tiny_run, classes=["truck", "car"]).predict(image)
    assert_same(found, every.select(every.labels != 1))


def test_a_checkpoint_alone_is_enough(tiny_run, predictor, image, tmp_path):
    moved = shutil.copy(tiny_run / "checkpoints" / "best.pt", tmp_path)
    assert_same(dethead.load(moved).predict(image), predictor.predict(image))


def test_a_finished_run_knows_its_classes_and_category_ids(tiny_run):
    finished = FinishedRun.load(tiny_run)
    assert (finished.class_names, finished.category_ids) == (("car", "pedestrian", "truck"), (1, 3, 8))
    assert not finished.detector.training


def test_a_checkpoint_that_does_not_fit_its_config_is_refused(tiny_run, tmp_path):
    values = torch.load(tiny_run / "checkpoints" / "best.pt", weights_only=True)
    values["config"]["neck"]["channels"] = 24
    torch.save(values, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt: does not fit its config"):
        FinishedRun.load(tmp_path / "best.pt")


@pytest.mark.parametrize("score", [-0.1, 1.5])
def test_a_score_outside_0_and_1_is_refused(tiny_run, score):
    with pytest.raises(ValueError, match=r"score_threshold"):
        dethead.load(tiny_run, score=score)


def test_an_unknown_class_is_refused(tiny_run):
    with pytest.raises(ValueError, match=r"class 'bus' is unknown; the run has car, pedestrian, truck"):
        dethead.load(tiny_run, classes=["bus"])


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(64, 64, 3, dtype=torch.uint8),
        torch.zeros(3, 64, 64),
        torch.zeros(3, 0, 4, dtype=torch.uint8),
    ],
    ids=["channels last", "float", "empty"],
)
def test_a_tensor_of_another_kind_is_refused(predictor, tensor):
    with pytest.raises(ValueError, match=r"must be a \(3, H, W\) uint8 RGB tensor"):
        predictor.predict(tensor)


def test_images_are_found_in_folders_to_their_depth_in_order(tmp_path):
    for name in ("b.jpg", "a.PNG", "deeper/c.jpeg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path, tmp_path / "b.jpg"])
    assert [path.name for path in found] == ["a.PNG", "b.jpg", "c.jpeg", "b.jpg"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no images in .*; looked for \.jpg"):
        find_images([tmp_path])


def test_a_folder_of_predictions_is_readable_by_pycocotools(predictor, tiny_data, tmp_path):
    files = sorted((tiny_data / "images").glob("1[89].png"))
    seen = []
    count = predict_folder(predictor, files, tmp_path / "out", progress=seen.append).objects
    assert seen == [1, 1]
    truth = COCO(tmp_path / "out" / "images.json")
    found = truth.loadRes(str(tmp_path / "out" / "detections.json"))
    assert len(found.anns) == count > 0
    assert {one["category_id"] for one in found.anns.values()} <= {1, 3, 8}
    first = max(found.imgToAnns[1], key=lambda one: one["score"])
    x1, y1, x2, y2 = predictor.predict(files[0]).boxes[0].tolist()
    assert first["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-3)
    assert truth.loadImgs(1)[0]["file_name"] == str(files[0])


def test_every_image_gets_its_picture_also_two_of_one_name(predictor, tiny_data, tmp_path):
    files = [tiny_data / "images" / "18.png"] * 2
    predict_folder(predictor, files, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["00001_18.jpg", "00002_18.jpg"]


def test_nothing_found_is_an_empty_results_file(tiny_run, tiny_data, tmp_path):
    blind = dethead.load(tiny_run, score=1.0)
    assert predict_folder(blind, [tiny_data / "images" / "18.png"], tmp_path) == (1, 0, [])
    assert json.loads((tmp_path / "detections.json").read_text()) == []


def test_a_broken_file_among_others_is_named_and_costs_the_others_nothing(predictor, tiny_data, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    good = tiny_data / "images" / "18.png"
    done = predict_folder(predictor, [good, tmp_path / "bad.jpg", good], tmp_path / "out")
    assert done.images == 2
    assert [str(tmp_path / "bad.jpg") in str(error) for error in done.broken] == [True]
    assert len(json.loads((tmp_path / "out" / "images.json").read_text())["images"]) == 2
