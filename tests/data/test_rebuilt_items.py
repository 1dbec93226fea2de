"""Mosaic, mixup and jitter in a data set: what they are drawn from, and when they are off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from coco_files import annotation, image
from torchvision.io import write_png

from dethead.data.coco import CocoSet
from dethead.data.dataset import DetectionDataset, Item
from dethead.data.input_sizes import SizedKey
from dethead.data.orders import Uniform
from dethead.data.sampling import EpochBatches, make_loader
from dethead.data.transforms import TrainTransform

PLAIN: dict[str, Any] = {
    "photometric": 0.5,
    "zoom_out": 0.5,
    "zoom_out_max": 2.0,
    "iou_crop": 1.0,
    "flip": 0.5,
    "min_box_size": 1.0,
}
OFF = PLAIN | {"photometric": 0.0, "zoom_out": 0.0, "iou_crop": 0.0, "flip": 0.0}
REBUILDING: list[dict[str, Any]] = [{"mosaic": 1.0}, {"mixup": 1.0}, {"jitter": [0.5, 2.0]}]
NUM_IMAGES = 6


@pytest.fixture
def coco(write_coco: Callable[..., Path], tmp_path: Path) -> CocoSet:
    """Six 40 x 20 images of one grey each, 20, 40, ...: a car of twice that, and an ignore region."""
    entries = [image(10 + place) for place in range(NUM_IMAGES)]
    boxes = []
    for place, entry in enumerate(entries):
        pixels = torch.full((3, 20, 40), 20 * (place + 1), dtype=torch.uint8)
        pixels[:, 2:12, 4:24] *= 2
        write_png(pixels, str(tmp_path / entry["file_name"]))
        boxes.append(annotation(2 * place, image_id=10 + place, box=(4, 2, 20, 10), weight=0.5))
        boxes.append(annotation(2 * place + 1, image_id=10 + place, box=(0, 0, 40, 20), iscrowd=1))
    return CocoSet.read(write_coco(boxes, images=entries))


@pytest.fixture
def make(coco: CocoSet, tmp_path: Path) -> Callable[..., DetectionDataset]:
    def build(epochs: int | None = None, **options: Any) -> DetectionDataset:
        transform = TrainTransform(**PLAIN | options)
        return DetectionDataset(coco, tmp_path, (32, 48), transform, seed=3, epochs=epochs)

    return build


def equal(first: Item, second: Item) -> bool:
    pairs = zip((first.image, *first.truth), (second.image, *second.truth), strict=True)
    return first[2:] == second[2:] and all(torch.equal(a, b) for a, b in pairs if a is not None)


KEYS = [(epoch, index) for epoch in range(5) for index in range(NUM_IMAGES)]


@pytest.mark.parametrize("options", REBUILDING)
def test_an_item_is_a_function_of_seed_and_key(make, options: dict[str, Any]) -> None:
    first = make(**options)[0, 2]
    torch.rand(7)

    assert equal(make(**options)[0, 2], first)
    assert first.image.shape == (3, 32, 48)
    assert not equal(make(**options)[1, 2], first)
    assert not equal(make(**options)[0, 2, 1], first)


@pytest.mark.parametrize("option", ["mosaic", "mixup"])
def test_an_image_that_is_left_alone_is_that_of_a_run_without(make, option: str) -> None:
    plain, half = make(), make(**{option: 0.5})

    alone = sum(equal(half[key], plain[key]) for key in KEYS)

    assert 8 <= alone <= 22  # of 30


@pytest.mark.parametrize("options", REBUILDING)
def test_off_in_the_last_epochs_means_the_items_of_a_run_without(make, options: dict[str, Any]) -> None:
    plain, rebuilt = make(), make(epochs=5, last_epochs_plain=2, **options)

    same = [equal(rebuilt[key], plain[key]) for key in KEYS]

    assert same[-2 * NUM_IMAGES :] == [True] * 2 * NUM_IMAGES
    assert not any(same[: -2 * NUM_IMAGES])


def test_workers_that_live_on_switch_off_in_the_same_epoch_and_give_the_same(make) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        dataset = make(epochs=3, last_epochs_plain=1, mosaic=0.8, mixup=0.5, jitter=[0.5, 1.5])
        order = EpochBatches(Uniform(NUM_IMAGES), 2, seed=0, epoch=0, drop_last=True)
        loader = make_loader(dataset, order, workers)
        seen = []
        for epoch in range(3):
            order.set_epoch(epoch)
            for batch in loader:
                seen += [batch.images, torch.cat([one.boxes for one in batch.truth])]
        return seen

    alone, shared = batches(0), batches(2)

    assert len(alone) == 3 * 3 * 2
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_the_last_of_an_unknown_number_of_epochs_are_refused(make) -> None:
    with pytest.raises(ValueError, match="last_epochs_plain 2 needs the number of epochs"):
        make(mosaic=1.0, last_epochs_plain=2)


def test_more_last_epochs_than_there_are_make_all_plain(make) -> None:
    assert equal(make(epochs=1, last_epochs_plain=15, mosaic=1.0)[0, 3], make()[0, 3])


def test_rebuilding_leaves_the_global_random_numbers_alone(make) -> None:
    before = torch.get_rng_state()

    make(mosaic=1.0, mixup=1.0)[0, 0]

    assert torch.equal(torch.get_rng_state(), before)


def test_partners_are_all_images_of_the_set(make) -> None:
    dataset = make(**OFF | {"mosaic": 1.0})

    greys = torch.cat([dataset[epoch, 0].image.unique() for epoch in range(40)])

    assert {20 * place for place in range(1, NUM_IMAGES + 1)} <= {*greys.tolist()}


def test_mixup_is_drawn_on_top_of_zoom_and_crop_where_nothing_else_scales(make) -> None:
    changed = make(**OFF | {"mixup": 1.0, "iou_crop": 1.0})
    whole = make(**OFF | {"mixup": 1.0})

    assert [key for key in KEYS if not equal(changed[key], whole[key])]
    assert all(len(whole[key].truth.boxes) >= 1 for key in KEYS)


def test_weights_and_ignore_regions_of_partners_come_through(make) -> None:
    truth = make(**OFF | {"mosaic": 1.0, "mixup": 1.0})[0, 1].truth

    assert len(truth.ignore_boxes) >= 2
    assert truth.weights is not None
    assert (truth.weights == 0.5).all()
    assert len(truth.weights) == len(truth.boxes) == len(truth.targets) == len(truth.class_known)


def test_small_objects_of_the_picture_are_dropped_by_its_own_pixels(make) -> None:
    # 20 x 10 px at 48 / 40 and a factor of a half: 12 x 6 px of the network input.
    options = OFF | {"jitter": [0.5, 0.5]}

    kept, dropped = (make(**options | {"min_box_size": size})[0, 0].truth for size in (5.9, 6.1))

    torch.testing.assert_close(kept.boxes, torch.tensor([[2.4, 1.2, 14.4, 7.2]]))
    assert len(dropped.boxes) == 0
    assert len(dropped.ignore_boxes) == 1


def test_a_partner_that_cannot_be_read_is_an_ignored_quarter_and_counted(make, coco, tmp_path) -> None:
    for place in range(1, NUM_IMAGES):
        (tmp_path / f"{10 + place}.png").unlink()
    transform = TrainTransform(**OFF | {"mosaic": 1.0})
    dataset = DetectionDataset(coco, tmp_path, (32, 48), transform, seed=3, skip_unreadable=True)

    truths = [dataset[epoch, 0].truth for epoch in range(10)]

    assert dataset.unreadable.any()
    assert not dataset.unreadable[0]
    assert max(len(truth.ignore_boxes) for truth in truths) >= 3
    assert all(len(truth.boxes) == len(truth.weights) for truth in truths)


@pytest.mark.parametrize(("factor", "width", "height"), [(0.25, 6, 3), (0.5, 12, 6)])
def test_a_mosaic_shows_all_four_at_the_scale_it_is_given(
    make, factor: float, width: int, height: int
) -> None:
    # A car of 20 x 10 px in an image that fits at 1.2; at these factors nothing is cut, but for the rounding
    # to whole pixels.
    dataset = make(**OFF | {"mosaic": 1.0, "mosaic_scale": [factor, factor]})

    boxes = torch.cat([dataset[key].truth.boxes for key in KEYS])

    assert len(boxes) > 3 * len(KEYS)
    sides = (boxes[:, 2:] - boxes[:, :2]).median(dim=0).values
    torch.testing.assert_close(sides, torch.tensor([width, height]).float(), atol=0.5, rtol=0)


def test_mosaics_have_the_scale_of_yolox_unless_another_is_given(make) -> None:
    assert equal(make(mosaic=1.0)[0, 2], make(mosaic=1.0, mosaic_scale=[0.5, 1.5])[0, 2])
    assert not equal(make(mosaic=1.0)[0, 2], make(mosaic=1.0, mosaic_scale=[0.5, 1.0])[0, 2])


@pytest.mark.parametrize("options", [{}, *REBUILDING])
def test_an_item_has_the_size_its_key_asks_for(make, options: dict[str, Any]) -> None:
    dataset = make(**options)

    assert dataset[SizedKey((0, 2), (64, 24))].image.shape == (3, 64, 24)
    assert equal(dataset[SizedKey((0, 2), (32, 48))], dataset[0, 2])


@pytest.mark.parametrize(
    "change",
    [
        {"mosaic": 1.5},
        {"mixup": -0.1},
        {"jitter": [0.0, 1.0]},
        {"jitter": [2.0, 1.0]},
        {"mosaic_scale": [0.0, 1.0]},
        {"mosaic_scale": [1.5, 0.5]},
        {"last_epochs_plain": -1},
    ],
)
def test_settings_out_of_range_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        TrainTransform(**PLAIN | change)
