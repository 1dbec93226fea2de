"""Houses and blocks along the streets, with windows that are lit at night."""

import math
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from dethead.data.scenes.canvas import Camera, Pen, Point
from dethead.data.scenes.layout import Street
from dethead.data.scenes.weather import Color

WALLS: Final = (
    (176, 100, 78), (150, 82, 66), (206, 186, 152), (222, 212, 190), (168, 164, 158), (132, 136, 142),
    (198, 160, 118), (120, 132, 150), (186, 142, 124), (214, 200, 160), (104, 110, 120),
)  # fmt: skip
ROOFS: Final = ((126, 62, 48), (84, 76, 74), (100, 58, 48), (70, 74, 82))
AWNINGS: Final = ((170, 44, 44), (40, 90, 70), (46, 72, 130), (206, 160, 60), (96, 96, 100))
WARM: Final = ((255, 222, 150), (250, 196, 116), (236, 232, 214), (255, 210, 140))
MOST_WINDOWS: Final = 60
"""On one wall: more would cost time and be too small to see."""

Wall = Callable[[float, float], Point]
"""From metres along a wall and above the ground to the picture."""


class Building(NamedTuple):
    """A block over the rectangle (x0, x1) by (z0, z1)."""

    x0: float
    x1: float
    z0: float
    z1: float
    height: float
    color: Color
    roof: Color | None
    """Of a gabled roof, None for a flat one."""
    floor: float
    """Height of a storey."""
    bay: float
    """Distance between windows."""
    shop: Color | None
    """The awning over the ground floor's shop windows, None where there are none."""
    lit: float
    """The part of the windows that is lit when lights are on."""
    seed: int

    def footprint(self) -> tuple[float, float, float, float]:
        """Give the middle (x, z) and half the extent along x and z."""
        x0, x1, z0, z1 = self.x0, self.x1, self.z0, self.z1
        return (x0 + x1) / 2, (z0 + z1) / 2, (x1 - x0) / 2, (z1 - z0) / 2


def make_building(rng: Random, extent: tuple[float, float, float, float], kind: str) -> Building:
    """Draw height, colours and windows of a building over ``extent``: x0, x1, z0, z1."""
    city = kind == "city"
    shade = rng.uniform(0.8, 1.1)
    red, green, blue = rng.choice(WALLS)
    return Building(
        *extent,
        height=rng.uniform(9.0, 26.0) if city else rng.uniform(4.5, 7.5),
        color=(red * shade, green * shade, blue * shade),
        roof=None if city and rng.random() < 0.75 else rng.choice(ROOFS),
        floor=rng.uniform(2.8, 3.6),
        bay=rng.uniform(2.0, 3.6),
        shop=rng.choice(AWNINGS) if city and rng.random() < 0.6 else None,
        lit=rng.uniform(0.15, 0.55),
        seed=rng.getrandbits(32),
    )


def plan_buildings(rng: Random, street: Street) -> list[Building]:
    """Line the streets with buildings: shoulder to shoulder in a city, with gaps elsewhere."""
    if street.kind == "country":
        return _plan_farms(rng, street)
    buildings = []
    if street.avenue:
        for side in (-1, 1):
            buildings += _plan_avenue_side(rng, street, side)
    if not street.avenue:
        buildings += _plan_far_row(rng, street)
    return buildings


def _plan_avenue_side(rng: Random, street: Street, side: int) -> list[Building]:
    buildings = []
    setback = rng.uniform(0.0, 1.0) if street.kind == "city" else rng.uniform(3.0, 7.0)
    face = street.side + setback
    z = rng.uniform(5.0, 12.0)
    while z < 85.0:
        length = rng.uniform(9.0, 20.0) if street.kind == "city" else rng.uniform(8.0, 13.0)
        if z + length > street.crossing - street.pavement and z < street.far_edge + street.pavement:
            z = street.far_edge + street.pavement + 0.5
        inner, outer = street.center + side * face, street.center + side * (face + 14.0)
        extent = (min(inner, outer), max(inner, outer), z, z + length)
        if rng.random() < 0.9:
            buildings.append(make_building(rng, extent, street.kind))
        z += length + (rng.choice((0.0, 0.0, 3.0)) if street.kind == "city" else rng.uniform(4.0, 12.0))
    return buildings


def _plan_far_row(rng: Random, street: Street) -> list[Building]:
    buildings = []
    z = (
        street.far_edge
        + street.pavement
        + (rng.uniform(0, 1) if street.kind == "city" else rng.uniform(3, 8))
    )
    x = -45.0 + rng.uniform(0, 8)
    while x < 45.0:
        width = rng.uniform(8.0, 18.0)
        if rng.random() < 0.92:
            buildings.append(make_building(rng, (x, x + width, z, z + 12.0), street.kind))
        x += width + (0.0 if street.kind == "city" else rng.uniform(2.0, 9.0))
    return buildings


def _plan_farms(rng: Random, street: Street) -> list[Building]:
    farms = []
    for _ in range(rng.randrange(3)):
        z = rng.uniform(45.0, 90.0)
        x = street.center + rng.choice((-1, 1)) * rng.uniform(street.side + 8, 40)
        farms.append(make_building(rng, (x - 6, x + 6, z, z + 10), "suburb"))
    return farms


def draw_building(pen: Pen, camera: Camera, building: Building) -> None:
    """Draw the front and, where the camera sees it, the side wall; both hide what is behind them."""
    x0, x1, z0, z1 = building.x0, building.x1, building.z0, building.z1
    rng = Random(building.seed)
    side = x0 if x0 > 0 else x1 if x1 < 0 else None
    if side is not None:
        middle = pen.at(math.sqrt(max(z0, 2.0) * z1))
        wall = _side_wall(camera, side, z0)
        _draw_wall(middle, wall, z1 - z0, building, rng, 0.86 if side > 0 else 1.0)
        if building.roof is not None:
            ridge = (camera.project((x0 + x1) / 2, building.height + 3.0, z) for z in (z0, z1))
            eaves = [wall(0.0, building.height), wall(z1 - z0, building.height)]
            first, last = ridge
            middle.shape([eaves[0], eaves[1], last, first], building.roof)
    front = _front_wall(camera, x0, z0)
    near = pen.at(z0)
    _draw_wall(near, front, x1 - x0, building, rng, 0.94)
    if building.roof is not None:
        gable = [
            front(0, building.height),
            front((x1 - x0) / 2, building.height + 3),
            front(x1 - x0, building.height),
        ]
        near.shape(gable, building.color, 0.9)


def _front_wall(camera: Camera, x0: float, z: float) -> Wall:
    return lambda along, y: camera.project(x0 + along, y, z)


def _side_wall(camera: Camera, x: float, z0: float) -> Wall:
    return lambda along, y: camera.project(x, y, z0 + along)


def _draw_wall(pen: Pen, wall: Wall, length: float, building: Building, rng: Random, light: float) -> None:
    height = building.height
    pen.shape([wall(0, 0), wall(0, height), wall(length, height), wall(length, 0)], building.color, light)
    (left, top), (right, low) = wall(0, building.floor), wall(length, 0)
    if (
        abs(right - left) < 6
        or abs(low - top) < 4
        or max(left, right) < 0
        or min(left, right) > pen.canvas.size[1]
    ):
        return
    ledge = [wall(0, height - 0.5), wall(0, height), wall(length, height), wall(length, height - 0.5)]
    pen.detail(ledge, building.color, light * 0.75)
    _draw_ground_floor(pen, wall, length, building, rng)
    _draw_windows(pen, wall, length, building, rng)


def _draw_windows(pen: Pen, wall: Wall, length: float, building: Building, rng: Random) -> None:
    floors = max(1, int((building.height - 0.6) / building.floor))
    bays = max(1, int(length / building.bay))
    floors = max(1, min(floors, MOST_WINDOWS // bays))
    first = 1 if building.shop is not None else 0
    pitch = length / bays
    dark = (66, 78, 92) if building.seed % 2 else (92, 108, 124)
    for storey in range(first, floors):
        low, high = storey * building.floor + 0.9, storey * building.floor + 2.3
        if max(wall(0, low)[1], wall(length, low)[1]) < 0:
            return  # above the picture, as all that follow
        for bay in range(bays):
            a, b = (bay + 0.25) * pitch, (bay + 0.75) * pitch
            window = [wall(a, low), wall(a, high), wall(b, high), wall(b, low)]
            if pen.weather.lights and rng.random() < building.lit:
                pen.glow(window, rng.choice(WARM))
            else:
                pen.detail(window, dark, rng.uniform(0.8, 1.15))


def _draw_ground_floor(pen: Pen, wall: Wall, length: float, building: Building, rng: Random) -> None:
    if building.shop is None:
        a = rng.uniform(0.2, 0.7) * length
        pen.detail([wall(a, 0), wall(a, 2.2), wall(a + 1.1, 2.2), wall(a + 1.1, 0)], (84, 56, 44))
        return
    count = max(1, int(length / 5.0))
    pitch = length / count
    for shop in range(count):
        a, b = (shop + 0.06) * pitch, (shop + 0.94) * pitch
        front = [wall(a, 0.4), wall(a, 2.5), wall(b, 2.5), wall(b, 0.4)]
        if pen.weather.lights and rng.random() < 0.6:
            pen.glow(front, (238, 214, 160))
        else:
            pen.detail(front, (74, 82, 90))
        middle = (a + b) / 2
        pen.detail(
            [wall(middle, 0.2), wall(middle, 2.3), wall(middle + 0.9, 2.3), wall(middle + 0.9, 0.2)],
            (60, 50, 46),
        )
        pen.detail([wall(a, 2.4), wall(a, 3.0), wall(b, 3.0), wall(b, 2.4)], rng.choice(AWNINGS), 0.95)
