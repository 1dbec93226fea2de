"""Line charts as small SVG: here the geometry, in ``parts.html`` the drawing.

Written out rather than left to a plotting library: lines take their colours from the page, so that they
follow its dark mode and print, text stays text, and a chart of 21 lines is 20 kB.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

import numpy as np

from dethead.evaluation.arrays import Floats

WIDTH: Final = 360  # a telephone shows a chart in its own size; text is not shrunk
HEIGHT: Final = 250
LEFT, RIGHT, TOP, BOTTOM = 46, 350, 10, 208
"""Edges of the area that is drawn in, px."""
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS: Final = 5
_DECADES: Final = 0.7  # values that span more of them get a logarithmic axis, where one is allowed


class Tick(NamedTuple):
    """A mark on an axis."""

    share: float
    """Of the axis, in [0, 1]."""
    text: str


@dataclass(frozen=True)
class Scale:
    """An axis from ``low`` to ``high``; a logarithmic one has both above 0."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    """Whether marks are whole numbers alone."""

    @classmethod
    def around(cls, values: Iterable[float], *, zero: bool = False, log: bool = False) -> Self:
        """Make a scale that shows all finite values, with a little room.

        Args:
            values: any; nothing finite gives 0 to 1.
            zero: whether 0 must be on it.
            log: whether it may be logarithmic: it is if the values are positive and span decades.
        """
        known = [value for value in values if math.isfinite(value)] + ([0.0] if zero else [])
        if not known:
            return cls(0.0, 1.0)
        low, high = min(known), max(known)
        if log and low > 0 and math.log10(high / low) > _DECADES:
            return cls(low / 1.1, high * 1.1, log=True)
        room = 0.04 * (high - low) or 0.1 * abs(high) or 1.0
        # An axis that ends at 0 ends there exactly; one of nothing but 0 goes up from it.
        return cls(
            low if zero and low == 0 else low - room, high if zero and high == 0 > low else high + room
        )

    def share(self, values: Floats | float) -> Floats:
        """Give where values stand, 0 at ``low`` and 1 at ``high``; nan stays nan."""
        known = np.asarray(values, dtype=np.float64)
        if self.log:
            known = np.log(np.where(known > 0, known, np.nan))
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        shares: Floats = (known - low) / (high - low)
        return shares

    def ticks(self) -> list[Tick]:
        """Give about five round numbers on the axis.

        Example:
            >>> [tick.text for tick in Scale(0.0, 1.0).ticks()]
            ['0', '0.2', '0.4', '0.6', '0.8', '1']
        """
        values = self._decades() if self.log else self._steps()
        return [Tick(float(self.share(value)), f"{value:.6g}") for value in values]

    def _steps(self) -> list[float]:
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in _STEPS if factor * power >= rough * (1 - 1e-9))
        step = math.ceil(step) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def _decades(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        digits = (1, 2, 5) if len(powers) <= _TICKS - 1 else (1,)
        values = (digit * 10.0**power for power in powers for digit in digits)
        return [value for value in values if self.low <= value <= self.high]


class Line(NamedTuple):
    """One line, and the range around it."""

    name: str
    """Shown when the line is pointed at."""
    style: str
    """CSS class that gives the colour."""
    x: Floats
    """(P,) ascending."""
    y: Floats
    """(P,) nan: a gap."""
    low: Floats | None = None
    """(P,) lower end of the range; None: no range."""
    high: Floats | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """One panel; lines given first lie below."""

    title: str
    x_label: str
    lines: Sequence[Line]
    x: Scale
    y: Scale
    diagonal: bool = False
    """Whether to draw where x and y are the same."""
    frame: dict[str, int] = field(
        default_factory=lambda: {
            "width": WIDTH,
            "height": HEIGHT,
            "left": LEFT,
            "right": RIGHT,
            "top": TOP,
            "bottom": BOTTOM,
        }
    )

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Give place in px and text of the marks below."""
        return [(round(LEFT + share * (RIGHT - LEFT), 1), text) for share, text in self.x.ticks()]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Give place in px and text of the marks at the side."""
        return [(round(BOTTOM - share * (BOTTOM - TOP), 1), text) for share, text in self.y.ticks()]

    def path(self, line: Line) -> str:
        """Give the SVG path of a line; a point between two gaps is a dot (a line of no length)."""
        pieces = _runs(self._points(line.x, line.y))
        return "".join(f"M{' '.join(piece if len(piece) > 1 else piece * 2)}" for piece in pieces)

    def band(self, line: Line) -> str:
        """Give the SVG path around a line's range, "" where it has none."""
        if line.low is None or line.high is None:
            return ""
        known = np.isfinite(line.low) & np.isfinite(line.high)
        if known.sum() < 2 or np.array_equal(line.low[known], line.high[known]):
            return ""
        there = self._points(line.x[known], line.high[known])
        back = self._points(line.x[known], line.low[known])[::-1]
        return f"M{' '.join(filter(None, there + back))}Z"

    def _points(self, x: Floats, y: Floats) -> list[str]:
        """Give a pair of px for each point, "" for a gap."""
        across = LEFT + self.x.share(x) * (RIGHT - LEFT)
        down = BOTTOM - self.y.share(y) * (BOTTOM - TOP)
        pairs = zip(across.tolist(), down.tolist(), strict=True)
        return [f"{a:.1f},{b:.1f}" if math.isfinite(a) and math.isfinite(b) else "" for a, b in pairs]


def _runs(points: Sequence[str]) -> list[list[str]]:
    """Cut at the gaps."""
    runs: list[list[str]] = [[]]
    for point in points:
        if point:
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
