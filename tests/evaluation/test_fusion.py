"""Fitted fusion, and the halves of the images that fitting and judging are kept apart by."""

import numpy as np
import pytest
import torch
from evaluation_cases import objects

from dethead.evaluation import CocoEvaluator, coco_metrics
from dethead.evaluation.fusion import fit_fusion, rescored
from dethead.evaluation.halves import fitting_images, images_of
from dethead.postprocess import PowersFusion
from dethead.structures import Detections


def evaluator_of(chosen, *, images=60, honest="class"):
    """Images with 2 objects and 8 wrong boxes each; one branch knows which are right, the other is noise."""
    evaluator = CocoEvaluator(["car"])
    for image_id in range(images):
        generator = torch.Generator().manual_seed(image_id)
        corners = 60.0 * torch.arange(10)
        boxes = torch.stack([corners, torch.zeros(10), corners + 40, torch.full((10,), 40.0)], dim=1)
        right = torch.arange(10) < 2
        knows = torch.where(right, 0.5, 0.3) + 0.3 * torch.rand(10, generator=generator)
        noise = torch.rand(10, generator=generator)
        classes, confidence = (knows, noise) if honest == "class" else (noise, knows)
        labels = torch.zeros(10, dtype=torch.int64)
        detections = Detections(boxes, classes * confidence, labels, classes, confidence)
        truth = objects(image_id, [[0, 0, 40, 40], [60, 0, 40, 40]])
        if chosen(image_id):
            evaluator.update([detections], [truth])
    return evaluator


GIVEN = evaluator_of(lambda image_id: True).arrays()


def test_the_branch_that_knows_gets_the_power_and_the_other_half_gains():
    by_class = fit_fusion(GIVEN)
    assert by_class.class_power > 1.7
    assert by_class.ap_after > by_class.ap_before + 0.1
    by_confidence = fit_fusion(evaluator_of(lambda image_id: True, honest="confidence").arrays())
    assert by_confidence.confidence_power > 1.7


def test_the_powers_sum_to_2_and_are_the_best_of_the_fitting_half():
    fitted = fit_fusion(GIVEN, seed=4)
    assert fitted.confidence_power + fitted.class_power == pytest.approx(2.0)
    half = images_of(GIVEN, fitting_images(60, 4))
    tried = [coco_metrics(rescored(half, share, 2 - share)).AP for share in np.linspace(0, 2, 41)]
    assert fitted.fitted_ap_after == pytest.approx(max(tried), abs=1e-12)


def test_before_and_after_are_of_images_that_did_not_fit():
    fitted = fit_fusion(GIVEN, seed=4)
    other = images_of(GIVEN, ~fitting_images(60, 4))
    assert fitted.ap_before == coco_metrics(other).AP
    powers = fitted.confidence_power, fitted.class_power
    assert fitted.ap_after == coco_metrics(rescored(other, *powers)).AP
    assert (fitted.fitted_on, fitted.judged_on) == (30, 30)


def test_ap_depends_on_the_ratio_of_the_powers_alone():
    aps = [coco_metrics(rescored(GIVEN, a, b)).AP for a, b in ((0.5, 1.5), (0.25, 0.75), (1.0, 3.0))]
    assert aps[0] == aps[1] == aps[2]
    assert aps[0] != coco_metrics(rescored(GIVEN, 1.5, 0.5)).AP


def test_where_nothing_can_be_gained_the_product_stays():
    truth = objects(1, [[0, 0, 40, 40]])
    evaluator = CocoEvaluator(["car"])
    one = torch.tensor([0.5])
    box = torch.tensor([[0.0, 0.0, 40.0, 40.0]])
    for image_id in range(4):
        found = Detections(box, one * one, torch.tensor([0]), one, one)
        evaluator.update([found], [truth._replace(image_id=image_id)])
    fitted = fit_fusion(evaluator.arrays())
    assert (fitted.confidence_power, fitted.class_power) == (1.0, 1.0)


def test_without_objects_nothing_is_gained_and_ap_is_undefined():
    fitted = fit_fusion(CocoEvaluator(["car"]).arrays())
    assert (fitted.confidence_power, fitted.class_power) == (1.0, 1.0)
    assert fitted.as_dict()["ap_after"] is None


def test_the_postprocessors_powers_make_the_same_scores():
    found = GIVEN.detections
    confidence, classes = (torch.from_numpy(v) for v in (found.confidence, found.class_probabilities))
    wanted = PowersFusion(0.7, 1.3)(confidence[:, None], classes[:, None])[:, 0]
    assert rescored(GIVEN, 0.7, 1.3).detections.scores.tolist() == pytest.approx(wanted.tolist(), rel=1e-12)


@pytest.mark.parametrize("missing", [None, np.full(600, np.nan)])
def test_detections_without_a_branch_are_refused(missing):
    given = GIVEN._replace(detections=GIVEN.detections._replace(confidence=missing))
    with pytest.raises(ValueError, match="these detections have no confidence"):
        fit_fusion(given)


def test_a_branch_outside_0_to_1_is_named_by_row():
    classes = GIVEN.detections.class_probabilities.copy()
    classes[17] = 1.5
    given = GIVEN._replace(detections=GIVEN.detections._replace(class_probabilities=classes))
    with pytest.raises(ValueError, match=r"detection 17: class_probabilities must be in \[0, 1\], is 1.5"):
        fit_fusion(given)


def test_halves_are_a_matter_of_number_and_seed():
    assert fitting_images(7, 0).sum() == 3
    assert (fitting_images(100, 5) == fitting_images(100, 5)).all()
    assert (fitting_images(100, 5) != fitting_images(100, 6)).any()


def test_some_images_score_as_if_the_others_had_never_been():
    chosen = fitting_images(60, 1)
    alone = evaluator_of(lambda image_id: chosen[image_id])
    for one, other in zip(images_of(GIVEN, chosen).detections, alone.arrays().detections, strict=True):
        assert (one == other).all()
    assert coco_metrics(images_of(GIVEN, chosen)) == alone.compute() or np.isnan(alone.compute().APl)
    assert images_of(GIVEN, chosen).image_ids.tolist() == np.flatnonzero(chosen).tolist()


def test_columns_that_are_not_there_stay_away():
    given = GIVEN._replace(detections=GIVEN.detections._replace(confidence=None))
    assert images_of(given, fitting_images(60, 1)).detections.confidence is None
