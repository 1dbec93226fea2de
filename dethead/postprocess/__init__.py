"""From head output to scores, and from scores to detections."""

from dethead.postprocess.flipping import averaged_with_mirror
from dethead.postprocess.fusion import (
    PowersFusion,
    ScoreFusion,
    class_only,
    confidence_only,
    geometric_mean,
    product,
)
from dethead.postprocess.postprocessor import Postprocessor
from dethead.postprocess.suppression import NMS, BoxVoting, Candidates, SoftNMS, Suppression, Survivors

__all__ = [
    "NMS",
    "BoxVoting",
    "Candidates",
    "Postprocessor",
    "PowersFusion",
    "ScoreFusion",
    "SoftNMS",
    "Suppression",
    "Survivors",
    "averaged_with_mirror",
    "class_only",
    "confidence_only",
    "geometric_mean",
    "product",
]
