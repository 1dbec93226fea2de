"""COCO mAP: exactly pycocotools' numbers, a hundred times faster."""

from dethead.evaluation.coco import coco_metrics
from dethead.evaluation.evaluator import CocoEvaluator
from dethead.evaluation.metrics import ClassMetrics, CocoMetrics
from dethead.evaluation.official import official_metrics
from dethead.evaluation.results import ResultsError, read_evaluation, read_results, write_results

__all__ = [
    "ClassMetrics",
    "CocoEvaluator",
    "CocoMetrics",
    "ResultsError",
    "coco_metrics",
    "official_metrics",
    "read_evaluation",
    "read_results",
    "write_results",
]
