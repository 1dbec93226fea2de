"""A class loss worked by hand: every number between the logits of a box and its loss, and the gradient."""

from dethead.explain.catalogue import CLASS_LOSSES, OTHER_LOSSES, Entry
from dethead.explain.steps import Step
from dethead.explain.worked import Descent, Explanation, check_apart, descend, explain, save_plot

__all__ = [
    "CLASS_LOSSES",
    "OTHER_LOSSES",
    "Descent",
    "Entry",
    "Explanation",
    "Step",
    "check_apart",
    "descend",
    "explain",
    "save_plot",
]
