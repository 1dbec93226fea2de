"""What all figures of an evaluation share: how they are made, and what is done with many classes."""

from typing import TYPE_CHECKING

import numpy as np

from dethead.drawing import class_colour
from dethead.evaluation.arrays import Ints

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UnitColour = tuple[float, float, float]


def new_figure(width: float, height: float) -> "Figure":
    """Make a figure of so many inches.

    A figure of its own rather than pyplot: no window, no global state.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def unit_colour(place: int) -> UnitColour:
    """Give one of the seven colours that all eyes tell apart, as matplotlib wants it."""
    red, green, blue = class_colour(place)
    return red / 255, green / 255, blue / 255


def largest(counts: Ints, limit: int) -> list[int]:
    """Give the labels of the largest counts, at most ``limit``, in the order of the labels.

    Example:
        >>> largest(np.array([5, 1, 9]), 2)
        [0, 2]
    """
    return sorted(np.argsort(-counts, kind="stable")[:limit].tolist())


def chosen_of(shown: int, classes: int, why: str) -> str:
    """Say in a title that not all classes are shown.

    Example:
        >>> chosen_of(7, 80, "with most objects"), chosen_of(3, 3, "with most objects")
        ('; the 7 of 80 classes with most objects', '')
    """
    return f"; the {shown} of {classes} classes {why}" if shown < classes else ""
