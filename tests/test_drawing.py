"""Pictures: what is drawn where, and that nothing real breaks it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from dethead.drawing import (
    class_colour,
    draw_detections,
    draw_truth,
    plot_curves,
    save_picture,
    truth_beside_detections,
)
from dethead.structures import Detections, GroundTruth

NAMES = ("car", "truck", "person")
GREY = torch.full((3, 200, 300), 90, dtype=torch.uint8)


def found(boxes, labels=None, scores=None):
    count = len(boxes)
    ones = torch.ones(count)
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores or [0.9] * count),
        torch.tensor(labels or [0] * count, dtype=torch.int64),
        ones,
        ones,
    )


def truth(boxes, labels=()):
    return GroundTruth.from_labels(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64), len(NAMES)
    )


def pixels_of(picture, colour):
    return int((picture == torch.tensor(colour)[:, None, None]).all(dim=0).sum())


def contrast(a, b):
    """Contrast ratio of two RGB colours, WCAG 2.1, by its formula."""

    def luminance(colour):
        parts = [
            v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour
        ]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_outline_lies_on_the_box_in_the_colour_of_the_class():
    picture = draw_detections(GREY, found([[100, 80, 200, 150]], [1]), NAMES, enlarge_to=0)
    for x, y in ((100, 120), (200, 120), (150, 150)):
        assert tuple(picture[:, y, x].tolist()) == class_colour(1), (x, y)
    assert picture[:, 120, 150].tolist() == [90, 90, 90]


def test_an_enlarged_picture_has_its_boxes_enlarged_alike():
    picture = draw_detections(GREY, found([[100, 80, 200, 150]]), NAMES, enlarge_to=600)
    assert picture.shape == (3, 400, 600)
    assert tuple(picture[:, 240, 200].tolist()) == class_colour(0)


def test_without_detections_the_picture_is_the_image():
    assert torch.equal(draw_detections(GREY, Detections.empty(), NAMES, enlarge_to=0), GREY)


def test_the_image_itself_is_not_drawn_on():
    image = GREY.clone()
    draw_detections(image, found([[100, 80, 200, 150]]), NAMES, enlarge_to=0)
    assert torch.equal(image, GREY)


def test_detections_below_the_threshold_are_not_drawn():
    detections = found([[100, 80, 200, 150], [10, 80, 50, 150]], [0, 1], [0.9, 0.29])
    picture = draw_detections(GREY, detections, NAMES, score_threshold=0.3, enlarge_to=0)
    assert pixels_of(picture, class_colour(0)) > 0
    assert pixels_of(picture, class_colour(1)) == 0


@pytest.mark.parametrize("label", range(7))
@pytest.mark.parametrize("background", [0, 255])
def test_text_stands_out_from_its_plate_and_the_plate_from_the_picture(label, background):
    names = [str(n) for n in range(7)]
    image = torch.full((3, 300, 300), background, dtype=torch.uint8)
    picture = draw_detections(image, found([[100, 100, 200, 200]], [label]), names, enlarge_to=0)
    plate = picture[:, 91, 101:140].reshape(3, -1)  # a row through the text above the box
    colours = {tuple(column.tolist()) for column in plate.T}
    assert max(contrast(class_colour(label), colour) for colour in colours) > 4.5
    # a rim of black around every outline, a bright colour within it
    assert tuple(picture[:, 150, 99].tolist()) == (0, 0, 0)


def test_labels_of_equal_boxes_do_not_hide_each_other():
    one = draw_detections(GREY, found([[100, 80, 200, 150]], [0]), NAMES, enlarge_to=0)
    both = draw_detections(GREY, found([[100, 80, 200, 150]] * 2, [0, 1]), NAMES, enlarge_to=0)
    outline = 2 * 2 * (100 + 70)
    plate = pixels_of(one, class_colour(0)) - outline
    assert pixels_of(both, class_colour(1)) > plate / 2


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (32, 24)])
def test_tiny_images_and_boxes_outside_of_them_are_drawn(size):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    detections = found([[-50, -50, 80, 80], [2, 2, 2, 2], [400, 400, 500, 500], [3, 3, 1, 1]])
    for enlarge_to in (0, 200):
        picture = draw_detections(image, detections, NAMES, enlarge_to=enlarge_to)
        assert max(picture.shape) == max(*size, enlarge_to, 3)


def test_truth_shows_several_labels_unknown_classes_and_ignore_regions():
    several = truth([[20.0, 50, 80, 90], [120, 50, 180, 90]], [0, 1])
    several.targets[0, 2] = 1.0
    several = several._replace(
        ignore_boxes=torch.tensor([[200.0, 120, 280, 190]]), class_known=torch.tensor([True, False])
    )
    picture = draw_truth(GREY, several, NAMES, enlarge_to=0)
    assert pixels_of(picture, class_colour(0)) > 0
    assert pixels_of(picture, class_colour(1)) == 0  # its class is not known
    assert tuple(picture[:, 70, 120].tolist()) == (255, 255, 255)
    assert tuple(picture[:, 150, 200].tolist()) == (160, 160, 160)


def test_truth_is_left_and_detections_are_right():
    picture = truth_beside_detections(
        GREY, truth([[100.0, 80, 200, 150]], [0]), found([[100, 80, 200, 150]], [1]), NAMES
    )
    half = picture.shape[2] // 2
    left, right = picture[:, :, :half], picture[:, :, half:]
    assert pixels_of(left, class_colour(0)) > 0 == pixels_of(left, class_colour(1))
    assert pixels_of(right, class_colour(1)) > 0 == pixels_of(right, class_colour(0))


def test_a_saved_picture_is_read_back_as_it_was(tmp_path):
    picture = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    save_picture(picture, tmp_path / "a.png")
    assert (np.array(Image.open(tmp_path / "a.png")) == picture.permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize("image", [torch.zeros(3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)])
def test_images_that_are_not_uint8_rgb_are_refused(image):
    with pytest.raises(ValueError, match=r"image must be \(3, H, W\) uint8"):
        draw_detections(image, Detections.empty(), NAMES)


def test_a_label_without_a_name_is_refused():
    with pytest.raises(ValueError, match="label 3 has no name, there are 3 classes"):
        draw_detections(GREY, found([[1, 1, 5, 5]], [3]), NAMES)


def training(step):
    terms = {"total": 3.0, "classification": 1.0, "confidence": 1.5, "box": 0.5}
    return json.dumps(
        {"step": step, "epoch": 0, **terms, "lr": 1e-3, "images_per_s": 9.0, "gradient_norm": 1.0}
    )


def validation(step):
    numbers = {"AP": 0.2, "AP50": None, "total": 3.0, "classification": 1.0, "confidence": 1.5, "box": 0.5}
    return json.dumps({"step": step, "epoch": 0, "val": numbers})


@pytest.mark.parametrize(
    "lines",
    [
        [training(1)],
        [validation(1)],
        [training(1), training(2), validation(2), training(3), '{"step": 4, "ep'],
    ],
    ids=["training", "validation", "both, and a line being written"],
)
def test_curves_of_any_part_of_a_log_are_plotted(tmp_path, lines):
    log, file = tmp_path / "log.jsonl", tmp_path / "curves.png"
    log.write_text("\n".join(lines))
    plot_curves(log, file)
    assert np.array(Image.open(file)).std() > 10  # something is drawn


def test_the_curves_show_every_loss_term_the_validation_ap_and_the_rate(tmp_path):
    log, file = tmp_path / "log.jsonl", tmp_path / "curves.svg"
    log.write_text("\n".join([training(1), training(9), validation(9)]))
    plot_curves(log, file)
    shown = file.read_text()
    for text in ("total", "classification", "confidence", "box", "validation AP", "AP50", "learning rate"):
        assert f"<!-- {text}" in shown, text


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "nothing has been logged yet"), ('oops\n{"step": 1}\n', "line 1: not JSON")],
)
def test_a_log_that_cannot_be_plotted_is_refused(tmp_path, text, message):
    log = tmp_path / "log.jsonl"
    log.write_text(text)
    with pytest.raises(ValueError, match=message):
        plot_curves(log, tmp_path / "curves.png")
