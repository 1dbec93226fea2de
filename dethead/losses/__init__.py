"""Pure losses: tensors in, one unreduced value per anchor out; ``reduce`` sums, once."""

from dethead.losses.classification import (
    asymmetric,
    balanced_softmax,
    brier,
    distillation,
    equalization,
    gradient_harmonised,
    hinge,
    kl_divergence,
    ldam,
    logit_adjusted,
    margin_ranking,
    multilabel_softmax,
    negative_log_likelihood,
    poly1,
    probability_bce,
    quality_focal,
    seesaw,
    sigmoid_bce,
    sigmoid_focal,
    softmax_cross_entropy,
    softmax_focal,
    varifocal,
)
from dethead.losses.confidence import confidence_bce, confidence_focal
from dethead.losses.mining import hard_negatives
from dethead.losses.penalty import l2_penalty
from dethead.losses.reduction import reduce
from dethead.losses.regression import ciou_loss, diou_loss, giou_loss, iou_squared_loss, l1, mse, smooth_l1
from dethead.losses.triplets import class_embedding_loss
from dethead.losses.weighting import weights_of_labels

__all__ = [
    "asymmetric",
    "balanced_softmax",
    "brier",
    "ciou_loss",
    "class_embedding_loss",
    "confidence_bce",
    "confidence_focal",
    "diou_loss",
    "distillation",
    "equalization",
    "giou_loss",
    "gradient_harmonised",
    "hard_negatives",
    "hinge",
    "iou_squared_loss",
    "kl_divergence",
    "l1",
    "l2_penalty",
    "ldam",
    "logit_adjusted",
    "margin_ranking",
    "mse",
    "multilabel_softmax",
    "negative_log_likelihood",
    "poly1",
    "probability_bce",
    "quality_focal",
    "reduce",
    "seesaw",
    "sigmoid_bce",
    "sigmoid_focal",
    "smooth_l1",
    "softmax_cross_entropy",
    "softmax_focal",
    "varifocal",
    "weights_of_labels",
]
