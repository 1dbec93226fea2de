"""Pedestrians: upright figures with limbs, in many poses, sizes and clothes."""

from itertools import pairwise
from random import Random
from typing import Final, NamedTuple

from dethead.data.scenes.canvas import Camera, Pen, Point, rectangle
from dethead.data.scenes.weather import Color

CLOTHES: Final = (
    (36, 38, 46), (58, 62, 72), (92, 96, 104), (150, 150, 150), (212, 208, 200), (40, 58, 104),
    (66, 100, 150), (140, 36, 40), (188, 60, 48), (52, 92, 62), (110, 120, 70), (150, 112, 70),
    (206, 166, 70), (120, 70, 110), (206, 130, 140), (226, 120, 40), (86, 60, 44),
)  # fmt: skip
TROUSERS: Final = (
    (34, 40, 62),
    (28, 28, 32),
    (70, 74, 84),
    (96, 84, 66),
    (50, 66, 98),
    (120, 110, 92),
    (60, 44, 38),
)
SKINS: Final = ((238, 200, 172), (222, 178, 146), (192, 142, 106), (142, 98, 70), (98, 66, 48))
HAIRS: Final = ((38, 28, 24), (24, 22, 22), (90, 62, 38), (160, 126, 76), (150, 146, 142), (110, 52, 34))
UMBRELLAS: Final = (
    (30, 30, 36),
    (150, 30, 40),
    (40, 70, 130),
    (206, 180, 60),
    (70, 120, 90),
    (190, 190, 196),
)


class Pedestrian(NamedTuple):
    """A figure; lengths are parts of its height unless they are in metres."""

    height: float
    """Metres."""
    build: float
    """Factor on widths."""
    sideways: int
    """-1 or 1: walks to the left or right; 0: seen from the front or from behind."""
    back: bool
    """Seen from behind."""
    stride: float
    """0 stands, 1 is the widest step; the sign says which leg is ahead."""
    top: Color
    trousers: Color
    skin: Color
    hair: Color
    coat: bool
    hat: bool
    bag: str
    """"none", "hand", "shoulder" or "back"."""
    umbrella: Color | None


def make_pedestrian(rng: Random, rain: bool) -> Pedestrian:
    """Draw a figure; many carry umbrellas in the rain."""
    child = rng.random() < 0.12
    return Pedestrian(
        height=rng.uniform(1.0, 1.4) if child else rng.gauss(1.71, 0.08),
        build=rng.uniform(0.85, 1.2),
        sideways=rng.choice((-1, 0, 0, 1)),
        back=rng.random() < 0.5,
        stride=rng.uniform(0.25, 1.0) * rng.choice((-1, 1)) if rng.random() < 0.8 else 0.0,
        top=rng.choice(CLOTHES),
        trousers=rng.choice(TROUSERS),
        skin=rng.choice(SKINS),
        hair=rng.choice(HAIRS),
        coat=rng.random() < 0.3,
        hat=rng.random() < 0.15,
        bag=rng.choices(("none", "hand", "shoulder", "back"), (50, 18, 14, 18))[0],
        umbrella=rng.choice(UMBRELLAS) if rain and rng.random() < 0.65 else None,
    )


class _Figure:
    """A pedestrian at a place in the picture: dx and dy are parts of its height from its feet."""

    def __init__(self, pen: Pen, camera: Camera, who: Pedestrian, x: float, z: float) -> None:
        self.pen = pen
        self.who = who
        self.column, self.row = camera.project(x, 0.0, z)
        self.height = camera.scale(z) * who.height
        self.width = self.height * who.build

    def at(self, dx: float, dy: float) -> Point:
        return self.column + dx * self.width, self.row - dy * self.height

    def limb(self, *joints: tuple[float, float], width: float, color: Color, light: float = 1.0) -> None:
        points = [self.at(dx, dy) for dx, dy in joints]
        for start, end in pairwise(points):
            self.pen.limb(start, end, width * self.width, color, light)


def draw_pedestrian(pen: Pen, camera: Camera, who: Pedestrian, spot: tuple[float, float]) -> None:
    """Draw a pedestrian at ``spot``, (x, z); what is carried belongs to the outline."""
    figure = _Figure(pen, camera, who, *spot)
    foot = figure.at(0.04, 0.0)
    pen.soft_ellipse(foot, (0.2 * figure.width, 0.035 * figure.height), (8, 8, 12), 0.6 + pen.weather.sun)
    side = who.sideways
    if who.bag == "back" and not (side == 0 and who.back):
        _draw_backpack(figure)
    _draw_arm(figure, -1)
    _draw_legs(figure)
    _draw_torso(figure)
    if who.bag == "back" and side == 0 and who.back:
        _draw_backpack(figure)
    _draw_head(figure)
    _draw_arm(figure, 1)
    _draw_carried(figure)


def _draw_legs(figure: _Figure) -> None:
    who = figure.who
    if who.sideways:
        swing = 0.17 * who.stride
        for sign, light in ((-1, 0.8), (1, 1.0)):
            foot = sign * swing
            knee = (foot * 0.55 + 0.025 * who.sideways, 0.27)
            figure.limb((0.0, 0.5), knee, (foot, 0.04), width=0.085, color=who.trousers, light=light)
            toe = foot + 0.07 * who.sideways
            figure.limb((foot, 0.02), (toe, 0.02), width=0.045, color=(30, 28, 28))
        return
    lift = 0.05 * who.stride
    for sign in (-1, 1):
        foot = max(0.0, sign * lift)
        figure.limb((sign * 0.045, 0.5), (sign * 0.055, 0.27), (sign * 0.05, 0.04 + foot), width=0.085,
                    color=who.trousers)  # fmt: skip
        figure.limb((sign * 0.05, 0.02 + foot), (sign * 0.065, 0.015 + foot), width=0.045, color=(30, 28, 28))


def _draw_torso(figure: _Figure) -> None:
    who = figure.who
    shoulder, hip = (0.085, 0.075) if who.sideways else (0.125, 0.095)
    hem = 0.3 if who.coat else 0.46
    flare = 1.25 if who.coat else 1.0
    corners = [(-shoulder * 0.6, 0.85), (shoulder * 0.6, 0.85), (shoulder, 0.8), (hip * flare, hem),
               (-hip * flare, hem), (-shoulder, 0.8)]  # fmt: skip
    figure.pen.shape([figure.at(dx, dy) for dx, dy in corners], who.top)
    if not who.sideways and not who.back and figure.height > 30:
        opening = [(-0.012, 0.84), (0.012, 0.84), (0.012, hem), (-0.012, hem)]
        figure.pen.detail([figure.at(dx, dy) for dx, dy in opening], who.top, 0.65)


def _draw_arm(figure: _Figure, sign: int) -> None:
    who = figure.who
    light = 0.78 if sign < 0 else 0.9
    if who.umbrella is not None and sign > 0:
        joints = ((0.09, 0.79), (0.15, 0.68), (0.12, 0.8))
    elif who.sideways:
        swing = -0.15 * who.stride * sign
        joints = ((0.0, 0.79), (swing * 0.6 - 0.02 * who.sideways, 0.63), (swing + 0.03 * who.sideways, 0.5))
    else:
        joints = ((sign * 0.125, 0.79), (sign * 0.16, 0.63), (sign * 0.15, 0.49))
    figure.limb(*joints, width=0.06, color=who.top, light=light)
    radius = 0.028 * figure.width
    figure.pen.ellipse(figure.at(*joints[-1]), (radius, radius), who.skin)


def _draw_head(figure: _Figure) -> None:
    who, pen = figure.who, figure.pen
    pen.shape(
        [figure.at(dx, dy) for dx, dy in ((-0.03, 0.88), (0.03, 0.88), (0.03, 0.83), (-0.03, 0.83))], who.skin
    )
    center = figure.at(0.015 * who.sideways, 0.925)
    radii = (0.056 * figure.width, 0.072 * figure.height)
    pen.ellipse(center, radii, who.hair)
    if not (who.back and not who.sideways):
        face = (center[0] + 0.018 * figure.width * who.sideways, center[1] + 0.02 * figure.height)
        pen.inner_ellipse(face, (radii[0] * 0.82, radii[1] * 0.76), who.skin)
    if who.hat:
        top = center[1] - 0.045 * figure.height
        brim = 0.075 * figure.width
        pen.shape(
            rectangle(center[0] - brim, top, center[0] + brim, top + 0.018 * figure.height), who.trousers
        )
        pen.ellipse((center[0], top), (brim * 0.75, 0.035 * figure.height), who.trousers)


def _draw_backpack(figure: _Figure) -> None:
    who = figure.who
    center = figure.at(-0.11 * who.sideways, 0.69)
    width = 0.06 if who.sideways else 0.1
    figure.pen.ellipse(center, (width * figure.width, 0.115 * figure.height), who.trousers, 1.3)


def _draw_carried(figure: _Figure) -> None:
    who, pen = figure.who, figure.pen
    if who.bag in ("hand", "shoulder"):
        dx, dy = (-0.17, 0.4) if who.bag == "hand" else (-0.14, 0.55)
        x, y = figure.at(dx, dy)
        half = 0.055 * figure.width
        pen.shape(rectangle(x - half, y - half, x + half, y + half * 1.2), who.hair, 1.4)
    if who.umbrella is None:
        return
    grip, tip = figure.at(0.12, 0.8), figure.at(0.08, 1.2)
    pen.limb(grip, tip, max(0.4, 0.012 * figure.width), (70, 70, 74))
    rim = [(0.08 + 0.33 * dx, 1.0 + dy) for dx, dy in
           ((-1, 0), (-0.88, 0.1), (-0.6, 0.18), (-0.2, 0.22), (0.2, 0.22), (0.6, 0.18), (0.88, 0.1), (1, 0),
            (0.66, 0.035), (0.33, 0), (0, 0.035), (-0.33, 0), (-0.66, 0.035))]  # fmt: skip
    pen.shape([figure.at(dx, dy) for dx, dy in rim], who.umbrella)
    pen.detail([figure.at(dx, dy) for dx, dy in ((0.08, 1.22), (0.146, 1.22), (0.19, 1.0), (0.08, 1.035))],
               who.umbrella, 0.8)  # fmt: skip
