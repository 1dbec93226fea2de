import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from dethead.boxes import iou
from dethead.data import augmentation
from dethead.data.augmentation import change_colours, choose_window

BOXES = torch.tensor([[5.0, 10, 45, 60], [50, 20, 90, 40]])
HEIGHT, WIDTH = 80, 100


@pytest.fixture
def dull() -> Tensor:
    """Colours in the middle of the range, so that no change is cut off."""
    return torch.randint(100, 150, (3, 12, 17), dtype=torch.uint8)


def draws(monkeypatch: pytest.MonkeyPatch, changed: list[bool], amounts: list[float]) -> None:
    """Replace the random numbers: which changes happen, and how far each goes in [-1, 1]."""
    values = [
        torch.tensor([0.0 if flag else 1.0 for flag in changed]),
        torch.tensor([(amount + 1) / 2 for amount in amounts], dtype=torch.float64),
        torch.tensor(0.0),
    ]
    monkeypatch.setattr(augmentation.torch, "rand", lambda *_, **__: values.pop(0))


def difference(first: Tensor, second: Tensor) -> int:
    return int((first.int() - second.int()).abs().max())


def test_brightness_contrast_and_saturation_are_torchvisions(
    monkeypatch: pytest.MonkeyPatch, dull: Tensor
) -> None:
    expected = vision.adjust_brightness(dull.float() / 255, 1 + 0.125 * 0.8)
    expected = vision.adjust_contrast(expected, 1 - 0.5 * 0.6)
    expected = vision.adjust_saturation(expected, 1 + 0.5 * 0.4)
    draws(monkeypatch, [True, True, True, False, False], [0.8, -0.6, 0.4, 0.0])

    found = change_colours(dull, probability=0.5)

    assert difference(found, (expected * 255).round()) <= 1


def test_a_small_turn_of_hue_is_close_to_torchvisions(monkeypatch: pytest.MonkeyPatch, dull: Tensor) -> None:
    expected = vision.adjust_hue(dull, 0.05 * 0.3)
    draws(monkeypatch, [False, False, False, True, False], [0.0, 0.0, 0.0, 0.3])

    found = change_colours(dull, probability=0.5)

    assert difference(found, dull) >= 3
    assert difference(found, expected) <= 5


def test_hue_leaves_grey_and_brightness_alone(monkeypatch: pytest.MonkeyPatch, dull: Tensor) -> None:
    grey = dull[:1].expand(3, -1, -1)
    images = torch.cat([grey, dull], dim=2)
    draws(monkeypatch, [False, False, False, True, False], [0.0, 0.0, 0.0, 1.0])

    found = change_colours(images, probability=0.5)

    assert difference(found[:, :, :17], grey) == 0
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert ((found - images.float()) * weights).sum(0).abs().max() <= 0.51


def test_values_are_cut_off_and_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    draws(monkeypatch, [True, False, False, False, False], [1.0, 0.0, 0.0, 0.0])

    found = change_colours(torch.full((3, 2, 2), 250, dtype=torch.uint8), probability=0.5)

    assert found.unique().tolist() == [255]


def test_channel_order_alone_permutes_the_channels(monkeypatch: pytest.MonkeyPatch, dull: Tensor) -> None:
    draws(monkeypatch, [False] * 4 + [True], [0.0] * 4)
    monkeypatch.setattr(augmentation.torch, "randperm", lambda _: torch.tensor([2, 0, 1]))

    assert torch.equal(change_colours(dull, probability=0.5), dull[[2, 0, 1]])


def test_probability_zero_changes_no_colour(dull: Tensor) -> None:
    assert change_colours(dull, probability=0.0) is dull


def test_a_window_is_inside_has_an_allowed_shape_and_holds_a_centre() -> None:
    centres = (BOXES[:, :2] + BOXES[:, 2:]) / 2
    windows = [choose_window(BOXES, HEIGHT, WIDTH) for _ in range(100)]

    for top, left, height, width in filter(None, windows):
        assert 0 <= left <= left + width <= WIDTH
        assert 0 <= top <= top + height <= HEIGHT
        assert width >= 0.3 * WIDTH - 1
        assert height >= 0.3 * HEIGHT - 1
        assert 0.5 <= width / height <= 2
        assert any(left < x < left + width and top < y < top + height for x, y in centres.tolist())


def test_a_drawn_smallest_overlap_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "_MIN_OVERLAPS", (0.5,))

    for _ in range(20):
        window = choose_window(BOXES, HEIGHT, WIDTH)
        assert window is not None
        top, left, height, width = window
        assert iou(torch.tensor([left, top, left + width, top + height]).float(), BOXES).max() >= 0.5


def test_windows_are_distributed_as_torchvisions() -> None:
    reference = v2.RandomIoUCrop()
    boxes = tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=(HEIGHT, WIDTH))
    blank = tv_tensors.Image(torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8))
    theirs = [reference.make_params([blank, boxes]) for _ in range(100)]
    ours = [choose_window(BOXES, HEIGHT, WIDTH) for _ in range(1000)]

    def mean(areas: list[int]) -> float:
        return sum(areas) / len(areas) / (HEIGHT * WIDTH)

    # Standard error of the difference: 0.02.
    expected = mean([params["height"] * params["width"] if params else HEIGHT * WIDTH for params in theirs])
    found = mean([window.height * window.width if window else HEIGHT * WIDTH for window in ours])
    assert found == pytest.approx(expected, abs=0.08)


def test_an_image_without_objects_stays_whole() -> None:
    assert choose_window(torch.zeros(0, 4), HEIGHT, WIDTH) is None


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (3, 2)])
def test_a_tiny_image_gives_no_empty_window(height: int, width: int) -> None:
    whole = torch.tensor([[0.0, 0.0, width, height]])

    for _ in range(10):
        window = choose_window(whole, height, width)
        assert window is None or min(window.height, window.width) >= 1
