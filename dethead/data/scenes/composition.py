"""What stands in a scene: objects, crowds, buildings and street furniture, each with its place."""

import math
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final, NamedTuple

from dethead.data.scenes.buildings import draw_building, plan_buildings
from dethead.data.scenes.canvas import Camera, Canvas, Pen
from dethead.data.scenes.furniture import choose_look_alike, draw_lamp_post, draw_light_pool, draw_tree
from dethead.data.scenes.layout import Place, Placing, Street
from dethead.data.scenes.pedestrians import draw_pedestrian, make_pedestrian
from dethead.data.scenes.vehicles import draw_beam, draw_vehicle, make_car, make_truck
from dethead.data.scenes.weather import Weather

PEDESTRIAN: Final = 1
CAR: Final = 3
TRUCK: Final = 8

ODDS: Final = {CAR: 0.605, PEDESTRIAN: 0.293, TRUCK: 0.102}
"""Of what is placed. Not all find a place and stay in sight; those that do come out at 6 : 3 : 1."""

EMPTY: Final = 0.04
"""Odds of a scene without objects; in one more of a hundred, none of the objects is seen well enough."""

CROWDED: Final = 0.14
"""Odds of a crowd."""

MOST_PLACED: Final = 20

Drawing = Callable[[Pen, Camera], None]


class Thing(NamedTuple):
    """Something to be drawn at its turn."""

    distance: float
    """Of its nearest part, in metres."""
    draw: Drawing
    category_id: int | None = None
    """None for what is no object."""
    crowd: bool = False


class Composer:
    """Chooses what stands in a scene and where.

    Args:
        rng: makes all choices.
        canvas: on which the light that lamps throw on the ground is drawn at once, below all things.
        camera: sees the things.
        weather: says who has lights and umbrellas.
        street: where they stand.
    """

    def __init__(self, rng: Random, canvas: Canvas, camera: Camera, weather: Weather, street: Street) -> None:
        self.rng = rng
        self.canvas = canvas
        self.camera = camera
        self.weather = weather
        self.street = street
        self.placing = Placing(rng, camera, street, canvas.size)
        self.things: list[Thing] = []

    def compose(self) -> list[Thing]:
        """Place everything; give it from back to front."""
        for building in plan_buildings(self.rng, self.street):
            # Its turn comes by its far end: what stands beside it stands on the street, before its wall.
            self.things.append(Thing(building.z1, partial(draw_building, building=building)))
            self.placing.ground.claim(*building.footprint())
        if self.rng.random() >= EMPTY:
            self._add_objects()
        self._add_look_alikes()
        self._add_trees()
        if self.street.avenue and self.street.kind != "country":
            self._add_lamp_posts()
        return sorted(self.things, key=lambda thing: -thing.distance)

    def _add_objects(self) -> None:
        if self.rng.random() < CROWDED:
            if self.rng.random() < 0.65:
                self._add_crowd_of_pedestrians()
            else:
                self._add_crowd_of_cars()
        for _ in range(1 + min(MOST_PLACED, int(self.rng.gammavariate(2.4, 3.4)))):
            category = self.rng.choices(list(ODDS), list(ODDS.values()))[0]
            if category == PEDESTRIAN:
                self._add_pedestrian()
            else:
                self._add_vehicle(category)

    def _add_pedestrian(self) -> None:
        spot = self.placing.pedestrian()
        if spot is not None:
            who = make_pedestrian(self.rng, self.weather.rain > 0)
            self.things.append(Thing(spot[1], partial(draw_pedestrian, who=who, spot=spot), PEDESTRIAN))

    def _add_vehicle(self, category: int) -> None:
        vehicle = (make_car if category == CAR else make_truck)(self.rng)
        found = self.placing.vehicle(vehicle.length, vehicle.width, long=category == TRUCK)
        if found is None:
            return
        place, parked = found
        if self.weather.lights and not parked:
            vehicle = vehicle._replace(lights=True)
            draw_beam(Pen(self.canvas, self.weather, place.z), self.camera, vehicle, place)
        near = place.z - (vehicle.width if place.turned else vehicle.length) / 2
        self.things.append(Thing(near, partial(draw_vehicle, vehicle=vehicle, place=place), category))

    def _add_crowd_of_pedestrians(self) -> None:
        """Add a group of people too far and too dense to be told apart."""
        rng = self.rng
        x, z = self.placing.walk_place(55.0)
        z = max(z, 24.0)
        left, right = self.camera.reach(z, self.canvas.size[1])
        x = min(max(x, left * 0.8), right * 0.8)
        parts: list[tuple[float, Drawing]] = []
        for _ in range(rng.randrange(8, 18)):
            spot = (x + rng.gauss(0, 1.1), z + rng.uniform(0, 3))
            who = make_pedestrian(rng, self.weather.rain > 0)
            parts.append((spot[1], partial(draw_pedestrian, who=who, spot=spot)))
        self.placing.ground.claim(x, z + 1.5, 3.0, 2.5)
        self._add_crowd(parts, PEDESTRIAN)

    def _add_crowd_of_cars(self) -> None:
        """Add a row of parked cars, far away and side by side."""
        rng = self.rng
        z = rng.uniform(34.0, 55.0)
        left, right = self.camera.reach(z, self.canvas.size[1])
        x, count = rng.uniform(left * 0.9, right * 0.5), rng.randrange(5, 11)
        parts: list[tuple[float, Drawing]] = []
        for number in range(count):
            place = Place(x + 2.15 * number, z + rng.uniform(0, 1.0), rng.choice((0.0, math.pi)))
            parts.append((place.z, partial(draw_vehicle, vehicle=make_car(rng), place=place)))
        self.placing.ground.claim(x + 1.1 * count, z + 0.5, 1.1 * count, 3.0)
        self._add_crowd(parts, CAR)

    def _add_crowd(self, parts: list[tuple[float, Drawing]], category: int) -> None:
        parts.sort(key=lambda part: -part[0])
        drawings = [draw for _, draw in parts]
        self.things.append(Thing(parts[-1][0], partial(_draw_all, drawings=drawings), category, crowd=True))

    def _add_look_alikes(self) -> None:
        rng, placing, street = self.rng, self.placing, self.street
        for _ in range(rng.randrange(2, 9)):
            x, z = placing.walk_place(60.0)
            found = choose_look_alike(rng)
            if street.avenue:  # moved outwards, so that broad ones do not stand in the way
                x += math.copysign(max(0.0, found.half - 0.5), x - street.center)
            if (
                z > 5.0
                and not street.is_road(x, z)
                and placing.ground.claim(x, z, found.half, min(found.half, 0.8))
            ):
                self.things.append(Thing(z, partial(found.draw, spot=(x, z))))

    def _add_trees(self) -> None:
        rng, placing = self.rng, self.placing
        count = {"city": rng.randrange(4), "suburb": rng.randrange(2, 9), "country": rng.randrange(5, 18)}
        for _ in range(count[self.street.kind]):
            if self.street.kind == "city":
                x, z = placing.walk_place(60.0)
                free = not self.street.is_road(x, z)
            else:
                z = rng.uniform(9.0, 70.0)
                x = placing.across(z, 2.0)
                free = not self.street.holds(x, z)
            if free and z > 7.0 and placing.ground.claim(x, z, 0.4, 0.4):
                seed = rng.getrandbits(32)
                self.things.append(Thing(z, partial(draw_tree, spot=(x, z), seed=seed)))

    def _add_lamp_posts(self) -> None:
        side = self.rng.choice((-1, 1))
        z = self.rng.uniform(8.0, 14.0)
        throws = self.weather.lights and self.weather.name not in ("fog", "rain")
        while z < 70.0:
            x = self.street.center + side * (self.street.half + 0.3)
            if throws:
                pen = Pen(self.canvas, self.weather, z)
                draw_light_pool(pen, self.camera, (x - 1.4 * side, z), strength=0.3)
            self.things.append(Thing(z, partial(draw_lamp_post, spot=(x, z), side=-side)))
            z += 16.0
            side = -side


def _draw_all(pen: Pen, camera: Camera, drawings: list[Drawing]) -> None:
    for draw in drawings:
        draw(pen, camera)
