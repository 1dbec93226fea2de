"""Tables that the page and the Markdown share: a text to show and a key to sort by in every cell."""

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Cell(NamedTuple):
    """One cell."""

    text: str
    key: float | None = None
    """What a column of numbers is sorted by; None: the text, or a number that is not known ("-")."""
    style: str = ""
    """CSS class of the dot before the text; "": no dot."""


@dataclass(frozen=True)
class Table:
    """A table that sorts by a click."""

    name: str
    """Its anchor on the page."""
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    """What must be known to read it."""
    texts: int = 1
    """So many columns at the left are words, the others numbers."""

    def as_markdown(self) -> str:
        """Give a GitHub table."""
        rule = ["---" if place < self.texts else "---:" for place in range(len(self.head))]
        rows = [[cell.text for cell in row] for row in self.rows]
        lines = [[markdown_text(text) for text in self.head], rule]
        lines += [[markdown_text(text) for text in row] for row in rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_text(text: str) -> str:
    r"""Keep names from being read as markup.

    Example:
        >>> print(markdown_text("a|b <c> *d*"))
        a\|b &lt;c&gt; \*d\*
    """
    return re.sub(r"([\\|*`\[\]])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def number(value: float | None, show: Callable[[float], str], style: str = "") -> Cell:
    """Show a number, "-" if it is not known."""
    if value is None or math.isnan(value):
        return Cell("-", None, style)
    return Cell(show(value), value, style)


def percent(value: float | None, style: str = "") -> Cell:
    """Show a share in [0, 1] in percent with one decimal."""
    return number(value, lambda known: f"{100 * known:.1f}", style)


def mean_percent(values: Sequence[float]) -> Cell:
    """Show the mean of shares over seeds and, of two or more, their standard deviation, in percent.

    Example:
        >>> mean_percent([0.4, 0.5]).text, mean_percent([0.4]).text, mean_percent([]).text
        ('45.0 ± 7.1', '40.0', '-')
    """
    return spread(values, lambda value: f"{100 * value:.1f}")


def spread(values: Sequence[float], show: Callable[[float], str]) -> Cell:
    """Show mean and standard deviation of what is known."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return Cell("-")
    deviation = f" ± {show(float(known.std(ddof=1)))}" if len(known) > 1 else ""
    return Cell(f"{show(float(known.mean()))}{deviation}", float(known.mean()))
