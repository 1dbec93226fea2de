"""pycocotools itself on the same input: the judge of every number in this package."""

import contextlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from dethead.evaluation.arrays import DetectionArrays, EvaluationInput, TruthArrays
from dethead.evaluation.curves import Curves, summarise
from dethead.evaluation.metrics import NUMBER_NAMES, CocoMetrics
from dethead.evaluation.rules import COCO_RULES, CocoRules

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval


def official_metrics(given: EvaluationInput) -> CocoMetrics:
    """Run pycocotools and give its 12 numbers, -1 turned into nan, and the means of its arrays per class.

    Images without detections count, and so does a set without any detection.
    """
    judge = run_pycocotools(given, COCO_RULES)
    with contextlib.redirect_stdout(io.StringIO()):
        judge.summarize()
    stats = [float("nan") if value == -1 else float(value) for value in judge.stats]
    metrics = summarise(_curves(judge), COCO_RULES, given.class_names, object_counts(given))
    return CocoMetrics(per_class=metrics.per_class, **dict(zip(NUMBER_NAMES, stats, strict=True)))


def official_curves(given: EvaluationInput, rules: CocoRules = COCO_RULES) -> Curves:
    """Run pycocotools and give its precision and recall arrays, -1 turned into nan."""
    return _curves(run_pycocotools(given, rules))


def object_counts(given: EvaluationInput) -> list[int]:
    """Count the objects of each of the C classes, crowds left out."""
    labels = given.truth.label[~given.truth.crowd]
    counts: list[int] = np.bincount(labels, minlength=len(given.class_names)).tolist()
    return counts


def run_pycocotools(given: EvaluationInput, rules: CocoRules) -> "COCOeval":
    """Give a COCOeval that has evaluated and accumulated, silently; label and image ids as given."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        # Not through loadRes: it cannot take an empty list, and does no more than what is done here.
        truth = _coco(given, _truth_rows(given.truth, given.image_ids.tolist()))
        found = _coco(given, _detection_rows(given.detections, given.image_ids.tolist()))
        judge = COCOeval(truth, found, "bbox")
        judge.params.iouThrs = np.array(rules.iou_thresholds)
        judge.params.maxDets = list(rules.max_detections)
        judge.params.areaRng = [[low, high] for _, low, high in rules.area_ranges]
        judge.params.areaRngLbl = [name for name, _, _ in rules.area_ranges]
        judge.evaluate()
        judge.accumulate()
    return judge


def _curves(judge: "COCOeval") -> Curves:
    precision, recall = judge.eval["precision"][..., -1], judge.eval["recall"]
    return Curves(np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall))


def _coco(given: EvaluationInput, annotations: list[dict[str, Any]]) -> "COCO":
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": image_id} for image_id in given.image_ids.tolist()],
        "categories": [{"id": label} for label in range(len(given.class_names))],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _truth_rows(truth: TruthArrays, image_ids: list[int]) -> list[dict[str, Any]]:
    columns = (column.tolist() for column in truth)
    # Ids start at 1: pycocotools takes a match with annotation 0 for none.
    return [
        {
            "id": number,
            "image_id": image_ids[image],
            "category_id": label,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for number, (image, label, box, area, crowd) in enumerate(zip(*columns, strict=True), start=1)
    ]


def _detection_rows(detections: DetectionArrays, image_ids: list[int]) -> list[dict[str, Any]]:
    image, label, boxes, scores, *_ = detections
    columns = (column.tolist() for column in (image, label, boxes, scores))
    return [
        {
            "id": number,
            "image_id": image_ids[image],
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": score,
        }
        for number, (image, label, box, score) in enumerate(zip(*columns, strict=True), start=1)
    ]
