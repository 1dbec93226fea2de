"""What follows from a factor on images: which fraction is meant, and how large its cells are on the image."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

MOST_PARTS: Final = 100
"""Largest denominator of a factor, so that 1.3333 is 4 / 3, and two decimals are what they say."""


def fraction(enlarge: float) -> Fraction:
    """Give the fraction that is meant.

    Example:
        >>> fraction(1.6), fraction(1.3333)
        (Fraction(8, 5), Fraction(4, 3))
    """
    return Fraction(enlarge).limit_denominator(MOST_PARTS)


def seen_strides(strides: Sequence[int], enlarge: float) -> tuple[float, ...]:
    """Give the pixels of an image per cell of a backbone that sees it enlarged.

    Example:
        >>> seen_strides((8, 16), 1), seen_strides((8, 16), 1.25)
        ((8, 16), (6.4, 12.8))
    """
    factor = fraction(enlarge)
    return tuple(strides) if factor == 1 else tuple(float(stride / factor) for stride in strides)


def whole_cells(stride: int, enlarge: float) -> int:
    """Give the least side, in px of the image, that is a whole number of cells; all such are its multiples.

    Example:
        >>> whole_cells(32, 1), whole_cells(32, 1.6), whole_cells(32, 1.4)
        (32, 20, 160)
    """
    return (stride / fraction(enlarge)).numerator
