"""Things that are no objects: trees, lamp posts and a dozen look-alikes of cars, trucks and pedestrians."""

import math
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from dethead.data.scenes.canvas import Camera, Pen, rectangle
from dethead.data.scenes.solids import CIRCLE, Frame, draw_box, draw_contact_shadow, side_patch
from dethead.data.scenes.weather import Color

Spot = tuple[float, float]
"""x and z."""

LEAVES: Final = ((70, 104, 48), (88, 118, 52), (58, 92, 56), (112, 122, 52), (156, 112, 44), (140, 80, 40))
PAINTS: Final = (
    (176, 40, 38),
    (40, 84, 150),
    (222, 178, 44),
    (52, 110, 76),
    (120, 122, 126),
    (208, 206, 200),
)
STEEL: Final = (104, 108, 112)


def draw_tree(pen: Pen, camera: Camera, spot: Spot, seed: int) -> None:
    """Draw a leaf tree or a conifer."""
    (x, z), rng = spot, Random(seed)
    height = rng.uniform(4.0, 9.5)
    (column, row), scale = camera.project(x, 0, z), camera.scale(z)
    pen.soft_ellipse((column, row), (0.22 * height * scale, 0.05 * height * scale), (8, 10, 10), 0.4)
    trunk = (column, row - 0.4 * height * scale)
    pen.limb((column, row), trunk, 0.035 * height * scale, (86, 66, 50))
    color = rng.choice(LEAVES)
    if rng.random() < 0.25:
        for tier in range(4):
            low, high = (0.15 + 0.2 * tier) * height * scale, (0.5 + 0.17 * tier) * height * scale
            half = (0.24 - 0.05 * tier) * height * scale
            pen.shape([(column - half, row - low), (column, row - high), (column + half, row - low)],
                      (40, 74, 50), 0.8 + 0.08 * tier)  # fmt: skip
        return
    blobs = 7 if scale < 12 else 14
    for blob in range(blobs):
        part = blob / blobs
        dx, dy = rng.gauss(0, 0.13) * height, (0.5 + 0.3 * part + rng.gauss(0, 0.06)) * height
        radius = rng.uniform(0.1, 0.19) * height * scale
        pen.ellipse(
            (column + dx * scale, row - dy * scale), (radius * 1.1, radius), color, 0.68 + 0.45 * part
        )


def draw_lamp_post(pen: Pen, camera: Camera, spot: Spot, side: int) -> None:
    """Draw a street lamp whose arm reaches over the road, towards ``side``."""
    x, z = spot
    foot, top = camera.project(x, 0, z), camera.project(x, 6.0, z)
    end = camera.project(x + 1.4 * side, 6.2, z)
    width = max(0.6, 0.13 * camera.scale(z))
    pen.limb(foot, top, width, STEEL, 0.7)
    pen.limb(top, end, width * 0.8, STEEL, 0.7)
    if pen.weather.lights:
        pen.lamp(end, max(1.0, 0.28 * camera.scale(z)), (255, 232, 176))


def draw_light_pool(pen: Pen, camera: Camera, spot: Spot, strength: float) -> None:
    """Lighten the ground under a lamp."""
    x, z = spot
    scale = camera.scale(z)
    radii = (4.2 * scale, 4.2 * scale * camera.height / z)
    pen.soft_ellipse(camera.project(x, 0, z), radii, (255, 214, 140), strength)


def _draw_sign(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    x, z = spot
    scale, height = camera.scale(z), rng.uniform(2.0, 2.9)
    pen.limb(camera.project(x, 0, z), camera.project(x, height, z), max(0.5, 0.07 * scale), STEEL)
    column, row = camera.project(x, height, z)
    radius = 0.36 * scale
    if rng.random() < 0.5:
        pen.ellipse((column, row), (radius, radius), (190, 36, 34))
        pen.inner_ellipse((column, row), (radius * 0.74, radius * 0.74), (230, 228, 224))
    elif rng.random() < 0.5:
        pen.shape(
            [(column - radius, row + radius), (column, row - radius), (column + radius, row + radius)],
            (196, 40, 36),
        )
        pen.detail([(column - radius * 0.6, row + radius * 0.75), (column, row - radius * 0.5),
                    (column + radius * 0.6, row + radius * 0.75)], (232, 230, 224))  # fmt: skip
    else:
        pen.shape(rectangle(column - radius, row - radius, column + radius, row + radius), (40, 84, 160))


def _draw_bin(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    """A wheeled bin or a letter box: upright, and about as broad as a pedestrian."""
    frame = Frame.facing(camera, *spot, rng.gauss(0, 0.2))
    height = rng.uniform(0.95, 1.45)
    draw_contact_shadow(pen, frame, 0.6, 0.6, 0.5)
    draw_box(pen, frame, (0.6, 0.6, height), 0.0, paint)
    draw_box(pen, frame, (0.68, 0.68, 0.12), height, (paint[0] * 0.6, paint[1] * 0.6, paint[2] * 0.6))


def _draw_hydrant(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    """A post with a round head, as a child's figure has one."""
    x, z = spot
    scale, height = camera.scale(z), rng.uniform(0.9, 1.5)
    (column, row), half = camera.project(x, 0, z), 0.14 * scale
    pen.shape(rectangle(column - half, row - height * scale, column + half, row), paint)
    pen.ellipse((column, row - height * scale), (half * 1.1, half * 1.3), paint, 1.1)
    bar = (row - 0.62 * height * scale, row - 0.5 * height * scale)
    pen.shape(rectangle(column - half * 1.7, bar[0], column + half * 1.7, bar[1]), paint, 0.85)


def _draw_kiosk(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    """A stall with an awning, about a van's size."""
    frame = Frame.facing(camera, *spot, math.pi / 2 if rng.random() < 0.5 else 0.0)
    draw_contact_shadow(pen, frame, 2.6, 2.0, 0.5)
    draw_box(pen, frame, (2.6, 2.0, 2.3), 0.0, paint)
    counter = [(-1.0, 1.0), (-1.0, 1.9), (1.0, 1.9), (1.0, 1.0)]
    points = side_patch(frame, counter, 1.0)
    if pen.weather.lights:
        pen.glow(points, (250, 222, 160))
    else:
        pen.detail(points, (52, 50, 50))
    draw_box(pen, frame, (3.0, 2.5, 0.3), 2.3, (226, 224, 216))


def _draw_container(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    """A skip or a container on the ground: a truck's load without the truck."""
    frame = Frame.facing(camera, *spot, math.pi / 2 if rng.random() < 0.5 else 0.0)
    length, height = rng.uniform(2.2, 4.2), rng.uniform(1.2, 2.4)
    draw_contact_shadow(pen, frame, length, 1.8, 0.6)
    draw_box(pen, frame, (length, 1.8, height), 0.08, paint)
    for step in range(1, int(length / 0.5)):
        u = -length / 2 + step * 0.5
        rib = rectangle(u, 0.2, u + 0.1, height - 0.05)
        pen.detail(side_patch(frame, rib, 0.9), paint, 0.66)


def _draw_shelter(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    """A bus stop: posts, a roof, a bench and glass one sees through."""
    x, z = spot
    see = camera.project
    width = max(0.6, 0.09 * camera.scale(z))
    left, right = x - 1.8, x + 1.8
    pane = camera.upright((left, right), (0.3, 2.3), z + 0.6)
    pen.veil(pane, (170, 196, 206), 0.35)
    pen.shape(camera.upright((left, right - 0.9), (0.45, 0.55), z), (120, 84, 54))
    for at in (left, right):
        pen.limb(see(at, 0, z), see(at, 2.4, z), width, STEEL, 0.6)
    poster = camera.upright((right - 0.8, right - 0.05), (0.4, 2.0), z)
    pen.shape(poster, paint)
    pen.shape(camera.upright((left - 0.2, right + 0.2), (2.4, 2.55), z), STEEL, 0.8)


def _draw_billboard(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    x, z = spot
    see = camera.project
    half, low, high = rng.uniform(1.1, 1.9), rng.uniform(0.9, 1.8), rng.uniform(3.2, 4.2)
    for at in (x - 0.7 * half, x + 0.7 * half):
        pen.limb(see(at, 0, z), see(at, low, z), max(0.6, 0.12 * camera.scale(z)), STEEL, 0.6)
    pen.shape(camera.upright((x - half, x + half), (low, high), z), paint)
    for _ in range(4):
        a, b = x + rng.uniform(-0.9, 0.2) * half, rng.uniform(low, high - 0.6)
        wide, tall = rng.uniform(0.2, 0.7) * half, rng.uniform(0.2, 0.6)
        pen.detail(camera.upright((a, a + wide), (b, b + tall), z), rng.choice(PAINTS))


def _draw_bush(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    """A hedge of a car's length and height."""
    x, z = spot
    scale, color = camera.scale(z), rng.choice(LEAVES[:4])
    column, row = camera.project(x, 0, z)
    pen.soft_ellipse((column, row), (1.7 * scale, 0.25 * scale), (8, 10, 10), 0.5)
    for blob in range(9):
        dx, dy, radius = rng.uniform(-1.3, 1.3), 0.25 + 0.08 * blob, rng.uniform(0.3, 0.5)
        pen.ellipse(
            (column + dx * scale, row - dy * scale),
            (radius * 1.3 * scale, radius * scale),
            color,
            0.65 + 0.05 * blob,
        )


def _draw_statue(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    """A tailor's dummy or a statue: a torso and a head on a pole, without arms and legs."""
    x, z = spot
    (column, row), scale = camera.project(x, 0, z), camera.scale(z)
    stone = (168, 166, 158) if rng.random() < 0.6 else (90, 104, 96)
    pen.shape(rectangle(column - 0.32 * scale, row - 0.7 * scale, column + 0.32 * scale, row), stone, 0.75)
    body = ((-0.2, 0.7), (-0.13, 1.2), (-0.22, 1.7), (0.0, 1.82), (0.22, 1.7), (0.13, 1.2), (0.2, 0.7))
    pen.shape([(column + dx * scale, row - dy * scale) for dx, dy in body], stone)
    pen.ellipse((column, row - 1.95 * scale), (0.11 * scale, 0.14 * scale), stone, 1.05)


def _draw_signal(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    x, z = spot
    scale = camera.scale(z)
    pen.limb(camera.project(x, 0, z), camera.project(x, 2.6, z), max(0.5, 0.1 * scale), STEEL, 0.7)
    column, row = camera.project(x, 2.9, z)
    pen.shape(
        rectangle(column - 0.16 * scale, row - 0.45 * scale, column + 0.16 * scale, row + 0.45 * scale),
        (34, 36, 36),
    )
    on = rng.randrange(3)
    colors: tuple[Color, ...] = ((240, 50, 40), (250, 190, 50), (60, 220, 110))
    for lamp, color in enumerate(colors):
        center, radius = (column, row + (lamp - 1) * 0.28 * scale), 0.11 * scale
        if lamp == on:
            pen.lamp(center, max(0.7, radius), color)
        else:
            pen.inner_ellipse(center, (radius, radius), (70, 70, 66))


def _draw_tyres(pen: Pen, camera: Camera, spot: Spot, paint: Color, rng: Random) -> None:
    """Cable drums or stacked tyres: a vehicle's wheels without the vehicle."""
    x, z = spot
    radius = rng.uniform(0.3, 0.5)
    for step in range(rng.randrange(1, 4)):
        at = x + step * radius * 2.1
        ring = [camera.project(at + radius * a, radius + radius * b, z) for a, b in CIRCLE]
        hole = [camera.project(at + 0.45 * radius * a, radius + 0.45 * radius * b, z) for a, b in CIRCLE]
        pen.shape(ring, (44, 42, 42))
        pen.detail(hole, paint)


Drawer = Callable[[Pen, Camera, Spot, Color, Random], None]
LOOK_ALIKES: Final[tuple[tuple[float, Drawer], ...]] = (
    (0.4, _draw_sign),
    (0.4, _draw_bin),
    (0.3, _draw_hydrant),
    (1.5, _draw_kiosk),
    (1.8, _draw_container),
    (2.0, _draw_shelter),
    (1.6, _draw_billboard),
    (1.6, _draw_bush),
    (0.4, _draw_statue),
    (0.3, _draw_signal),
    (1.0, _draw_tyres),
)
"""Half widths in metres, and who draws them."""


class LookAlike(NamedTuple):
    """A piece of street furniture that stands somewhere."""

    half: float
    """Half its width, in metres."""
    drawer: Drawer
    paint: Color
    seed: int

    def draw(self, pen: Pen, camera: Camera, spot: Spot) -> None:
        """Draw it at ``spot``."""
        self.drawer(pen, camera, spot, self.paint, Random(self.seed))


def choose_look_alike(rng: Random) -> LookAlike:
    """Draw a kind of street furniture and its paint."""
    half, drawer = rng.choice(LOOK_ALIKES)
    return LookAlike(half, drawer, rng.choice(PAINTS), rng.getrandbits(32))
