"""Where things stand: the camera, the streets, and a free place for every car, truck and pedestrian."""

import math
from random import Random
from typing import NamedTuple

from dethead.data.scenes.canvas import Camera

LANE = 3.3
PARKING = 2.3
QUARTER = math.pi / 2


class Place(NamedTuple):
    """Where a vehicle stands; a yaw of 0 looks away from the camera, a quarter turn to the right."""

    x: float
    z: float
    yaw: float

    @property
    def turned(self) -> bool:
        """Tell whether it drives across the picture rather than into its depth."""
        return abs(math.sin(self.yaw)) > 0.7


class Street(NamedTuple):
    """Up to two streets: an avenue into the depth and a crossing from left to right. In metres."""

    kind: str
    """"city", "suburb" or "country"."""
    avenue: bool
    center: float
    """x of the avenue's middle."""
    half: float
    """Half width of the avenue, parking strips included."""
    parking: bool
    crossing: float
    """z at which the crossing begins; infinite without one."""
    crossing_width: float
    pavement: float
    """Width of the pavements."""

    @property
    def far_edge(self) -> float:
        """Give the z at which the crossing ends."""
        return self.crossing + self.crossing_width

    @property
    def side(self) -> float:
        """Give the distance from the avenue's middle to the outer edge of its pavements."""
        return self.half + self.pavement

    def is_road(self, x: float, z: float) -> bool:
        """Tell whether a point lies on a road."""
        return (self.avenue and abs(x - self.center) < self.half) or self.crossing < z < self.far_edge

    def holds(self, x: float, z: float) -> bool:
        """Tell whether a point lies on a road or a pavement."""
        on_avenue = self.avenue and abs(x - self.center) < self.side + 0.5
        return on_avenue or self.crossing - self.pavement - 1 < z < self.far_edge + self.pavement


class Ground:
    """The places taken so far, as rectangles (x0, x1, z0, z1)."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float, float, float]] = []

    def claim(self, x: float, z: float, half_x: float, half_z: float) -> bool:
        """Take a rectangle around (x, z) if nothing stands there; tell whether it was free."""
        x0, x1, z0, z1 = x - half_x, x + half_x, z - half_z, z + half_z
        for a0, a1, b0, b1 in self.taken:
            if x0 < a1 and a0 < x1 and z0 < b1 and b0 < z1:
                return False
        self.taken.append((x0, x1, z0, z1))
        return True


def choose_camera(rng: Random, size: tuple[int, int]) -> Camera:
    """Draw a camera between a car's dashboard and a lorry's roof; a high one looks further down."""
    height = 1.5 * math.pow(4.0 / 1.5, rng.random())
    highness = math.log(height / 1.5) / math.log(4.0 / 1.5)
    horizon = size[0] * (0.47 - 0.2 * highness + rng.uniform(-0.05, 0.05))
    focal = size[1] * rng.uniform(1.15, 1.7)
    return Camera(focal, size[1] * rng.uniform(0.36, 0.64), horizon, height)


def choose_street(rng: Random) -> Street:
    """Draw the streets of a scene."""
    kind = rng.choices(("city", "suburb", "country"), (52, 30, 18))[0]
    avenue, crossing = rng.choices(((True, False), (False, True), (True, True)), (46, 26, 28))[0]
    parking = kind != "country" and rng.random() < 0.7
    lanes = 2 if kind == "city" and rng.random() < 0.4 else 1
    near = rng.uniform(9.0, 17.0) if not avenue else rng.uniform(14.0, 34.0)
    return Street(
        kind=kind,
        avenue=avenue,
        center=rng.uniform(-4.5, 4.5),
        half=LANE * lanes + PARKING * parking,
        parking=parking,
        crossing=near if crossing else math.inf,
        crossing_width=2 * LANE + PARKING * parking,
        pavement=rng.uniform(2.5, 4.5) if kind != "country" else 2.0,
    )


class Placing:
    """Finds free places in the streets that the camera sees."""

    def __init__(self, rng: Random, camera: Camera, street: Street, size: tuple[int, int]) -> None:
        self.rng = rng
        self.camera = camera
        self.street = street
        self.size = size
        self.ground = Ground()
        self.nearest = max(3.5, 0.9 * camera.focal * camera.height / (size[0] - camera.horizon))

    def depth(self, farthest: float) -> float:
        """Draw a distance; equal ratios are equally likely, so that near and far are both common."""
        return self.nearest * math.pow(farthest / self.nearest, self.rng.random())

    def across(self, z: float, margin: float) -> float:
        """Draw an x that is seen at ``z``, or lies up to ``margin`` metres outside."""
        left, right = self.camera.reach(z, self.size[1])
        return self.rng.uniform(left - margin, right + margin)

    def vehicle(self, length: float, width: float, long: bool) -> tuple[Place, bool] | None:
        """Find a place on a road.

        Args:
            length: of the vehicle, in metres.
            width: of the vehicle.
            long: too long for the parking strip.

        Returns:
            The place, and whether the vehicle is parked; None when nothing was free.
        """
        for _ in range(8):
            place, parked = self._road_place(length, long)
            half_x, half_z = (length / 2, width / 2) if place.turned else (width / 2, length / 2)
            if place.z - half_z < 3.2 or not self._is_seen(place.x, place.z, half_x):
                continue
            if self.ground.claim(place.x, place.z, half_x + 0.3, half_z + 0.5):
                return place, parked
        return None

    def _road_place(self, length: float, long: bool) -> tuple[Place, bool]:
        rng, street = self.rng, self.street
        parked = street.parking and not long and rng.random() < 0.45
        crossing = street.crossing < math.inf and (not street.avenue or rng.random() < 0.4)
        yaw = rng.gauss(0, 0.02)
        if crossing:
            if parked:
                z = street.far_edge - PARKING / 2
                return Place(self.across(z, 1.0), z, yaw + rng.choice((QUARTER, -QUARTER))), True
            lane = rng.randrange(2)
            z = street.crossing + LANE * (lane + 0.5) + rng.uniform(-0.2, 0.2)
            return Place(self.across(z, 0.4 * length), z, yaw + (QUARTER, -QUARTER)[lane]), False
        side = rng.choice((-1, 1))
        z = self.depth(60.0) + length / 2
        if parked:
            x = street.center + side * (street.half - PARKING / 2)
            return Place(x, z, yaw + rng.choice((0.0, math.pi))), True
        lanes = round((street.half - PARKING * street.parking) / LANE)
        x = street.center + side * LANE * (rng.randrange(lanes) + 0.5) + rng.uniform(-0.2, 0.2)
        return Place(x, z, yaw + (0.0 if side > 0 else math.pi)), False

    def pedestrian(self) -> tuple[float, float] | None:
        """Find an (x, z) on a pavement, or now and then on the road; None when nothing was free."""
        for _ in range(8):
            x, z = self.walk_place(26.0, on_road=0.15)
            if z > 3.2 and self._is_seen(x, z, 0.2) and self.ground.claim(x, z, 0.26, 0.26):
                return x, z
        return None

    def walk_place(self, farthest: float, on_road: float = 0.0) -> tuple[float, float]:
        """Draw an (x, z) where one walks, up to ``farthest`` away, on the road with odds ``on_road``."""
        rng, street = self.rng, self.street
        crossing = street.crossing < math.inf and (not street.avenue or rng.random() < 0.45)
        road = rng.random() < on_road
        if crossing:
            if road:
                z = rng.uniform(street.crossing, street.far_edge)
            elif rng.random() < 0.4:
                z = street.crossing - rng.uniform(0.4, street.pavement)
            else:
                z = street.far_edge + rng.uniform(0.4, street.pavement)
            return self.across(z, 0.0), z
        z = self.depth(farthest)
        if road:
            return street.center + rng.uniform(-street.half, street.half), z
        side = rng.choice((-1, 1))
        return street.center + side * (street.half + rng.uniform(0.4, street.pavement)), z

    def _is_seen(self, x: float, z: float, half: float) -> bool:
        left, right = self.camera.reach(z, self.size[1])
        return x + 0.4 * half > left and x - 0.4 * half < right
