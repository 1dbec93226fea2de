"""The stage: sky, skyline, ground, roads and their markings."""

import math
from random import Random

import numpy as np
from PIL import Image

from dethead.data.scenes.canvas import SUPERSAMPLING, Camera, Canvas, Pen, rectangle
from dethead.data.scenes.layout import LANE, Street
from dethead.data.scenes.weather import Color, Weather

FAR = 140.0
GROUNDS = {"city": (128, 124, 120), "suburb": (104, 128, 74), "country": (112, 134, 66)}
PAINT = (222, 222, 214)


class Stage:
    """Draws what lies behind and below all things."""

    def __init__(self, canvas: Canvas, camera: Camera, weather: Weather, street: Street, rng: Random) -> None:
        self.canvas = canvas
        self.camera = camera
        self.weather = weather
        self.street = street
        self.rng = rng
        self.far_pen = Pen(canvas, weather, FAR * 0.6)

    def draw(self) -> None:
        """Draw all of it, from the sky to the markings."""
        self._draw_sky()
        self._draw_skyline()
        self._draw_ground()
        self._draw_roads()

    def _draw_sky(self) -> None:
        height, width = self.canvas.size
        rows = max(2, int(self.camera.horizon * SUPERSAMPLING) + 2)
        top, bottom = (np.array(color, dtype=np.float64) for color in self.weather.sky)
        part = np.linspace(0.0, 1.0, rows)[:, None] ** 1.3
        column = (top + (bottom - top) * part).astype(np.uint8)[:, None, :]
        sky = Image.fromarray(column).resize((width * SUPERSAMPLING, rows), Image.Resampling.NEAREST)
        self.canvas.image.paste(sky, (0, 0))
        # The ground ends at a finite distance: haze fills the few rows that are left below the horizon.
        self.canvas.image.paste(
            tuple(int(part) for part in self.weather.haze), (0, rows - 2, sky.width, rows + 20)
        )
        if self.weather.name in ("clear", "dusk", "overcast"):
            self._draw_clouds(height, width)
        if self.weather.name == "night":
            self._draw_stars(width)

    def _draw_clouds(self, height: int, width: int) -> None:
        rng, horizon = self.rng, self.camera.horizon
        pen = Pen(self.canvas, self.weather, 0.0)
        color: Color = (255, 255, 255) if self.weather.name != "dusk" else (250, 178, 140)
        for _ in range(rng.randrange(6)):
            x, y = rng.uniform(0, width), rng.uniform(0, horizon * 0.7)
            size = rng.uniform(0.05, 0.14) * height
            for _ in range(4):
                center = (x + rng.uniform(-2, 2) * size, y + rng.uniform(-0.25, 0.25) * size)
                pen.soft_ellipse(
                    center, (size * rng.uniform(0.8, 2), size * rng.uniform(0.2, 0.5)), color, 0.4
                )

    def _draw_stars(self, width: int) -> None:
        pen = Pen(self.canvas, self.weather, 0.0)
        for _ in range(self.rng.randrange(40)):
            x, y = self.rng.uniform(0, width), self.rng.uniform(0, self.camera.horizon * 0.8)
            pen.lamp((x, y), 0.4, (150, 150, 165))

    def _draw_skyline(self) -> None:
        width, horizon = self.canvas.size[1], self.camera.horizon
        if self.street.kind == "city":
            self._draw_towers(width, horizon)
        else:
            self._draw_hills(width, horizon)

    def _draw_towers(self, width: int, horizon: float) -> None:
        rng, x = self.rng, -10.0
        while x < width:
            broad, tall = rng.uniform(0.03, 0.09) * width, rng.uniform(0.15, 0.75) * horizon
            shade = rng.uniform(90, 150)
            tower = rectangle(x, horizon - tall, x + broad, horizon + 2)
            self.far_pen.detail(tower, (shade, shade, shade * 1.06))
            if self.weather.lights:
                for _ in range(int(tall * broad / 110)):
                    at = (x + rng.uniform(0.1, 0.9) * broad, horizon - rng.uniform(0.05, 0.95) * tall)
                    self.far_pen.glow(rectangle(at[0], at[1], at[0] + 1.0, at[1] + 1.2), (246, 206, 130))
            x += broad * rng.uniform(0.8, 1.3)

    def _draw_hills(self, width: int, horizon: float) -> None:
        rng = self.rng
        for layer, color in enumerate(((96, 116, 112), (84, 106, 74), (64, 88, 52))):
            swell = horizon * (0.3 - 0.08 * layer) * rng.uniform(0.5, 1.2)
            waves = [
                (rng.uniform(0.5, 1.0), rng.uniform(0, math.tau), scale) for scale in (1.5, 4, 9 + 10 * layer)
            ]
            points = [(0.0, horizon + 2.0)]
            for step in range(41):
                at = step / 40
                rise = sum(size / scale * math.sin(scale * at * 4 + phase) for size, phase, scale in waves)
                points.append((at * width, horizon - swell * (0.55 + 0.4 * rise)))
            points.append((float(width), horizon + 2.0))
            Pen(self.canvas, self.weather, FAR * (1.1 - 0.3 * layer)).detail(points, color)

    def _draw_ground(self) -> None:
        shade = self.rng.uniform(0.85, 1.1)
        red, green, blue = GROUNDS[self.street.kind]
        self.band(-400.0, 400.0, 1.0, 600.0, (red * shade, green * shade, blue * shade), steps=16)

    def _draw_roads(self) -> None:
        street, shade = self.street, self.rng.uniform(0.85, 1.1)
        wet = 0.78 if self.weather.rain else 1.0
        asphalt = (94 * shade * wet, 95 * shade * wet, 99 * shade * wet)
        paving = (158 * wet, 152 * wet, 144 * wet) if street.kind != "country" else (128, 122, 90)
        crossing = street.crossing < math.inf
        if street.avenue:
            self.band(street.center - street.side, street.center + street.side, 1.0, FAR, paving)
        if crossing:
            self.band(
                -90, 90, street.crossing - street.pavement, street.far_edge + street.pavement, paving, 6
            )
            self.band(-90, 90, street.crossing, street.far_edge, asphalt, 4)
        if street.avenue:
            self.band(street.center - street.half, street.center + street.half, 1.0, FAR, asphalt)
            self._mark_avenue()
        if crossing:
            self._mark_crossing()
        self._draw_stains()

    def _mark_avenue(self) -> None:
        street = self.street
        for side in (-1, 1):
            edge = street.center + side * street.half
            self.band(edge - 0.08, edge + 0.08, 1.0, FAR, (186, 182, 174))
        offsets = [0.0] if street.half < 2 * LANE - 0.1 + 2.3 * street.parking else [-LANE, 0.0, LANE]
        for offset in offsets:
            z = self.rng.uniform(1.0, 4.0)
            while z < 80.0:
                if not street.crossing - 3 < z < street.far_edge:
                    self.patch(
                        street.center + offset - 0.07, street.center + offset + 0.07, z, z + 3.0, PAINT
                    )
                z += 6.0 if offset else 5.0
        if street.crossing < math.inf:
            self._draw_zebra(street.center - street.half, street.center + street.half, street.crossing - 3.2)
        elif self.rng.random() < 0.4:
            self._draw_zebra(
                street.center - street.half, street.center + street.half, self.rng.uniform(9.0, 25.0)
            )

    def _draw_zebra(self, left: float, right: float, z: float) -> None:
        x = left + 0.3
        while x < right - 0.5:
            self.patch(x, x + 0.5, z, z + 2.8, PAINT)
            x += 1.0

    def _mark_crossing(self) -> None:
        street = self.street
        middle = street.crossing + LANE
        x = -60.0 + self.rng.uniform(0, 4)
        while x < 60.0:
            if not (street.avenue and abs(x + 1 - street.center) < street.half + 1):
                self.patch(x, x + 2.2, middle - 0.08, middle + 0.08, PAINT)
            x += 4.5
        for z in (street.crossing, street.far_edge):
            if not street.avenue:
                self.band(-90, 90, z - 0.08, z + 0.08, (190, 186, 178), 1)
        if not street.avenue and self.rng.random() < 0.5:
            left = self.rng.uniform(-6, 4)
            for step in range(int(street.crossing_width)):
                self.patch(left, left + 3, street.crossing + step + 0.2, street.crossing + step + 0.7, PAINT)

    def _draw_stains(self) -> None:
        """Draw patches of repaired road, manholes, and puddles that hold the sky's colour."""
        rng, puddles = self.rng, self.weather.rain > 0
        for _ in range(rng.randrange(8) + 6 * puddles):
            z = rng.uniform(4.0, 30.0)
            x = rng.uniform(-0.4, 0.4) * z
            center = self.camera.project(x, 0.0, z)
            scale = self.camera.scale(z)
            radii = (rng.uniform(0.3, 1.6) * scale, rng.uniform(0.2, 0.8) * scale * self.camera.height / z)
            color = self.weather.sky[1] if puddles else (40, 40, 44)
            Pen(self.canvas, self.weather, z).soft_ellipse(center, radii, color, 0.4 if puddles else 0.22)

    def patch(self, x0: float, x1: float, z0: float, z1: float, color: Color) -> None:
        """Paint a rectangle of the ground, all of one distance."""
        see = self.camera.project
        corners = [see(x0, 0, z0), see(x0, 0, z1), see(x1, 0, z1), see(x1, 0, z0)]
        Pen(self.canvas, self.weather, (z0 + z1) / 2).detail(corners, color)

    def band(self, x0: float, x1: float, z0: float, z1: float, color: Color, steps: int = 11) -> None:
        """Paint a rectangle of the ground that reaches far, in strips that fade into the haze."""
        if self.weather.haze_density > 0.02:
            steps *= 3
        ratio = (z1 / max(z0, 1.0)) ** (1 / steps)
        near = max(z0, 1.0)
        for _ in range(steps):
            self.patch(x0, x1, near, near * ratio, color)
            near *= ratio
