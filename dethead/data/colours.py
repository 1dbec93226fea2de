"""Changes of colour, to the pixel those of ``v2.RandomPhotometricDistort``; hue in a fraction of the time."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_BLOCK: Final = 16384
"""Pixels turned at once: what lies between the steps stays in the cache of a core."""

_WHITE: Final = 255.999
"""What 1 becomes before it is cut off to a whole number, as torchvision has it."""

_TINY: Final = np.float32(1e-6)
"""Less than the smallest difference between two bytes over 255."""


def distort(image: Tensor, probability: float) -> Tensor:
    """Change brightness, contrast, saturation, hue and channel order of a (3, H, W) uint8 RGB image.

    Args:
        image: is not changed.
        probability: of each of the five.

    Returns:
        (3, H, W) uint8, whole pixels one after the other in memory; the image itself where nothing was drawn.
    """
    given = image
    drawn = v2.RandomPhotometricDistort(p=probability).make_params([image])
    steps = [("brightness", F.adjust_brightness_image), ("saturation", F.adjust_saturation_image)]
    steps += [("hue", turn_hue)]
    steps.insert(1 if drawn["contrast_before"] else 3, ("contrast", F.adjust_contrast_image))
    if any(drawn[f"{name}_factor"] is not None for name, _ in steps):
        image = image.contiguous()  # a decoder's pixels lie side by side; here colours are taken one by one
    for name, change in steps:
        factor = drawn[f"{name}_factor"]
        image = image if factor is None else change(image, factor)
    order = drawn["channel_permutation"]
    if order is None and image is given:
        return image
    planes = image.unbind() if order is None else [image[channel] for channel in order]
    return torch.stack(planes, dim=2).permute(2, 0, 1)


def turn_hue(image: Tensor, turn: float) -> Tensor:
    """Turn the hue of a (3, H, W) uint8 RGB image; saturation and value stay.

    Args:
        image: is not changed.
        turn: in whole turns, in [-0.5, 0.5].

    Returns:
        (3, H, W) uint8, to the pixel that of ``v2.functional.adjust_hue``.
    """
    pixels = image.contiguous().view(3, -1).numpy()
    turned = np.empty(pixels.shape, dtype=np.uint8)
    for start in range(0, pixels.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        _turn(pixels[:, block], turn, turned[:, block])
    return torch.from_numpy(turned).view(image.shape)


def _turn(pixels: Bytes, turn: float, turned: Bytes) -> None:
    """Write (3, N) bytes, turned, to ``turned``, by way of hue, saturation and value in float32."""
    high = pixels.max(axis=0)
    rgb = pixels * np.float32(1 / 255)
    value = high * np.float32(1 / 255)
    spread = value - rgb.min(axis=0)
    # Grey has no spread, black no value either: 0 over anything is the 0 that both should give.
    saturation = spread / np.maximum(value, _TINY)
    red, green, blue = (value - rgb) / np.maximum(spread, _TINY)
    sixths = _sixths(pixels, high, red, green, blue)
    hue = _fraction(_fraction(sixths * np.float32(1 / 6) + np.float32(1)) + np.float32(turn)) * np.float32(6)
    sixth = hue.astype(np.uint8)
    hue -= sixth
    rest = 1 - saturation
    saturation *= hue
    falling = _as_bytes((1 - saturation) * value)
    rising = _as_bytes((saturation + rest) * value)
    _write(sixth, high, falling, rising, _as_bytes(rest * value), turned)


def _sixths(pixels: Bytes, high: Bytes, red: Floats, green: Floats, blue: Floats) -> Floats:
    """Give the hue in sixths of a turn, from -1 to 5, of how far each colour is from the brightest."""
    sixths: Floats = green + 4 - red
    np.copyto(sixths, red + 2 - blue, where=pixels[1] == high)
    np.copyto(sixths, blue - green, where=pixels[0] == high)
    return sixths


def _write(sixth: Bytes, high: Bytes, falling: Bytes, rising: Bytes, low: Bytes, turned: Bytes) -> None:
    """In each sixth of a turn one colour is high, one low, and one on its way.

    A hue just below a whole turn can round to sixth 6, the same as 0; ``rising`` is ``low`` there. Byte for
    byte, ``low ^ (a ^ low) * mask`` is ``a`` under the mask: several times faster than a choice.
    """
    high, falling, rising = high ^ low, falling ^ low, rising ^ low
    at = [(sixth == number).view(np.uint8) for number in range(7)]
    turned[0] = low ^ high * (at[0] | at[5] | at[6]) ^ falling * at[1] ^ rising * at[4]
    turned[1] = low ^ high * (at[1] | at[2]) ^ falling * at[3] ^ rising * at[0]
    turned[2] = low ^ high * (at[3] | at[4]) ^ falling * at[5] ^ rising * at[2]


def _as_bytes(values: Floats) -> Bytes:
    return (values * np.float32(_WHITE)).astype(np.uint8)


def _fraction(values: Floats) -> Floats:
    values -= np.floor(values)
    return values
