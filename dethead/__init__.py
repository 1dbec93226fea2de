"""dethead: classification heads for object detectors.

A head gives C + 1 + 4 numbers per anchor: C class logits, 1 confidence logit, 4 box deltas. One setting, the
class scheme, says what a class logit means; targets, initial bias, loss, probabilities and scores follow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dethead.anchors import AnchorGrid
from dethead.assigners import Assigner, MaxIoUAssigner
from dethead.boxes import BoxCodec
from dethead.criterion import DetectionLoss, Term
from dethead.heads import DetectionHead
from dethead.schemes import ClassScheme, SigmoidBCE, SoftmaxCE
from dethead.structures import (
    BACKGROUND,
    IGNORE,
    UNKNOWN_CLASS,
    Anchors,
    Assignment,
    Batch,
    Detections,
    GroundTruth,
    HeadOutput,
    LossTerms,
    Resize,
)

if TYPE_CHECKING:
    from dethead.evaluation import CocoEvaluator as CocoEvaluator
    from dethead.postprocess import Postprocessor as Postprocessor
    from dethead.predict import Predictor as Predictor
    from dethead.predict import load as load

__version__ = "0.1.0"

# Found on first use: they need torchvision or pycocotools, and the losses must work where those do not load.
_LATER = {
    "CocoEvaluator": "dethead.evaluation",
    "Postprocessor": "dethead.postprocess",
    "Predictor": "dethead.predict",
    "load": "dethead.predict",
}

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "UNKNOWN_CLASS",
    "AnchorGrid",
    "Anchors",
    "Assigner",
    "Assignment",
    "Batch",
    "BoxCodec",
    "ClassScheme",
    "DetectionHead",
    "DetectionLoss",
    "Detections",
    "GroundTruth",
    "HeadOutput",
    "LossTerms",
    "MaxIoUAssigner",
    "Resize",
    "SigmoidBCE",
    "SoftmaxCE",
    "Term",
    "__version__",
    *_LATER,
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'dethead' has no attribute {name!r}")
