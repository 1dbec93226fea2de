"""What an evaluation looks like: curves, confusion, errors, and galleries of the worst.

matplotlib is imported where it is used.
"""

from dethead.evaluation.pictures.confusion import save_confusion
from dethead.evaluation.pictures.curves import save_pr_curves
from dethead.evaluation.pictures.errors import save_error_costs, save_error_counts
from dethead.evaluation.pictures.gallery import Photographs, save_misses, save_mistakes

__all__ = [
    "Photographs",
    "save_confusion",
    "save_error_costs",
    "save_error_counts",
    "save_misses",
    "save_mistakes",
    "save_pr_curves",
]
