"""COCO mAP: exactly pycocotools' numbers, a hundred times faster."""

from dethead.evaluation.analysis import Analysis, analyse
from dethead.evaluation.coco import coco_metrics
from dethead.evaluation.comparison import Comparison, compare
from dethead.evaluation.confusion import Confusion, confusion_matrix
from dethead.evaluation.errors import ErrorTypes, error_types
from dethead.evaluation.evaluator import CocoEvaluator
from dethead.evaluation.fusion import FittedFusion, fit_fusion
from dethead.evaluation.matches import MatchTable, match
from dethead.evaluation.metrics import ClassMetrics, CocoMetrics
from dethead.evaluation.official import official_metrics
from dethead.evaluation.operating_points import OperatingPoints, find_operating_points
from dethead.evaluation.results import ResultsError, read_evaluation, read_results, write_results
from dethead.evaluation.uncertainty import ScoreIntervals, score_intervals

__all__ = [
    "Analysis",
    "ClassMetrics",
    "CocoEvaluator",
    "CocoMetrics",
    "Comparison",
    "Confusion",
    "ErrorTypes",
    "FittedFusion",
    "MatchTable",
    "OperatingPoints",
    "ResultsError",
    "ScoreIntervals",
    "analyse",
    "coco_metrics",
    "compare",
    "confusion_matrix",
    "error_types",
    "find_operating_points",
    "fit_fusion",
    "match",
    "official_metrics",
    "read_evaluation",
    "read_results",
    "score_intervals",
    "write_results",
]
