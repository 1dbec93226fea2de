"""Colours against torchvision's, to the pixel."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from dethead.data.colours import distort, turn_hue


def colours(seed: int) -> Tensor:
    """A third of any colours, a third with two or three equal channels, a third of 0 and 255 alone."""
    torch.manual_seed(seed)
    image = torch.randint(0, 256, (3, 150, 130), dtype=torch.uint8)
    image[1, 50:70] = image[0, 50:70]
    image[2, 70:90] = image[1, 70:90]
    image[:, 90:100] = image[:1, 90:100]
    image[:, 100:] = image[:, 100:] // 128 * 255
    return image


def pixels_side_by_side(image: Tensor) -> Tensor:
    """The layout in which a decoder leaves an image."""
    return image.permute(1, 2, 0).contiguous().permute(2, 0, 1)


@pytest.mark.parametrize("turn", [0.0, 0.03, -0.05, 0.25, 0.5, -0.5, 1e-9, -1e-9])
def test_a_turned_hue_is_torchvisions_to_the_pixel(turn: float) -> None:
    image = colours(0)
    wanted = v2.functional.adjust_hue(image, turn)
    assert torch.equal(turn_hue(image, turn), wanted)
    assert torch.equal(turn_hue(pixels_side_by_side(image), turn), wanted)


def test_a_third_of_a_turn_takes_red_to_green_and_green_to_blue() -> None:
    image = 255 * torch.eye(3, dtype=torch.uint8).view(3, 1, 3)
    assert torch.equal(turn_hue(image, 1 / 3), image.roll(1, 0))


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_distorted_colours_and_the_numbers_drawn_are_torchvisions(probability: float) -> None:
    image = pixels_side_by_side(colours(1))
    for seed in range(20):
        torch.manual_seed(seed)
        wanted = v2.RandomPhotometricDistort(p=probability)(image)
        drawn = torch.get_rng_state()
        torch.manual_seed(seed)
        assert torch.equal(distort(image, probability), wanted), seed
        assert torch.equal(torch.get_rng_state(), drawn), seed


def test_the_image_given_is_not_changed() -> None:
    image = colours(2)
    before = image.clone()
    for _ in range(5):
        distort(image, 1.0)
    assert torch.equal(image, before)
