from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from coco_files import annotation, image
from torchvision.io import write_jpeg, write_png

from dethead.data.coco import CocoSet
from dethead.data.dataset import DetectionDataset, Item, check_images, collate
from dethead.data.errors import DataError
from dethead.data.orders import InTurn, Uniform
from dethead.data.sampling import EpochBatches, make_loader
from dethead.data.seeds import seed_of
from dethead.data.transforms import TrainTransform, resize_to_fit

AUGMENT = TrainTransform(
    photometric=0.5, zoom_out=0.5, zoom_out_max=2.0, iou_crop=1.0, flip=0.5, min_box_size=1.0
)
NUM_IMAGES = 6


@pytest.fixture
def coco(write_coco: Callable[..., Path], tmp_path: Path) -> CocoSet:
    """Six 40 x 20 images with one car each, ids 10 to 15, written beside the annotations."""
    entries = [image(10 + place) for place in range(NUM_IMAGES)]
    for entry in entries:
        pixels = torch.randint(0, 256, (3, 20, 40), dtype=torch.uint8)
        write_png(pixels, str(tmp_path / entry["file_name"]))
    boxes = [
        annotation(place, image_id=10 + place, box=(place, 2, 20, 10), weight=0.5)
        for place in range(NUM_IMAGES)
    ]
    return CocoSet.read(write_coco(boxes, images=entries))


@pytest.fixture
def dataset(coco: CocoSet, tmp_path: Path) -> DetectionDataset:
    return DetectionDataset(coco, tmp_path, (32, 32), AUGMENT, seed=3)


def equal(first: Item, second: Item) -> bool:
    pairs = zip((first.image, *first.truth), (second.image, *second.truth), strict=True)
    return first[2:] == second[2:] and all(torch.equal(a, b) for a, b in pairs if a is not None)


def test_an_item_has_the_size_asked_for_and_boxes_in_its_pixels(coco: CocoSet, tmp_path: Path) -> None:
    item = DetectionDataset(coco, tmp_path, (80, 80), None, seed=0)[0, 1]

    assert item.image.shape == (3, 80, 80)
    assert item.image.dtype == torch.uint8
    assert item.truth.boxes.tolist() == [[2, 4, 42, 24]]
    assert item.image_id == 11
    assert item.image_index == 1
    assert item.resize.original_size == (20, 40)
    assert item.resize.to_original(item.truth.boxes).tolist() == [[1, 2, 21, 12]]


def test_augmentation_is_a_function_of_seed_epoch_and_index(dataset: DetectionDataset) -> None:
    first = dataset[0, 2]
    torch.rand(7)

    assert equal(dataset[0, 2], first)


def test_another_epoch_or_seed_augments_otherwise(
    dataset: DetectionDataset, coco: CocoSet, tmp_path: Path
) -> None:
    other_seed = DetectionDataset(coco, tmp_path, (32, 32), AUGMENT, seed=4)

    assert not all(equal(dataset[0, index], dataset[1, index]) for index in range(NUM_IMAGES))
    assert not all(equal(dataset[0, index], other_seed[0, index]) for index in range(NUM_IMAGES))


def test_an_image_shown_again_in_an_epoch_is_augmented_otherwise(dataset: DetectionDataset) -> None:
    times = [[dataset[key].image for key in ((0, index), (0, index, 1), (0, index, 2))] for index in (0, 1)]

    for first, second, third in times:
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)
    assert equal(dataset[0, 1, 2], dataset[0, 1, 2])


def test_the_augmentation_of_an_epoch_is_the_one_of_earlier_versions(dataset: DetectionDataset) -> None:
    # Written down before images could be repeated: a run resumed today must see what it would have seen.
    assert seed_of(3, 0, 1) == 1259553909345575993
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(3, 0, 1))
        wanted = AUGMENT(dataset._read(1))
    assert torch.equal(resize_to_fit(wanted, (32, 32))[0].image, dataset[0, 1].image)


def test_augmentation_leaves_the_global_random_numbers_alone(dataset: DetectionDataset) -> None:
    before = torch.get_rng_state()

    dataset[0, 0]

    assert torch.equal(torch.get_rng_state(), before)


def test_workers_give_the_same_batches_epoch_after_epoch(dataset: DetectionDataset) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        order = EpochBatches(Uniform(NUM_IMAGES), 2, seed=0, epoch=0, drop_last=True)
        loader = make_loader(dataset, order, workers)
        images = []
        for epoch in (0, 1):
            order.set_epoch(epoch)
            for batch in loader:
                images += [batch.images, batch.truth[0].boxes, torch.tensor(batch.image_ids)]
        return images

    alone, shared = batches(0), batches(2)

    assert len(alone) == 2 * 3 * 3
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_collate_stacks_images_and_lists_truth(dataset: DetectionDataset) -> None:
    items = [dataset[0, 0], dataset[0, 3]]

    batch = collate(items)

    assert batch.images.shape == (2, 3, 32, 32)
    assert batch.image_ids == [10, 13]
    assert batch.resizes == [item.resize for item in items]
    assert torch.equal(batch.truth[1].boxes, items[1].truth.boxes)


@pytest.fixture
def damaged(coco: CocoSet, tmp_path: Path) -> CocoSet:
    """The first file missing, the second truncated, the third of another size."""
    (tmp_path / "10.png").unlink()
    (tmp_path / "11.png").write_bytes((tmp_path / "11.png").read_bytes()[:-100])
    write_png(torch.zeros(3, 20, 30, dtype=torch.uint8), str(tmp_path / "12.png"))
    return coco


@pytest.mark.parametrize(
    ("index", "message"),
    [(0, "10.png: no such"), (1, "11.png: cannot be decoded"), (2, "12.png: image is 30 x 20 px")],
)
def test_a_damaged_file_is_an_error_that_names_it(
    damaged: CocoSet, tmp_path: Path, index: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        DetectionDataset(damaged, tmp_path, (32, 32), None, seed=0)[0, index]


def test_a_damaged_file_can_be_left_out_and_is_counted(
    damaged: CocoSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = DetectionDataset(damaged, tmp_path, (40, 40), None, seed=0, skip_unreadable=True)

    item = dataset[0, 1]

    assert "11.png" in caplog.text
    assert dataset.unreadable.nonzero().tolist() == [[1]]
    assert item.truth.targets.shape == (0, 3)
    assert item.truth.ignore_boxes.tolist() == [[0, 0, 40, 20]]


def test_files_left_out_by_workers_are_counted_in_the_main_process(damaged: CocoSet, tmp_path: Path) -> None:
    dataset = DetectionDataset(damaged, tmp_path, (32, 32), AUGMENT, seed=0, skip_unreadable=True)
    order = EpochBatches(Uniform(NUM_IMAGES), 3, seed=0, epoch=0, drop_last=True)

    list(make_loader(dataset, order, workers=1))

    assert dataset.unreadable.tolist() == [True] * 3 + [False] * 3


def test_an_error_in_a_worker_still_names_the_file(damaged: CocoSet, tmp_path: Path) -> None:
    dataset = DetectionDataset(damaged, tmp_path, (32, 32), None, seed=0)
    order = EpochBatches(InTurn(NUM_IMAGES), 3, seed=0, epoch=0, drop_last=False)

    with pytest.raises(DataError, match=r"10\.png: no such image file"):
        list(make_loader(dataset, order, workers=1))


def test_check_images_names_every_damaged_file(damaged: CocoSet, tmp_path: Path) -> None:
    problems = check_images(damaged, tmp_path)

    assert [problem.image_id for problem in problems] == [10, 11, 12]
    assert [problem.image_index for problem in problems] == [0, 1, 2]
    for problem, text in zip(problems, ["no such", "cannot be decoded", "30 x 20 px"], strict=True):
        assert text in problem.message


def test_check_images_finds_a_truncated_jpeg(coco: CocoSet, tmp_path: Path) -> None:
    path = tmp_path / "10.png"  # the name does not matter
    write_jpeg(torch.zeros(3, 20, 40, dtype=torch.uint8), str(path))
    assert check_images(coco, tmp_path) == []

    path.write_bytes(path.read_bytes()[:-50])

    assert len(check_images(coco, tmp_path)) == 1


def test_the_road_images_are_whole(shared_folder: Path) -> None:
    road = shared_folder / "data" / "road"
    coco = CocoSet.read(road / "annotations" / "instances_val.json")

    assert check_images(coco, road / "images") == []
    item = DetectionDataset(coco, road / "images", (320, 320), AUGMENT, seed=0)[0, 5]
    assert item.image.shape == (3, 320, 320)
