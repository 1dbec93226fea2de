"""The weather and the hour of a scene, and what they and the camera do to the finished drawing."""

from functools import lru_cache
from random import Random
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Color = tuple[float, float, float]
"""Red, green, blue in [0, 255]; an ambient light in [0, 1]."""


class Weather(NamedTuple):
    """What light there is, what the air does to it, and what the camera adds."""

    name: str
    ambient: Color
    """Factor on every colour that does not shine by itself."""
    sky: tuple[Color, Color]
    """At the top of the picture and at the horizon."""
    haze: Color
    """The colour that distant things fade into."""
    haze_density: float
    """Per metre: exp(-density * distance) of a colour is left."""
    lights: bool
    """Whether lamps, windows and headlights are on."""
    sun: float
    """Strength of cast shadows in [0, 1]; 0 without sun."""
    rain: float
    """0 when dry, up to 1."""
    noise: float
    """Standard deviation of the sensor's noise, in grey levels."""
    blur: float
    """Radius in pixels."""


CLEAR: Final = Weather(
    "clear",
    (1.0, 0.98, 0.94),
    ((84, 142, 212), (196, 216, 232)),
    (196, 212, 226),
    0.003,
    False,
    0.45,
    0,
    2.5,
    0.0,
)
OVERCAST: Final = Weather(
    "overcast",
    (0.78, 0.8, 0.83),
    ((150, 158, 168), (200, 204, 208)),
    (188, 192, 197),
    0.007,
    False,
    0.1,
    0,
    3.5,
    0.2,
)
DUSK: Final = Weather(
    "dusk", (0.62, 0.5, 0.5), ((62, 66, 120), (240, 160, 104)), (170, 118, 104), 0.006, True, 0.2, 0, 5, 0.3
)
NIGHT: Final = Weather(
    "night", (0.40, 0.39, 0.48), ((8, 10, 26), (44, 44, 68)), (36, 37, 54), 0.007, True, 0.0, 0, 8, 0.5
)
RAIN: Final = Weather(
    "rain",
    (0.56, 0.6, 0.64),
    ((104, 112, 122), (158, 164, 170)),
    (146, 153, 160),
    0.016,
    True,
    0.0,
    0.8,
    5,
    0.5,
)
FOG: Final = Weather(
    "fog", (0.8, 0.81, 0.82), ((196, 200, 204), (206, 208, 210)), (200, 203, 206), 0.032, True, 0.0, 0, 4, 0.4
)
NIGHT_RAIN: Final = Weather(
    "night rain",
    (0.38, 0.38, 0.46),
    ((12, 13, 24), (44, 42, 56)),
    (40, 40, 52),
    0.013,
    True,
    0.0,
    1.0,
    9,
    0.6,
)

MOST_NOISE: Final = 15.0
"""Keeps the product of noise and grain, 15 * 8 * 256, inside 16 bits."""

KINDS: Final = (CLEAR, OVERCAST, DUSK, NIGHT, RAIN, FOG, NIGHT_RAIN)
ODDS: Final = (34, 20, 12, 14, 9, 6, 5)


def choose_weather(rng: Random) -> Weather:
    """Draw a kind of weather and vary its light, its haze and the camera's noise."""
    kind = rng.choices(KINDS, ODDS)[0]
    exposure = rng.uniform(0.85, 1.12)
    warmth = rng.uniform(-0.04, 0.04)
    red, green, blue = kind.ambient
    return kind._replace(
        ambient=(red * exposure * (1 + warmth), green * exposure, blue * exposure * (1 - warmth)),
        haze_density=kind.haze_density * rng.uniform(0.6, 1.5),
        sun=kind.sun * rng.uniform(0.5, 1.2),
        noise=kind.noise * rng.uniform(0.5, 1.5),
        blur=kind.blur * rng.uniform(0.3, 1.4),
    )


def develop(drawing: Image.Image, size: tuple[int, int], weather: Weather, rng: Random) -> np.ndarray:
    """Turn the drawing into the picture a camera would have taken of it.

    Args:
        drawing: RGB, a whole multiple of ``size``.
        size: (height, width) of the picture.
        weather: decides on halos, rain, blur and noise.
        rng: where the drops fall, and the seed of the noise.

    Returns:
        (H, W, 3) uint8.
    """
    image = drawing.reduce(drawing.height // size[0])
    if weather.lights:
        # In fog the air itself is bright: only what outshines it has a halo.
        image = _with_halos(image, threshold=max(165, int(max(weather.haze)) + 25))
    if weather.rain:
        image = _with_rain(image, weather.rain, rng)
    if weather.blur > 0.15:
        image = image.filter(ImageFilter.BoxBlur(weather.blur))
    return _with_noise(image, weather.noise, rng)


def _with_halos(image: Image.Image, threshold: int) -> Image.Image:
    """Let what is bright shine into its neighbourhood."""
    small = image.reduce(4).point([max(0, value - threshold) for value in range(256)] * 3)
    halo = small.filter(ImageFilter.BoxBlur(1))
    wide = small.filter(ImageFilter.BoxBlur(4))
    halo = ImageChops.add(halo, wide)
    return ImageChops.add(image, halo.resize(image.size, Image.Resampling.BILINEAR))


def _with_rain(image: Image.Image, strength: float, rng: Random) -> Image.Image:
    drops = ImageDraw.Draw(image, "RGBA")
    width, height = image.size
    slant = rng.uniform(-0.25, 0.25)
    for _ in range(int(strength * width * height / 700)):
        x, y, length = rng.random() * width, rng.random() * height, rng.uniform(4, 16)
        drops.line((x, y, x + slant * length, y + length), (205, 212, 220, int(rng.uniform(15, 60))))
    return image


def _with_noise(image: Image.Image, sigma: float, rng: Random) -> np.ndarray:
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    top, left = rng.randrange(height), rng.randrange(width)
    grain = _grain(height, width)[top : top + height, left : left + width]
    noisy = grain * np.int16(min(sigma, MOST_NOISE) * 8) >> np.int16(9)  # 64 * 8 = 2 ** 9
    noisy += pixels
    return np.clip(noisy, 0, 255, out=noisy).astype(np.uint8)


@lru_cache(maxsize=4)
def _grain(height: int, width: int) -> np.ndarray:
    """Give (2 * height, 2 * width, 3) int16 noise of standard deviation 64, mostly the same in all channels.

    Every scene takes a window of the same grain: drawing it anew, or in floating point, would cost more than
    all the rest that is done to the picture.
    """
    generator = np.random.default_rng(0)
    grey = generator.standard_normal((height, width, 1))
    own = generator.standard_normal((height, width, 3))
    grain = np.clip(64 * (0.8**0.5 * grey + 0.2**0.5 * own), -256, 256)
    return np.tile(np.rint(grain).astype(np.int16), (2, 2, 1))
