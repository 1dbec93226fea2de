"""Class schemes: the one place that knows what a class logit means."""

from dethead.schemes.interface import ClassScheme, Prior
from dethead.schemes.scores import Hinge, MarginRanking, SigmoidBrier, SoftmaxBrier
from dethead.schemes.sigmoid import (
    GHM,
    Asymmetric,
    Equalization,
    Focal,
    QualityFocal,
    SigmoidBCE,
    SigmoidPoly1,
    Varifocal,
)
from dethead.schemes.softmax import (
    LDAM,
    KLDivergence,
    LogitAdjustment,
    MultilabelSoftmax,
    Seesaw,
    SoftmaxCE,
    SoftmaxFocal,
    SoftmaxPoly1,
)

__all__ = [
    "GHM",
    "LDAM",
    "Asymmetric",
    "ClassScheme",
    "Equalization",
    "Focal",
    "Hinge",
    "KLDivergence",
    "LogitAdjustment",
    "MarginRanking",
    "MultilabelSoftmax",
    "Prior",
    "QualityFocal",
    "Seesaw",
    "SigmoidBCE",
    "SigmoidBrier",
    "SigmoidPoly1",
    "SoftmaxBrier",
    "SoftmaxCE",
    "SoftmaxFocal",
    "SoftmaxPoly1",
    "Varifocal",
]
