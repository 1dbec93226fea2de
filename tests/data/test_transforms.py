from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from dethead.data.joining import jitter, mixup, mosaic
from dethead.data.samples import PAD_VALUE
from dethead.data.transforms import (
    Sample,
    TrainTransform,
    Window,
    choose_window,
    crop,
    flip,
    resize_to_fit,
)
from dethead.structures import GroundTruth

OFF: dict[str, Any] = {
    "photometric": 0.0,
    "zoom_out": 0.0,
    "zoom_out_max": 3.0,
    "iou_crop": 0.0,
    "flip": 0.0,
    "min_box_size": 0.0,
}
ALL = OFF | {"photometric": 0.5, "zoom_out": 0.5, "iou_crop": 1.0, "flip": 0.5}
EACH = [OFF | {step: 1.0} for step in ("photometric", "zoom_out", "iou_crop", "flip")]


SIDE_BY_SIDE = {
    "each step": lambda sample: [TrainTransform(**options)(sample) for options in EACH],
    "all steps": lambda sample: [TrainTransform(**ALL)(sample) for _ in range(10)],
    "resized": lambda sample: [resize_to_fit(sample, (96, 96))[0], resize_to_fit(sample, (30, 30))[0]],
    "mosaic": lambda sample: [mosaic(sample, lambda: sample, (32, 64))],
    "mixup": lambda sample: [mixup(sample, sample)],
    "jitter": lambda sample: [jitter(sample, (32, 64), 0.3, 0.5), jitter(sample, (32, 64), 1.5, 2)],
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_the_layout_of_the_decoder_is_kept(name: str) -> None:
    sample = sample_of([(10, 10, 30, 30)])
    sample = sample._replace(image=sample.image.permute(1, 2, 0).contiguous().permute(2, 0, 1))
    torch.manual_seed(0)
    strides = [changed.image.stride() for changed in SIDE_BY_SIDE[name](sample)]
    assert [(colour, across) for colour, _, across in strides] == [(1, 3)] * len(strides)


def sample_of(
    boxes: Sequence[Sequence[float]],
    ignored: Sequence[Sequence[float]] = (),
    height: int = 60,
    width: int = 80,
) -> Sample:
    """Paint object k in the colour 200 + k, ignore region k in 100 + k, on black.

    Object k has label k and weight k / 2.
    """
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for value, regions in ((100, ignored), (200, boxes)):
        for place, (x1, y1, x2, y2) in enumerate(regions):
            image[:, int(y1) : int(y2), int(x1) : int(x2)] = value + place
    targets = torch.eye(4)[: len(boxes)]
    known = torch.arange(len(boxes)) % 2 == 0
    return Sample(
        image,
        GroundTruth(
            torch.tensor(boxes).view(-1, 4).float(),
            targets,
            torch.tensor(ignored).view(-1, 4).float(),
            known,
            torch.arange(len(boxes)) / 2,
        ),
    )


def painted(image: Tensor, value: int) -> list[float] | None:
    """Find the box around all pixels of a value: the truth that no code of the transforms has touched."""
    rows, columns = (image[0] == value).nonzero(as_tuple=True)
    if not len(rows):
        return None
    return [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def weights_of(sample: Sample) -> list[float]:
    assert sample.truth.weights is not None
    weights: list[float] = sample.truth.weights.tolist()
    return weights


def assert_same(found: GroundTruth, wanted: GroundTruth) -> None:
    for one, two in zip(found, wanted, strict=True):
        assert one is not None
        assert two is not None
        assert torch.equal(one, two)


OBJECTS = [[10, 10, 30, 40], [40, 5, 70, 25], [50, 40, 62, 55]]
REGIONS = [[0, 45, 20, 60], [72, 30, 80, 50]]


def test_flip_mirrors_boxes_and_ignore_regions_with_the_pixels() -> None:
    flipped = flip(sample_of(OBJECTS, REGIONS))

    assert flipped.truth.boxes[0].tolist() == [50, 10, 70, 40]
    for place, box in enumerate(flipped.truth.boxes.tolist()):
        assert painted(flipped.image, 200 + place) == box
    for place, box in enumerate(flipped.truth.ignore_boxes.tolist()):
        assert painted(flipped.image, 100 + place) == box


def test_flipping_twice_is_the_identity() -> None:
    sample = sample_of(OBJECTS, REGIONS)

    twice = flip(flip(sample))

    assert torch.equal(twice.image, sample.image)
    assert_same(twice.truth, sample.truth)


def test_a_crop_moves_and_cuts_boxes() -> None:
    # Window x 20..70, y 8..48. Centres: (20, 25) on its border is out, (55, 15) in, (56, 47.5) in.
    cropped = crop(sample_of(OBJECTS, REGIONS), Window(top=8, left=20, height=40, width=50))

    assert cropped.image.shape == (3, 40, 50)
    assert cropped.truth.boxes.tolist() == [[20, 0, 50, 17], [30, 32, 42, 40]]
    assert cropped.truth.targets.argmax(dim=1).tolist() == [1, 2]
    assert cropped.truth.class_known.tolist() == [False, True]
    assert weights_of(cropped) == [0.5, 1]


def test_a_crop_keeps_what_is_visible_of_an_ignore_region_whose_centre_is_gone() -> None:
    # Region 0 is x 0..20, y 45..60: 5 px of its width and 3 of its height remain.
    cropped = crop(sample_of([], REGIONS), Window(top=8, left=15, height=40, width=50))

    assert cropped.truth.ignore_boxes.tolist() == [[0, 37, 5, 40]]
    assert painted(cropped.image, 100) == [0, 37, 5, 40]


def test_a_crop_treats_objects_as_torchvision_does() -> None:
    sample = sample_of(OBJECTS)
    image, boxes = (
        tv_tensors.Image(sample.image),
        tv_tensors.BoundingBoxes(sample.truth.boxes, format="XYXY", canvas_size=(60, 80)),
    )
    transform = v2.RandomIoUCrop()
    for _ in range(10):
        window = transform.make_params([image, boxes])
        if not window:
            continue
        expected = transform.transform(boxes, window)[window["is_within_crop_area"]]

        found = crop(sample, Window(window["top"], window["left"], window["height"], window["width"]))

        assert torch.equal(found.truth.boxes, expected.as_subclass(Tensor))


def test_zoom_out_puts_the_image_on_grey_and_moves_everything() -> None:
    for _ in range(10):
        zoomed = TrainTransform(**OFF | {"zoom_out": 1.0})(sample_of(OBJECTS, REGIONS))

        height, width = zoomed.image.shape[1:]
        assert 60 <= height <= 180
        assert 80 <= width <= 240
        assert int((zoomed.image == PAD_VALUE).all(0).sum()) == height * width - 60 * 80
        for place, box in enumerate(zoomed.truth.boxes.tolist()):
            assert painted(zoomed.image, 200 + place) == box
        for place, box in enumerate(zoomed.truth.ignore_boxes.tolist()):
            assert painted(zoomed.image, 100 + place) == box


def test_after_all_transforms_a_painted_rectangle_fills_its_box() -> None:
    transform = TrainTransform(**ALL | {"photometric": 0.0})
    for _ in range(30):
        changed = transform(sample_of(OBJECTS, REGIONS))

        assert len(changed.truth.boxes) == len(changed.truth.targets) == len(changed.truth.class_known)
        assert weights_of(changed) == (changed.truth.targets.argmax(dim=1) / 2).tolist()
        for box, label in zip(changed.truth.boxes, changed.truth.targets.argmax(dim=1).tolist(), strict=True):
            assert painted(changed.image, 200 + label) == box.tolist()


@pytest.mark.parametrize("options", [ALL, *EACH])
@pytest.mark.parametrize(("boxes", "ignored"), [([], REGIONS), ([], []), (OBJECTS, [])])
def test_empties_come_through(
    options: dict[str, float], boxes: list[list[float]], ignored: list[list[float]]
) -> None:
    for _ in range(3):
        sample, _resize = resize_to_fit(TrainTransform(**options)(sample_of(boxes, ignored)), (64, 64))

        assert sample.image.shape == (3, 64, 64)
        assert sample.truth.targets.shape == (len(sample.truth.boxes), 4)
        assert sample.truth.ignore_boxes.shape == (len(ignored), 4) or options["iou_crop"]


def test_everything_off_changes_nothing() -> None:
    sample = sample_of(OBJECTS, REGIONS)

    same = TrainTransform(**OFF)(sample)

    assert torch.equal(same.image, sample.image)
    assert_same(same.truth, sample.truth)


def test_small_boxes_are_dropped_with_their_targets_but_ignore_regions_are_not() -> None:
    sample = sample_of(OBJECTS, [[0, 0, 2, 2]])  # the last object is 12 px wide

    kept = TrainTransform(**OFF | {"min_box_size": 12.5})(sample).truth

    assert kept.targets.argmax(dim=1).tolist() == [0, 1]
    assert kept.weights is not None
    assert kept.weights.tolist() == [0, 0.5]
    assert len(kept.ignore_boxes) == 1


def test_the_input_is_not_changed_in_place() -> None:
    sample = sample_of(OBJECTS, REGIONS)
    before = [value.clone() for value in (sample.image, *sample.truth) if value is not None]

    for _ in range(10):
        resize_to_fit(TrainTransform(**ALL)(sample), (50, 40))

    after = [value for value in (sample.image, *sample.truth) if value is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "change", [{"flip": 1.5}, {"photometric": -0.1}, {"zoom_out_max": 0.9}, {"min_box_size": -1.0}]
)
def test_settings_out_of_range_are_named(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        TrainTransform(**OFF | change)


@pytest.mark.parametrize(
    ("old", "size", "new"),
    [
        ((60, 80), (64, 64), (48, 64)),
        ((80, 60), (64, 64), (64, 48)),
        ((30, 20), (90, 90), (90, 60)),
        ((64, 64), (64, 64), (64, 64)),
        ((427, 640), (320, 320), (214, 320)),
        ((1, 1000), (100, 100), (1, 100)),
    ],
)
def test_resize_fits_the_long_side_and_pads_right_and_below(
    old: tuple[int, int], size: tuple[int, int], new: tuple[int, int]
) -> None:
    white = Sample(torch.full((3, *old), 255, dtype=torch.uint8), sample_of([]).truth)

    resized, resize = resize_to_fit(white, size)

    assert resized.image.shape == (3, *size)
    assert (resized.image[:, : new[0], : new[1]] == 255).all()
    assert (resized.image[:, new[0] :] == PAD_VALUE).all()
    assert (resized.image[:, :, new[1] :] == PAD_VALUE).all()
    assert resize.original_size == old
    assert resize.scale == (new[0] / old[0], new[1] / old[1])


@pytest.mark.parametrize("old", [(427, 640), (383, 217), (60, 80), (1333, 71)])
def test_the_way_back_is_exact(old: tuple[int, int]) -> None:
    corner = torch.rand(50, 2) * torch.tensor([old[1], old[0]])
    boxes = torch.cat([corner, corner + 20], dim=1)
    truth = GroundTruth.from_labels(boxes, torch.zeros(50, dtype=torch.int64), 1, ignore_boxes=boxes)
    resized, resize = resize_to_fit(Sample(torch.zeros(3, *old, dtype=torch.uint8), truth), (320, 320))

    assert (resize.to_original(resized.truth.boxes) - boxes).abs().max() < 2e-4
    assert (resize.to_original(resized.truth.ignore_boxes) - boxes).abs().max() < 2e-4


def test_resized_boxes_lie_where_the_pixels_are() -> None:
    # 427 -> 214 rows is a factor of 0.50117; taking 0.5 would be off by half a pixel at the lower edge.
    sample = sample_of([[0, 0, 640, 400]], height=427, width=640)

    resized, _ = resize_to_fit(sample, (320, 320))

    assert resized.truth.boxes[0].tolist() == pytest.approx([0, 0, 320, 400 * 214 / 427])
    edge = resized.image[0, 195:206, 160].float()
    # Antialiased: summing the light along a column gives the height to a fraction of a pixel.
    assert 195 + float(edge.sum()) / 200 == pytest.approx(400 * 214 / 427, abs=0.02)


def test_resize_is_antialiased_as_pillows() -> None:
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, ::2] = 200

    resized, _ = resize_to_fit(Sample(stripes, sample_of([]).truth), (16, 16))

    assert int(resized.image[:, 1:-1].min()) >= 95
    assert int(resized.image[:, 1:-1].max()) <= 105


def test_a_drawn_window_holds_the_centre_of_some_object() -> None:
    sample = sample_of(OBJECTS, [])
    windows = [choose_window(sample) for _ in range(50)]
    cropped = [crop(sample, window) for window in windows if window is not None]
    assert 20 <= len(cropped) < 50  # one drawn overlap in seven leaves the image whole
    assert all(len(one.truth.boxes) for one in cropped)


def test_an_image_without_objects_is_not_cropped() -> None:
    assert choose_window(sample_of([], REGIONS)) is None


@pytest.mark.parametrize(
    "boxes", [OBJECTS, [[0, 0, 80, 60]], [[3, 3, 9, 8]], [[20, 20, 20, 20], [0, 0, 40, 40]]]
)
def test_windows_and_the_numbers_drawn_are_torchvisions(boxes: list[list[float]]) -> None:
    sample = sample_of(boxes)
    image, placed = (
        tv_tensors.Image(sample.image),
        tv_tensors.BoundingBoxes(sample.truth.boxes, format="XYXY", canvas_size=(60, 80)),
    )
    for seed in range(30):
        torch.manual_seed(seed)
        drawn = v2.RandomIoUCrop().make_params([image, placed])
        wanted = Window(*(int(drawn[side]) for side in Window._fields)) if drawn else None
        after = torch.get_rng_state()
        torch.manual_seed(seed)
        assert choose_window(sample) == wanted, seed
        assert torch.equal(torch.get_rng_state(), after), seed


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (50, 1), (2, 3)])
def test_an_image_of_few_pixels_can_be_cropped(height: int, width: int) -> None:
    sample = sample_of([[0, 0, width, height]], height=height, width=width)
    for _ in range(20):
        window = choose_window(sample)
        assert window is None or (window.height > 0 and window.width > 0)
