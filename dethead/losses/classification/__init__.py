"""Pure class losses: tensors in, one unreduced value per row out (float32; float64 stays).

Every loss has the form ``f(logits, targets, *, <its own settings>, <the four below>) -> (N,)``. Its docstring
names its own settings; the rest is the same everywhere:

    logits          (N, C) raw scores of any float type; nan and inf are refused.
    targets         (N,) int64 labels, or (N, C) numbers in [0, 1]: one-hot, soft or multi-hot. BACKGROUND is
                    a row of zeros: it costs nothing in a loss of one choice among the classes (softmax over C
                    foreground classes cannot say "none of them"), and answers "no" C times in a sigmoid loss.
    class_weights   (C,) factor on the whole loss of a row of each class; see ``weights_of_labels``.
    sample_weights  (N,) factor on the loss of each row.
    ignore_index    label that is ignored, as in PyTorch; so is IGNORE.
    ignore          bool. (N,): rows that are ignored. (N, C): single classes of single rows.

An ignored row costs exactly 0 and has a gradient of exactly 0. An ignored class is left out of the sum of a
sigmoid loss; in a softmax or a margin it takes no part, as if the row had a class less. What stands in the
targets at ignored places is not looked at. Nothing is averaged here: ``reduce`` does that.

What does not fit (shapes, labels out of range, targets outside [0, 1], negative or nan weights) raises a
ValueError that names the row and the value. Under ``torch.compile`` only shapes and settings are checked.

The formulas use z for logits, t for targets, p = softmax(z), s = sigmoid(z); sums run over the classes c.
"""

from dethead.losses.classification.either import brier, poly1
from dethead.losses.classification.longtail import (
    balanced_softmax,
    equalization,
    ldam,
    logit_adjusted,
    seesaw,
)
from dethead.losses.classification.margins import hinge, margin_ranking
from dethead.losses.classification.sigmoid import (
    asymmetric,
    gradient_harmonised,
    probability_bce,
    quality_focal,
    sigmoid_bce,
    sigmoid_focal,
    varifocal,
)
from dethead.losses.classification.softmax import (
    multilabel_softmax,
    negative_log_likelihood,
    softmax_cross_entropy,
    softmax_focal,
)
from dethead.losses.classification.teaching import distillation, kl_divergence

__all__ = [
    "asymmetric",
    "balanced_softmax",
    "brier",
    "distillation",
    "equalization",
    "gradient_harmonised",
    "hinge",
    "kl_divergence",
    "ldam",
    "logit_adjusted",
    "margin_ranking",
    "multilabel_softmax",
    "negative_log_likelihood",
    "poly1",
    "probability_bce",
    "quality_focal",
    "seesaw",
    "sigmoid_bce",
    "sigmoid_focal",
    "softmax_cross_entropy",
    "softmax_focal",
    "varifocal",
]
