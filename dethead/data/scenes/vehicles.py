"""Cars and trucks, from every side: a body given once and drawn as simple solids in perspective."""

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from dethead.data.scenes.canvas import Camera, Pen
from dethead.data.scenes.layout import Place
from dethead.data.scenes.solids import (
    Frame,
    Profile,
    draw_box,
    draw_contact_shadow,
    draw_pane,
    draw_prism,
    draw_tube,
    draw_wheels,
    shows_side,
    side_patch,
)
from dethead.data.scenes.weather import Color

GLASS: Final = (58, 70, 84)
DARK: Final = (34, 35, 38)
HEADLIGHT: Final = (255, 244, 214)
TAILLIGHT: Final = (232, 30, 22)
DETAIL_SCALE: Final = 9.0
"""Pixels per metre below which plates, pillars and mirrors are left out."""

CAR_PAINTS: Final[Sequence[Color]] = (
    (226, 228, 230), (198, 201, 206), (120, 124, 130), (48, 50, 56), (28, 30, 34), (150, 26, 28),
    (196, 44, 36), (30, 60, 128), (64, 108, 170), (28, 84, 58), (122, 92, 62), (214, 178, 60),
    (214, 118, 40), (106, 158, 160), (84, 40, 66), (222, 214, 190),
)  # fmt: skip
CARGO_PAINTS: Final[Sequence[Color]] = (
    (232, 232, 228), (212, 214, 216), (178, 40, 36), (38, 78, 150), (40, 112, 70), (228, 182, 40),
    (204, 110, 36), (120, 124, 128), (70, 130, 160),
)  # fmt: skip


class CarShape(NamedTuple):
    """A kind of car: corners with u in half lengths, y in metres, width as a part of the half width."""

    size: tuple[float, float]
    """(length, width) in metres."""
    body: Profile
    hood: int
    """The strip of the body that is the front below the hood; the rear is strip 0 or 1."""
    cabin: Profile
    """Empty where the body reaches up to the roof."""
    glass: tuple[int, ...]
    """Strips of the cabin, or of the body without one, that are windows."""
    windows: tuple[tuple[tuple[float, float], ...], ...]
    """Side windows, (u, y) corners."""


SALOON: Final = CarShape(
    (4.5, 1.8),
    ((-0.97, 0.28, 0.93), (-1.0, 0.62, 0.98), (-0.96, 0.98, 0.92), (0.5, 0.98, 0.95), (0.94, 0.82, 0.9),
     (1.0, 0.58, 0.96), (0.97, 0.26, 0.92)),
    4,
    ((-0.74, 0.94, 0.9), (-0.36, 1.44, 0.7), (0.1, 1.45, 0.7), (0.5, 0.94, 0.9)),
    (0, 2),
    (((-0.6, 1.0), (-0.34, 1.35), (-0.13, 1.37), (-0.13, 1.0)), ((-0.09, 1.0), (-0.09, 1.37), (0.09, 1.37),
     (0.38, 1.0))),
)  # fmt: skip
HATCHBACK: Final = CarShape(
    (3.9, 1.74),
    ((-0.97, 0.28, 0.93), (-1.0, 0.66, 0.98), (-0.96, 1.02, 0.92), (0.52, 1.0, 0.95), (0.92, 0.85, 0.9),
     (1.0, 0.58, 0.96), (0.97, 0.26, 0.92)),
    4,
    ((-0.95, 0.98, 0.9), (-0.76, 1.47, 0.72), (0.12, 1.5, 0.72), (0.56, 0.96, 0.9)),
    (0, 2),
    (((-0.8, 1.04), (-0.68, 1.38), (-0.22, 1.41), (-0.22, 1.04)), ((-0.17, 1.04), (-0.17, 1.41), (0.11, 1.41),
     (0.42, 1.04))),
)  # fmt: skip
ESTATE: Final = CarShape(
    (4.6, 1.88),
    ((-0.97, 0.34, 0.93), (-1.0, 0.7, 0.98), (-0.97, 1.08, 0.94), (0.54, 1.06, 0.96), (0.95, 0.95, 0.92),
     (1.0, 0.62, 0.97), (0.97, 0.32, 0.93)),
    4,
    ((-0.96, 1.02, 0.92), (-0.86, 1.6, 0.76), (0.14, 1.66, 0.76), (0.54, 1.02, 0.92)),
    (0, 2),
    (((-0.86, 1.1), (-0.8, 1.5), (-0.42, 1.54), (-0.42, 1.1)), ((-0.38, 1.1), (-0.38, 1.54), (0.12, 1.57),
     (0.42, 1.1))),
)  # fmt: skip
VAN: Final = CarShape(
    (5.2, 2.0),
    ((-1.0, 0.34, 0.95), (-1.0, 1.15, 1.0), (-0.98, 2.2, 0.88), (0.36, 2.28, 0.88), (0.66, 1.34, 0.97),
     (0.95, 1.1, 0.93), (1.0, 0.62, 0.97), (0.98, 0.3, 0.94)),
    5,
    (),
    (1, 3),
    (((0.1, 1.32), (0.1, 2.0), (0.38, 2.0), (0.56, 1.32)),),
)  # fmt: skip
CAR_SHAPES: Final = (SALOON, HATCHBACK, ESTATE, VAN)
TRUCK_KINDS: Final = ("box", "tanker", "flat bed", "container")


class Vehicle(NamedTuple):
    """A car or a truck that somebody could place on a road."""

    length: float
    width: float
    paint: Color
    second_paint: Color
    kind: str
    shape: CarShape
    lights: bool = False
    """Drives with its lights on."""


def make_car(rng: Random) -> Vehicle:
    """Draw the kind, the size and the paint of a car."""
    shape = rng.choices(CAR_SHAPES, (30, 34, 22, 14))[0]
    stretch = rng.uniform(0.94, 1.06)
    paint = rng.choice(CARGO_PAINTS[:6] if shape is VAN and rng.random() < 0.6 else CAR_PAINTS)
    fade = rng.uniform(0.82, 1.06)
    paint = (paint[0] * fade, paint[1] * fade, paint[2] * fade)
    length, width = shape.size
    return Vehicle(length * stretch, width, paint, rng.choice(CARGO_PAINTS), "car", shape)


def make_truck(rng: Random) -> Vehicle:
    """Draw the kind, the size and the paints of a truck."""
    kind = rng.choices(TRUCK_KINDS, (44, 20, 20, 16))[0]
    length = rng.uniform(6.6, 9.6)
    return Vehicle(length, 2.45, rng.choice(CARGO_PAINTS), rng.choice(CARGO_PAINTS), kind, VAN)


def draw_vehicle(pen: Pen, camera: Camera, vehicle: Vehicle, place: Place) -> None:
    """Draw a vehicle and its shadow."""
    frame = Frame.facing(camera, *place)
    opacity = 0.5 + 0.5 * pen.weather.sun
    draw_contact_shadow(pen, frame, vehicle.length, vehicle.width, opacity)
    if vehicle.kind == "car":
        _draw_car(pen, frame, vehicle)
    else:
        _draw_truck(pen, frame, vehicle)


def draw_beam(pen: Pen, camera: Camera, vehicle: Vehicle, place: Place) -> None:
    """Draw the light of the headlights on the ground and, on a wet road, the mirror images of the lamps."""
    frame, u = Frame.facing(camera, *place), vehicle.length / 2
    for reach, spread, strength in ((7.0, 2.0, 0.12), (4.0, 1.4, 0.16)):
        corners = ((u, -0.7), (u + reach, -spread), (u + reach, spread), (u, 0.7))
        pen.veil([frame.see(along, 0.0, across) for along, across in corners], (255, 236, 190), strength)
    if pen.weather.rain and not place.turned:
        scale, near = camera.scale(place.z - u), place.z - u
        color = HEADLIGHT if frame.shows_front() else TAILLIGHT
        for side in (-0.7, 0.7):
            column, row = camera.project(place.x + side, 0.0, near)
            pen.soft_ellipse((column, row + 0.7 * scale), (0.16 * scale, 0.8 * scale), color, 0.5)


def _draw_car(pen: Pen, frame: Frame, car: Vehicle) -> None:
    shape, u, w = car.shape, car.length / 2, car.width / 2
    body = [(a * u, y, b * w) for a, y, b in shape.body]
    cabin = [(a * u, y, b * w) for a, y, b in shape.cabin]
    wheels, radius = (-0.62 * u, 0.64 * u), 0.33 if shape is not ESTATE else 0.37
    draw_wheels(pen, frame, wheels, radius, 0.9 * w, near=False)
    draw_prism(pen, frame, body, car.paint, () if cabin else shape.glass)
    sill = [(-0.97 * u, 0.27), (-0.98 * u, 0.42), (0.98 * u, 0.42), (0.96 * u, 0.27)]
    side_seen = shows_side(frame, body)
    if side_seen:
        pen.detail(side_patch(frame, sill, 0.95 * w), car.paint, 0.55)
    draw_wheels(pen, frame, wheels, radius, 0.97 * w, near=True)
    if cabin:
        draw_prism(pen, frame, cabin, car.paint, shape.glass)
    if side_seen:
        _draw_side_windows(pen, frame, car)
    _draw_ends(pen, frame, body, shape.hood, car)


def _draw_side_windows(pen: Pen, frame: Frame, car: Vehicle) -> None:
    u, w = car.length / 2, car.width / 2
    side = frame.near_side()
    cabin = car.shape.cabin
    for window in car.shape.windows:
        points = []
        for a, y in window:
            lean = 0.93 if not cabin else 0.9 - 0.2 * (y - cabin[0][1]) / (cabin[1][1] - cabin[0][1])
            points.append(frame.see(a * u, y, side * w * lean))
        pen.detail(points, GLASS, 1.1)
    if frame.scale() > DETAIL_SCALE:
        belt = [(-0.9 * u, 0.74), (-0.9 * u, 0.79), (0.9 * u, 0.74), (0.9 * u, 0.7)]
        pen.detail(side_patch(frame, belt, 0.99 * w), car.paint, 1.12)
        for a in (-0.15, 0.36):
            door = [(a * u, 0.45), (a * u, 0.96), (a * u + 0.03, 0.96), (a * u + 0.03, 0.45)]
            pen.detail(side_patch(frame, door, 0.98 * w), car.paint, 0.6)


def _draw_ends(pen: Pen, frame: Frame, body: Profile, hood: int, car: Vehicle) -> None:
    """Draw the lamps, the grille and the plates of the end that is seen."""
    detailed = frame.scale() > DETAIL_SCALE
    if frame.shows_front():
        draw_pane(pen, frame, body, hood + 1, (-0.9, 0.9, 0.35, 1.0), car.paint)
        for left, right in ((-0.95, -0.55), (0.55, 0.95)):
            lamp = (left, right, 0.25, 0.95)
            draw_pane(pen, frame, body, hood, lamp, HEADLIGHT if car.lights else (200, 206, 212), car.lights)
        draw_pane(pen, frame, body, hood, (-0.48, 0.48, 0.35, 0.95), DARK)
        if detailed:
            draw_pane(pen, frame, body, hood + 1, (-0.28, 0.28, 0.15, 0.5), (225, 225, 218))
            draw_pane(pen, frame, body, hood + 1, (-0.85, 0.85, 0.62, 0.95), DARK)
        return
    for left, right in ((-0.97, -0.66), (0.66, 0.97)):
        color = TAILLIGHT if car.lights else (150, 24, 22)
        draw_pane(pen, frame, body, 1, (left, right, 0.1, 0.75), color, car.lights)
    if detailed:
        draw_pane(pen, frame, body, 0, (-0.28, 0.28, 0.55, 0.98), (225, 222, 190))
        draw_pane(pen, frame, body, 0, (-0.92, 0.92, 0.0, 0.4), DARK)


def _draw_truck(pen: Pen, frame: Frame, truck: Vehicle) -> None:
    half, u = truck.width / 2, truck.length / 2
    axles = (-0.72 * u, -0.5 * u, 0.68 * u)
    draw_wheels(pen, frame, axles, 0.5, 0.86 * half, near=False)
    draw_box(pen, frame, (truck.length * 0.96, truck.width * 0.8, 0.5), 0.45, DARK)
    parts = [(frame.depth(0.7 * u), _draw_cab), (frame.depth(-0.3 * u), _draw_load)]
    draw_wheels(pen, frame, axles, 0.5, 0.95 * half, near=True)
    for _, draw in sorted(parts, key=lambda part: -part[0]):
        draw(pen, frame, truck)


def _draw_cab(pen: Pen, frame: Frame, truck: Vehicle) -> None:
    u, w = truck.length / 2, truck.width / 2
    rear = u - 2.0
    cab = [
        (rear, 0.6, 0.97 * w),
        (rear, 2.75, 0.92 * w),
        (u - 0.45, 2.8, 0.92 * w),
        (u - 0.06, 1.55, 0.97 * w),
        (u, 1.05, w),
        (u, 0.45, w),
    ]
    draw_prism(pen, frame, cab, truck.paint, glass=(2,))
    window = [(u - 1.5, 1.6), (u - 1.5, 2.4), (u - 0.6, 2.4), (u - 0.4, 1.6)]
    if shows_side(frame, cab):
        pen.detail(side_patch(frame, window, 0.95 * w), GLASS)
    if not frame.shows_front():
        return
    draw_pane(pen, frame, cab, 3, (-0.7, 0.7, 0.1, 0.95), DARK)
    draw_pane(pen, frame, cab, 4, (-1.0, 1.0, 0.6, 1.0), DARK)
    for left, right in ((-0.92, -0.62), (0.62, 0.92)):
        color = HEADLIGHT if truck.lights else (205, 208, 210)
        draw_pane(pen, frame, cab, 4, (left, right, 0.15, 0.5), color, truck.lights)


def _draw_load(pen: Pen, frame: Frame, truck: Vehicle) -> None:
    u, w = truck.length / 2, truck.width / 2
    rear, front = -u, u - 2.2
    length, middle = front - rear, (front + rear) / 2
    if truck.kind == "tanker":
        draw_tube(pen, frame, (rear, front), 2.0, (0.9 * w, 1.0), truck.second_paint)
        stripe = [(rear, 1.9), (rear, 2.15), (front, 2.15), (front, 1.9)]
        if shows_side(frame, _slab(rear, front, 1.0, 3.0, w)):
            pen.detail(side_patch(frame, stripe, 0.9 * w), truck.paint)
    elif truck.kind == "flat bed":
        draw_box(pen, frame, (length, truck.width, 0.25), 0.95, (92, 84, 74), middle)
        for row, (count, height) in enumerate(((3, 1.2), (2, 1.75))):
            for log in range(count):
                v = (log - (count - 1) / 2) * 0.74
                turned = Frame(
                    frame.camera, frame.x + v * frame.cos, frame.z - v * frame.sin, frame.sin, frame.cos
                )
                shade = 0.85 + 0.12 * row
                draw_tube(pen, turned, (rear + 0.3, front - 0.2), height + 0.28, (0.34, 0.32),
                          (146 * shade, 104 * shade, 66 * shade))  # fmt: skip
    else:
        height = 2.7 if truck.kind == "box" else 2.5
        profile = draw_box(pen, frame, (length, truck.width, height), 0.9, truck.second_paint, middle)
        _draw_cargo_side(pen, frame, truck, profile)
    _draw_truck_rear(pen, frame, truck)


def _draw_cargo_side(pen: Pen, frame: Frame, truck: Vehicle, profile: Profile) -> None:
    w = truck.width / 2
    rear, front = profile[0][0], profile[2][0]
    if shows_side(frame, profile) and frame.scale() > 5:
        if truck.kind == "box":
            sign = [(rear + 0.8, 1.8), (rear + 0.8, 2.7), (front - 0.9, 2.9), (front - 0.9, 1.6)]
            pen.detail(side_patch(frame, sign, w), truck.paint, 0.9)
        else:
            for step in range(1, int((front - rear) / 0.5)):
                u = rear + step * 0.5
                rib = [(u, 1.0), (u, 3.3), (u + 0.12, 3.3), (u + 0.12, 1.0)]
                pen.detail(side_patch(frame, rib, w), truck.second_paint, 0.7)
    if not frame.shows_front():
        draw_pane(pen, frame, profile, 0, (-0.9, -0.04, 0.06, 0.94), truck.second_paint)
        draw_pane(pen, frame, profile, 0, (0.04, 0.9, 0.06, 0.94), truck.second_paint)


def _draw_truck_rear(pen: Pen, frame: Frame, truck: Vehicle) -> None:
    if frame.shows_front():
        return
    slab = _slab(-truck.length / 2 - 0.02, 0.0, 0.5, 0.9, truck.width / 2)
    draw_pane(pen, frame, slab, 0, (-1.0, 1.0, 0.0, 1.0), DARK)
    for left, right in ((-0.95, -0.6), (0.6, 0.95)):
        color = TAILLIGHT if truck.lights else (160, 28, 24)
        draw_pane(pen, frame, slab, 0, (left, right, 0.3, 0.85), color, truck.lights)


def _slab(rear: float, front: float, bottom: float, top: float, half_width: float) -> Profile:
    return ((rear, bottom, half_width), (rear, top, half_width), (front, top, half_width),
            (front, bottom, half_width))  # fmt: skip
