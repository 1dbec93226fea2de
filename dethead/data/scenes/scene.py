"""One scene: what stands in it, drawn from back to front, and the boxes of what is seen."""

import math
from random import Random
from typing import Final, NamedTuple

import numpy as np

from dethead.data.scenes.canvas import SUPERSAMPLING, Camera, Canvas, Extent, Pen
from dethead.data.scenes.composition import CAR, PEDESTRIAN, TRUCK, Composer, Thing
from dethead.data.scenes.layout import choose_camera, choose_street
from dethead.data.scenes.surroundings import Stage
from dethead.data.scenes.weather import Weather, choose_weather, develop

CATEGORIES: Final = {PEDESTRIAN: "pedestrian", CAR: "car", TRUCK: "truck"}
"""Category ids with gaps, as COCO has them: whoever takes an id for a label finds out at once."""

LEAST_SEEN: Final = 0.3
"""The visible part below which an object is not annotated."""

LEAST_SIDE: Final = 6.0
"""Pixels; a box with a shorter side is not annotated."""

LEAST_SIZE: Final = 64


class SceneObject(NamedTuple):
    """An annotated object, or a crowd of them."""

    category_id: int
    box: tuple[float, float, float, float]
    """(x, y, width, height) in pixels: the smallest around what is seen of it."""
    crowd: bool


class Scene(NamedTuple):
    """A picture and what is in it."""

    image: np.ndarray
    """(H, W, 3) uint8, RGB."""
    annotations: list[SceneObject]
    """Far ones first; may be empty."""
    weather: str


def draw_scene(seed: int, index: int, size: tuple[int, int] = (320, 480)) -> Scene:
    """Draw the scene with number ``index`` of the series ``seed``.

    The same arguments give the same scene, whatever was drawn before, with the same versions of Python, NumPy
    and Pillow.

    Args:
        seed: names the series.
        index: number of the scene in it, from 0.
        size: (height, width) in pixels.

    Raises:
        ValueError: a negative index, or a size below 64 pixels.

    Example:
        >>> scene = draw_scene(seed=0, index=0, size=(80, 120))
        >>> scene.image.shape, scene.image.dtype
        ((80, 120, 3), dtype('uint8'))
    """
    if index < 0:
        raise ValueError(f"index must not be negative, got {index}")
    if min(size) < LEAST_SIZE:
        raise ValueError(f"size must be at least {LEAST_SIZE} by {LEAST_SIZE} pixels, got {size}")
    rng = Random(f"street scene {seed} {index}")
    weather, camera, street = choose_weather(rng), choose_camera(rng, size), choose_street(rng)
    canvas = Canvas(size)
    Stage(canvas, camera, weather, street, rng).draw()
    things = Composer(rng, canvas, camera, weather, street).compose()
    annotations = draw_things(things, canvas, camera, weather)
    return Scene(develop(canvas.image, size, weather, rng), annotations, weather.name)


class _Drawn(NamedTuple):
    """An object that was drawn, perhaps to be hidden by what is drawn later."""

    owner: int
    thing: Thing
    window: Extent
    """The drawn pixels of the picture that its outline reaches over."""
    painted: int
    """How many drawn pixels it covered at first."""
    inside: float
    """The part of its outline's box that lies in the picture."""


def draw_things(things: list[Thing], canvas: Canvas, camera: Camera, weather: Weather) -> list[SceneObject]:
    """Draw from back to front, then look which objects are still seen."""
    drawn: list[_Drawn] = []
    for thing in things:
        owner = len(drawn) + 1 if thing.category_id is not None else 0
        pen = Pen(canvas, weather, thing.distance, owner)
        thing.draw(pen, camera)
        if owner:
            window, inside = _window(pen, canvas.size)
            drawn.append(_Drawn(owner, thing, window, canvas.count(owner, window), inside))
    owners = canvas.owner_map()
    seen = [_annotation(item, owners) for item in drawn]
    return [found for found in seen if found is not None]


def _window(pen: Pen, size: tuple[int, int]) -> tuple[Extent, float]:
    """Give the part of a pen's outline that lies in the picture, and its share of the outline's box."""
    left, top, right, bottom = pen.extent()
    x0, y0 = min(max(left, 0.0), size[1]), min(max(top, 0.0), size[0])
    x1, y1 = max(min(right, size[1]), x0), max(min(bottom, size[0]), y0)
    inside = (x1 - x0) * (y1 - y0) / max((right - left) * (bottom - top), 1e-6)
    scale = SUPERSAMPLING
    window = (int(x0 * scale), int(y0 * scale), math.ceil(x1 * scale) + 1, math.ceil(y1 * scale) + 1)
    return window, inside


def _annotation(item: _Drawn, owners: np.ndarray) -> SceneObject | None:
    """Box what is seen of an object; None if that is too little. What the border cuts off is hidden."""
    left, top, right, bottom = item.window
    mask = owners[top:bottom, left:right] == item.owner
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows) or item.inside * mask.sum() < LEAST_SEEN * item.painted:
        return None
    x0, width = left + columns[0], columns[-1] + 1 - columns[0]
    y0, height = top + rows[0], rows[-1] + 1 - rows[0]
    if min(width, height) < LEAST_SIDE * SUPERSAMPLING or item.thing.category_id is None:
        return None
    x, y, w, h = (float(value) / SUPERSAMPLING for value in (x0, y0, width, height))
    return SceneObject(item.thing.category_id, (x, y, w, h), item.thing.crowd)
