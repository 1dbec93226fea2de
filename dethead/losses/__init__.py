"""Pure losses: tensors in, one unreduced value per anchor out; ``reduce`` sums, once."""

from dethead.losses.classification import sigmoid_bce, softmax_cross_entropy
from dethead.losses.confidence import confidence_bce
from dethead.losses.reduction import reduce
from dethead.losses.regression import smooth_l1
from dethead.losses.weighting import weights_of_labels

__all__ = [
    "confidence_bce",
    "reduce",
    "sigmoid_bce",
    "smooth_l1",
    "softmax_cross_entropy",
    "weights_of_labels",
]
