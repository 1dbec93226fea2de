"""dethead: classification heads for object detectors.

A head gives C + 1 + 4 numbers per anchor: C class logits, 1 confidence logit, 4 box deltas. One setting, the
class scheme, says what a class logit means; targets, initial bias, loss, probabilities and scores follow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dethead.anchors import AnchorGrid as AnchorGrid
    from dethead.assigners import Assigner as Assigner
    from dethead.assigners import MaxIoUAssigner as MaxIoUAssigner
    from dethead.boxes import BoxCodec as BoxCodec
    from dethead.criterion import DetectionLoss as DetectionLoss
    from dethead.criterion import Term as Term
    from dethead.evaluation import CocoEvaluator as CocoEvaluator
    from dethead.heads import DetectionHead as DetectionHead
    from dethead.postprocess import Postprocessor as Postprocessor
    from dethead.predict import Predictor as Predictor
    from dethead.predict import load as load
    from dethead.schemes import ClassScheme as ClassScheme
    from dethead.schemes import SigmoidBCE as SigmoidBCE
    from dethead.schemes import SoftmaxCE as SoftmaxCE
    from dethead.structures import BACKGROUND as BACKGROUND
    from dethead.structures import IGNORE as IGNORE
    from dethead.structures import UNKNOWN_CLASS as UNKNOWN_CLASS
    from dethead.structures import Anchors as Anchors
    from dethead.structures import Assignment as Assignment
    from dethead.structures import Batch as Batch
    from dethead.structures import Detections as Detections
    from dethead.structures import GroundTruth as GroundTruth
    from dethead.structures import HeadOutput as HeadOutput
    from dethead.structures import LossTerms as LossTerms
    from dethead.structures import Resize as Resize

__version__ = "0.1.0"

# Found on first use: a config is refused before PyTorch is loaded, and the losses work where torchvision's
# operators or pycocotools do not.
_HOMES = {
    "dethead.anchors": ["AnchorGrid"],
    "dethead.assigners": ["Assigner", "MaxIoUAssigner"],
    "dethead.boxes": ["BoxCodec"],
    "dethead.criterion": ["DetectionLoss", "Term"],
    "dethead.evaluation": ["CocoEvaluator"],
    "dethead.heads": ["DetectionHead"],
    "dethead.postprocess": ["Postprocessor"],
    "dethead.predict": ["Predictor", "load"],
    "dethead.schemes": ["ClassScheme", "SigmoidBCE", "SoftmaxCE"],
    "dethead.structures": [
        "BACKGROUND",
        "IGNORE",
        "UNKNOWN_CLASS",
        "Anchors",
        "Assignment",
        "Batch",
        "Detections",
        "GroundTruth",
        "HeadOutput",
        "LossTerms",
        "Resize",
    ],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

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
    "CocoEvaluator",
    "DetectionHead",
    "DetectionLoss",
    "Detections",
    "GroundTruth",
    "HeadOutput",
    "LossTerms",
    "MaxIoUAssigner",
    "Postprocessor",
    "Predictor",
    "Resize",
    "SigmoidBCE",
    "SoftmaxCE",
    "Term",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dethead' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
