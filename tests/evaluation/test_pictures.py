"""Pictures of an evaluation: that they are drawn, say what they leave out, and show the right cases."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_cases import found, objects
from noisy_sets import noisy_set
from PIL import Image

from dethead.drawing import Mark
from dethead.evaluation import pictures
from dethead.evaluation.analysis import analyse
from dethead.evaluation.evaluator import CocoEvaluator
from dethead.evaluation.matches import match
from dethead.evaluation.pictures import curves, figures, gallery
from dethead.evaluation.rules import CocoRules


@pytest.fixture
def titles(monkeypatch) -> list[str]:
    """Every text of the figures that are saved, in place of the files."""
    said: list[str] = []

    def keep(figure, path: Path, **_: object) -> None:
        import matplotlib.text

        said.extend(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text())

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", keep)
    return said


@pytest.mark.parametrize("classes", [1, 30])
def test_every_picture_is_drawn_for_few_and_for_many_classes(classes, titles):
    done = analyse(noisy_set(0, classes=classes, images=4))
    pictures.save_pr_curves(done.table, Path("a.png"))
    pictures.save_confusion(done.confusion, Path("b.png"))
    pictures.save_error_counts(done.errors, Path("c.png"))
    pictures.save_error_costs(done.errors, Path("d.png"))
    said = "\n".join(titles)
    for limit in (12, 24, 20):
        assert (f"the {limit} of 30 classes" in said) == (classes == 30)


def test_pictures_of_a_set_without_objects_or_detections_are_drawn(titles):
    evaluator = CocoEvaluator(["car"])
    evaluator.update([found()], [objects(1)])
    done = analyse(evaluator.arrays())
    pictures.save_pr_curves(done.table, Path("a.png"))
    pictures.save_confusion(done.confusion, Path("b.png"))
    pictures.save_error_counts(done.errors, Path("c.png"))
    pictures.save_error_costs(done.errors, Path("d.png"))
    assert "car  -" in titles


def test_the_picture_is_a_file_that_can_be_opened(tmp_path):
    pictures.save_error_costs(analyse(noisy_set(0)).errors, tmp_path / "costs.png")
    assert Image.open(tmp_path / "costs.png").size == (960, 552)


def test_curves_are_labelled_with_cocos_ap(titles):
    done = analyse(noisy_set(1, classes=2))
    pictures.save_pr_curves(done.table, Path("curves.png"))
    for one in done.metrics.per_class:
        assert f"{one.name}  {100 * one.AP50:.1f}" in titles
        assert f"{one.name}  {100 * one.AP:.1f}" in titles


def test_curves_show_the_thresholds_that_there_are(titles):
    pictures.save_pr_curves(match(noisy_set(0), CocoRules(iou_thresholds=(0.5, 0.6))), Path("curves.png"))
    assert "IoU 0.50" in titles
    assert "IoU 0.75" not in titles
    assert "mean over IoU 0.50 to 0.60" in titles


def test_the_colours_of_curves_differ_and_none_is_yellow():
    colours = [figures.unit_colour(place) for place in curves._COLOURS]
    assert len({*colours}) == len(colours)
    assert all(min(colour[:2]) < 0.8 for colour in colours)


class Drawn:
    """Images of one grey, and what was drawn of them."""

    def __init__(self, monkeypatch) -> None:
        self.marks: list[list[Mark]] = []
        monkeypatch.setattr(
            gallery.Photographs, "read", lambda *_: torch.full((3, 100, 200), 90, dtype=torch.uint8)
        )
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)
        monkeypatch.setattr(gallery, "_file", lambda *_: "image.jpg")
        monkeypatch.setattr(gallery, "draw_marks", self.draw)
        self.photographs = gallery.Photographs(None, Path())

    def draw(self, image: torch.Tensor, marks: list[Mark], **_: object) -> torch.Tensor:
        self.marks.append(marks)
        return image

    @property
    def subjects(self) -> list[str]:
        return [marks[0].text for marks in self.marks]


@pytest.fixture
def drawn(monkeypatch) -> Drawn:
    return Drawn(monkeypatch)


def two_images() -> CocoEvaluator:
    """A car found with score 0.4, a small truck not at all; a sure car where nothing is."""
    evaluator = CocoEvaluator(["car", "truck"])
    truth = [objects(1, [[0, 0, 40, 40], [60, 0, 10, 10]], [0, 1]), objects(2)]
    evaluator.update([found([[0, 0, 40, 40]], [0.4]), found([[0, 0, 10, 10]], [0.9])], truth)
    return evaluator


@pytest.mark.parametrize(("score", "expected"), [(0.0, ["truck"]), (0.5, ["car", "truck"])])
def test_misses_are_the_objects_without_a_right_detection_of_the_score_largest_first(
    score, expected, drawn, tmp_path
):
    given = two_images().arrays()
    count = pictures.save_misses(given, match(given), drawn.photographs, tmp_path / "a.jpg", score=score)
    assert count == len(expected)
    assert drawn.subjects == expected


def test_a_miss_shows_the_detections_around_it(drawn, tmp_path):
    given = two_images().arrays()
    pictures.save_misses(given, match(given), drawn.photographs, tmp_path / "a.jpg", score=0.5)
    assert [mark.text for mark in drawn.marks[0]] == ["car", "car 0.40"]


def test_mistakes_are_the_wrong_detections_of_the_highest_scores_two_of_an_image(drawn, tmp_path):
    evaluator = two_images()
    boxes = [[0, 0, 20, 20], [30, 0, 60, 20], [60, 0, 90, 20]]
    evaluator.update([found(boxes, [0.5, 0.7, 0.6])], [objects(3)])
    done = analyse(evaluator.arrays())
    count = pictures.save_mistakes(done.given, done.table, done.errors, drawn.photographs, tmp_path / "a.jpg")
    assert count == 3
    assert drawn.subjects == ["car 0.90", "car 0.70", "car 0.60"]


def test_no_picture_is_drawn_when_all_is_right(drawn, tmp_path):
    evaluator = CocoEvaluator(["car"])
    evaluator.update([found([[0, 0, 40, 40]], [0.4])], [objects(1, [[0, 0, 40, 40]])])
    done = analyse(evaluator.arrays())
    path = tmp_path / "a.jpg"
    assert pictures.save_misses(done.given, done.table, drawn.photographs, path, score=0.1) == 0
    assert pictures.save_mistakes(done.given, done.table, done.errors, drawn.photographs, path) == 0
    assert drawn.marks == []


@pytest.mark.parametrize(("centre", "expected"), [(195, (136, 200)), (3, (0, 64)), (100, (68, 132))])
def test_a_cut_has_its_length_and_stays_inside(centre, expected):
    assert gallery._cut(centre, 64, 200) == expected


@pytest.mark.parametrize("box", [(190, 90, 10, 10), (-5, -5, 8, 8), (0, 0, 200, 100), (50, 50, 0, 0)])
def test_a_tile_is_cut_out_around_the_box_inside_the_image(box):
    image = torch.arange(200, dtype=torch.uint8).expand(3, 100, 200).contiguous()
    x, y, width, height = box
    mark = Mark((x, y, x + width, y + height), "car", (0, 158, 115))
    tile = gallery._tile(image, gallery._Case(0, np.array(box, dtype=float), "", [mark]))
    assert max(tile.shape[1:]) == 420
    assert min(tile.shape[1:]) >= 200
