"""What scenes are drawn on: a canvas of twice the size, and pens that know the weather and the distance."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from dethead.data.scenes.weather import Color, Weather

SUPERSAMPLING: Final = 2
"""Drawn pixels per pixel of the picture, in each direction: averaging them smooths the edges."""

NEAREST: Final = 1.2
"""Metres in front of the camera; what is nearer is moved there, which keeps projections finite."""

Point = tuple[float, float]
Extent = tuple[int, int, int, int]
"""Left, top, right, bottom."""


class Camera(NamedTuple):
    """A pinhole that looks along +z: x to the right, y up from the ground, z into the picture, in metres."""

    focal: float
    """Pixels per metre at a distance of one metre."""
    center: float
    """Column of the vanishing point."""
    horizon: float
    """Row of the horizon."""
    height: float
    """Metres above the ground."""

    def project(self, x: float, y: float, z: float) -> Point:
        """Give the (column, row) at which a point of the world is seen.

        Example:
            >>> Camera(focal=100, center=50, horizon=40, height=2).project(1.0, 0.0, 10.0)
            (60.0, 60.0)
        """
        scale = self.focal / (z if z > NEAREST else NEAREST)
        return self.center + x * scale, self.horizon + (self.height - y) * scale

    def upright(self, x: tuple[float, float], y: tuple[float, float], z: float) -> list[Point]:
        """Project a rectangle that faces the camera."""
        return rectangle(*self.project(x[0], y[1], z), *self.project(x[1], y[0], z))

    def scale(self, z: float) -> float:
        """Give the pixels per metre at distance ``z``."""
        return self.focal / max(z, NEAREST)

    def reach(self, z: float, width: int) -> tuple[float, float]:
        """Give the least and the greatest x that a picture ``width`` pixels wide shows at distance ``z``."""
        return -self.center * z / self.focal, (width - self.center) * z / self.focal


class Canvas:
    """The picture and, for each of its pixels, the number of the thing that is seen there (0: none)."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        full = (size[1] * SUPERSAMPLING, size[0] * SUPERSAMPLING)
        self.image = Image.new("RGB", full)
        self.owners = Image.new("L", full)
        self.ink = ImageDraw.Draw(self.image)
        self.glaze = ImageDraw.Draw(self.image, "RGBA")
        self.marks = ImageDraw.Draw(self.owners)

    def count(self, owner: int, extent: Extent) -> int:
        """Count the drawn pixels in the window ``extent`` that show a thing."""
        return self.owners.crop(extent).histogram()[owner]

    def owner_map(self) -> np.ndarray:
        """Give the owners of all drawn pixels, uint8."""
        return np.asarray(self.owners)


class Pen:
    """Draws at one distance: colours are lit by the weather and fade into its haze.

    Args:
        canvas: what is drawn on.
        weather: gives light and haze.
        distance: metres.
        owner: the number of the thing that is drawn, 0 for what is no object.
    """

    def __init__(self, canvas: Canvas, weather: Weather, distance: float, owner: int = 0) -> None:
        self.canvas = canvas
        self.weather = weather
        self.owner = owner
        self.clearness = math.exp(-weather.haze_density * distance)
        red, green, blue = weather.haze
        lost = 1.0 - self.clearness
        self.veiling = (red * lost, green * lost, blue * lost)
        red, green, blue = weather.ambient
        self.share = (red * self.clearness, green * self.clearness, blue * self.clearness)
        self.low = (math.inf, math.inf)
        self.high = (-math.inf, -math.inf)

    def extent(self) -> tuple[float, float, float, float]:
        """Give left, top, right and bottom of the outline drawn so far; it may leave the picture."""
        return (*self.low, *self.high)

    def at(self, distance: float) -> "Pen":
        """Give a pen for the same thing at another distance."""
        return Pen(self.canvas, self.weather, distance, self.owner)

    def shape(self, points: Sequence[Point], color: Color, light: float = 1.0) -> None:
        """Fill a polygon that is part of the thing's outline."""
        scaled = _scaled(points)
        self.canvas.ink.polygon(scaled, self._lit(color, light))
        self.canvas.marks.polygon(scaled, self.owner)
        if self.owner:
            self._grow(points)

    def detail(self, points: Sequence[Point], color: Color, light: float = 1.0) -> None:
        """Fill a polygon inside the outline."""
        self.canvas.ink.polygon(_scaled(points), self._lit(color, light))

    def glow(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon that shines by itself."""
        self.canvas.ink.polygon(_scaled(points), self._hazy(color))

    def veil(self, points: Sequence[Point], color: Color, opacity: float) -> None:
        """Lay a translucent polygon over what is there; ``opacity`` in [0, 1]. It hides nothing."""
        red, green, blue = self._hazy(color)
        alpha = int(255 * opacity * self.clearness)
        self.canvas.glaze.polygon(_scaled(points), (red, green, blue, alpha))

    def ellipse(self, center: Point, radii: Point, color: Color, light: float = 1.0) -> None:
        """Fill an upright ellipse that is part of the outline."""
        box = _bounds(center, radii)
        self.canvas.ink.ellipse(box, self._lit(color, light))
        self.canvas.marks.ellipse(box, self.owner)
        if self.owner:
            self._grow(
                [(center[0] - radii[0], center[1] - radii[1]), (center[0] + radii[0], center[1] + radii[1])]
            )

    def inner_ellipse(self, center: Point, radii: Point, color: Color, light: float = 1.0) -> None:
        """Fill an upright ellipse inside the outline."""
        self.canvas.ink.ellipse(_bounds(center, radii), self._lit(color, light))

    def lamp(self, center: Point, radius: float, color: Color) -> None:
        """Draw a round light."""
        self.canvas.ink.ellipse(_bounds(center, (radius, radius)), self._hazy(color))

    def soft_ellipse(self, center: Point, radii: Point, color: Color, opacity: float) -> None:
        """Lay a translucent ellipse over what is there, fading outwards in steps."""
        red, green, blue = self._hazy(color)
        alpha = int(255 * opacity * self.clearness / 4)
        for part in (1.0, 0.8, 0.6, 0.4):
            box = _bounds(center, (radii[0] * part, radii[1] * part))
            self.canvas.glaze.ellipse(box, (red, green, blue, alpha))

    def limb(self, start: Point, end: Point, width: float, color: Color, light: float = 1.0) -> None:
        """Draw a thick line with round ends, part of the outline."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = math.hypot(dx, dy) or 1.0
        x, y = -dy / length * width / 2, dx / length * width / 2
        self.shape(
            [
                (start[0] + x, start[1] + y),
                (end[0] + x, end[1] + y),
                (end[0] - x, end[1] - y),
                (start[0] - x, start[1] - y),
            ],
            color,
            light,
        )
        if width > 2.0:
            self.ellipse(start, (width / 2, width / 2), color, light)
            self.ellipse(end, (width / 2, width / 2), color, light)

    def _grow(self, points: Sequence[Point]) -> None:
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        self.low = min(self.low[0], *xs), min(self.low[1], *ys)
        self.high = max(self.high[0], *xs), max(self.high[1], *ys)

    def _lit(self, color: Color, light: float) -> tuple[int, int, int]:
        """Give a colour as it is seen; Pillow clips what is above 255."""
        (red, green, blue), (share_r, share_g, share_b) = self.veiling, self.share
        return (
            int(red + color[0] * share_r * light),
            int(green + color[1] * share_g * light),
            int(blue + color[2] * share_b * light),
        )

    def _hazy(self, color: Color) -> tuple[int, int, int]:
        """Give the colour of something that shines by itself."""
        keep, (red, green, blue) = self.clearness, self.veiling
        return int(red + color[0] * keep), int(green + color[1] * keep), int(blue + color[2] * keep)


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """Give the four corners of an upright rectangle.

    Example:
        >>> rectangle(0, 1, 2, 3)
        [(0, 1), (2, 1), (2, 3), (0, 3)]
    """
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _scaled(points: Sequence[Point]) -> list[Point]:
    return [(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points]


def _bounds(center: Point, radii: Point) -> tuple[float, float, float, float]:
    x, y = center[0] * SUPERSAMPLING, center[1] * SUPERSAMPLING
    dx, dy = abs(radii[0]) * SUPERSAMPLING, abs(radii[1]) * SUPERSAMPLING
    return x - dx, y - dy, x + dx, y + dy
