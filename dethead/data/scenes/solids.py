"""Simple solids in perspective: prisms, boxes and tubes that stand on the ground and are turned by a yaw."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from dethead.data.scenes.canvas import Camera, Pen, Point
from dethead.data.scenes.weather import Color

Profile = Sequence[tuple[float, float, float]]
"""Corners (u, y, half width) of a side view, clockwise with the front to the right, from the rear's foot."""

SIDE_LIGHT = 0.86
CIRCLE = [(math.cos(angle * math.tau / 14), math.sin(angle * math.tau / 14)) for angle in range(14)]


class Frame(NamedTuple):
    """Where a thing stands: u runs forwards along it, v to its right, y up, all in metres."""

    camera: Camera
    x: float
    z: float
    sin: float
    cos: float

    @classmethod
    def facing(cls, camera: Camera, x: float, z: float, yaw: float) -> "Frame":
        """Stand at (x, z); a yaw of 0 looks away from the camera, a quarter turn looks to the right."""
        return cls(camera, x, z, math.sin(yaw), math.cos(yaw))

    def see(self, u: float, y: float, v: float) -> Point:
        """Project a point given along, above and beside the thing."""
        x = self.x + u * self.sin + v * self.cos
        return self.camera.project(x, y, self.z + u * self.cos - v * self.sin)

    def depth(self, u: float, v: float = 0.0) -> float:
        """Give the distance at which a point of the thing lies."""
        return self.z + u * self.cos - v * self.sin

    def scale(self) -> float:
        """Give the pixels per metre at the thing's middle."""
        return self.camera.scale(self.z)

    def near_side(self) -> int:
        """Give 1 where the right side is turned to the camera, -1 where the left one is."""
        return 1 if self.x * self.cos - self.z * self.sin < 0 else -1

    def shows_front(self) -> bool:
        """Tell whether the front, rather than the rear, is turned to the camera."""
        return self.x * self.sin + self.z * self.cos < 0


def faces_camera(points: Sequence[Point]) -> bool:
    """Tell whether a projected polygon runs clockwise, as seen faces do.

    Example:
        >>> faces_camera([(0, 1), (0, 0), (1, 0), (1, 1)])
        True
    """
    area = 0.0
    x0, y0 = points[-1]
    for x1, y1 in points:
        area += x0 * y1 - x1 * y0
        x0, y0 = x1, y1
    return area > 0


def draw_prism(pen: Pen, frame: Frame, profile: Profile, color: Color, glass: Sequence[int] = ()) -> None:
    """Draw a body given by its side view and its width at each corner of it.

    Args:
        pen: at the body's distance.
        frame: where it stands.
        profile: the side view.
        color: of the paint; tops are drawn lighter, fronts and sides darker.
        glass: strips that hold a window, by the number of their first corner.
    """
    count = len(profile)
    for i in range(count):
        (u0, y0, w0), (u1, y1, w1) = profile[i], profile[(i + 1) % count]
        quad = [frame.see(u0, y0, -w0), frame.see(u1, y1, -w1), frame.see(u1, y1, w1), frame.see(u0, y0, w0)]
        if not faces_camera(quad):
            continue
        length = math.hypot(u1 - u0, y1 - y0) or 1.0
        pen.shape(quad, color, 0.92 + 0.22 * max(0.0, (u1 - u0) / length))
        if i in glass:
            draw_pane(pen, frame, profile, i, (-0.86, 0.86, 0.1, 0.88), (70, 84, 98))
    side = _near_outline(frame, profile)
    if faces_camera(side):
        pen.shape(side, color, SIDE_LIGHT)


def shows_side(frame: Frame, profile: Profile) -> bool:
    """Tell whether a side of a prism is seen, and not just its front or rear."""
    return faces_camera(_near_outline(frame, profile))


def _near_outline(frame: Frame, profile: Profile) -> list[Point]:
    side = frame.near_side()
    corners = profile if side > 0 else list(reversed(profile))
    return [frame.see(u, y, side * w) for u, y, w in corners]


def pane(
    frame: Frame, profile: Profile, strip: int, extent: tuple[float, float, float, float]
) -> list[Point]:
    """Give a rectangle on a strip of a prism, projected.

    Args:
        frame: where the prism stands.
        profile: of the prism.
        strip: number of the strip's first corner.
        extent: left and right in [-1, 1] of the half width, then begin and end in [0, 1] along the strip.
    """
    left, right, begin, end = extent
    (u0, y0, w0), (u1, y1, w1) = profile[strip], profile[(strip + 1) % len(profile)]
    corners = []
    for across, along in ((left, begin), (left, end), (right, end), (right, begin)):
        half = w0 + (w1 - w0) * along
        corners.append(frame.see(u0 + (u1 - u0) * along, y0 + (y1 - y0) * along, across * half))
    return corners


def draw_pane(
    pen: Pen,
    frame: Frame,
    profile: Profile,
    strip: int,
    extent: tuple[float, float, float, float],
    color: Color,
    shines: bool = False,
) -> None:
    """Draw a rectangle on a strip of a prism, if it is turned to the camera; see ``pane``."""
    points = pane(frame, profile, strip, extent)
    if faces_camera(points):
        (pen.glow if shines else pen.detail)(points, color)


def draw_box(
    pen: Pen,
    frame: Frame,
    extent: tuple[float, float, float],
    bottom: float,
    color: Color,
    offset: float = 0.0,
) -> Profile:
    """Draw a box of (length, width, height) whose floor is ``bottom`` metres up; give its profile back."""
    length, width, height = extent
    rear, front, half, top = offset - length / 2, offset + length / 2, width / 2, bottom + height
    profile = [(rear, bottom, half), (rear, top, half), (front, top, half), (front, bottom, half)]
    draw_prism(pen, frame, profile, color)
    return profile


def draw_tube(
    pen: Pen, frame: Frame, ends: tuple[float, float], middle: float, radii: tuple[float, float], color: Color
) -> None:
    """Draw a lying cylinder from u = ends[0] to ends[1], ``middle`` up, with radii (across, upwards)."""
    ring = [(radii[0] * x, middle + radii[1] * y, y) for x, y in CIRCLE]
    for (v0, y0, up0), (v1, y1, up1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        quad = [
            frame.see(ends[0], y0, v0),
            frame.see(ends[0], y1, v1),
            frame.see(ends[1], y1, v1),
            frame.see(ends[1], y0, v0),
        ]
        if faces_camera(quad):
            pen.shape(quad, color, 0.85 + 0.17 * (up0 + up1))
    for u, order in ((ends[0], -1), (ends[1], 1)):
        cap = [frame.see(u, y, v) for v, y, _ in ring][::order]
        if faces_camera(cap):
            pen.shape(cap, color, 0.9)


def draw_wheels(
    pen: Pen, frame: Frame, places: Sequence[float], radius: float, half_width: float, near: bool
) -> None:
    """Draw the wheels of the near or of the far side, at the given places along the thing."""
    v = half_width * frame.near_side() * (1 if near else -1)
    circle = CIRCLE if frame.scale() * radius > 4 else CIRCLE[::2]
    for u in places:
        tyre = [frame.see(u + radius * x, radius + radius * y, v) for x, y in circle]
        pen.shape(tyre, (24, 24, 26))
        if near and frame.scale() * radius > 1.5:
            rim = [frame.see(u + 0.58 * radius * x, radius + 0.58 * radius * y, v) for x, y in circle]
            pen.detail(rim, (120, 122, 126))


def side_patch(frame: Frame, corners: Sequence[tuple[float, float]], half_width: float) -> list[Point]:
    """Project a polygon of (u, y) corners painted on the near side of a thing."""
    v = half_width * frame.near_side()
    return [frame.see(u, y, v) for u, y in corners]


def draw_contact_shadow(pen: Pen, frame: Frame, length: float, width: float, opacity: float) -> None:
    """Darken the ground under and around a thing."""
    for grow, part in ((0.16, 0.45), (-0.05, 0.55)):
        u, v = length / 2 + grow, width / 2 + grow
        corners = [(-u, -v), (-u + 0.2, -v - 0.1), (u - 0.2, -v - 0.1), (u, -v), (u, v), (-u, v)]
        pen.veil([frame.see(a, 0.0, b) for a, b in corners], (8, 8, 12), opacity * part)
