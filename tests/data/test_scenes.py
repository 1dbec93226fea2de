import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from dethead.data.scenes import CATEGORIES, Scene, SceneObject, draw_scene, draw_scenes
from dethead.data.scenes.canvas import Camera, Canvas, Pen, rectangle
from dethead.data.scenes.composition import CAR, Thing
from dethead.data.scenes.scene import draw_things
from dethead.data.scenes.weather import CLEAR

SMALL = (64, 96)
CAMERA = Camera(focal=100.0, center=48.0, horizon=20.0, height=2.0)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed=11, index=index) for index in range(200)]


@pytest.fixture(scope="module")
def objects(scenes: list[Scene]) -> list[SceneObject]:
    return [item for scene in scenes for item in scene.annotations if not item.crowd]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes")
    draw_scenes(path, 10, seed=3, size=SMALL)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_a_scene_follows_from_seed_index_and_size_alone() -> None:
    first = draw_scene(seed=5, index=3, size=SMALL)
    draw_scene(seed=5, index=4, size=(70, 70))
    again = draw_scene(seed=5, index=3, size=SMALL)
    assert np.array_equal(first.image, again.image)
    assert first.annotations == again.annotations


@pytest.mark.parametrize(("seed", "index"), [(6, 31), (5, 30), (53, 1)])
def test_another_seed_or_index_is_another_scene(seed: int, index: int) -> None:
    first, other = draw_scene(5, 31, SMALL), draw_scene(seed, index, SMALL)
    assert not np.array_equal(first.image, other.image)


def test_the_same_seed_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    draw_scenes(tmp_path, 10, seed=3, size=SMALL)
    assert content(tmp_path) == content(folder)


def test_a_smaller_set_is_the_beginning_of_a_larger_one(folder: Path, tmp_path: Path) -> None:
    draw_scenes(tmp_path, 6, seed=3, size=SMALL)
    small, large = content(tmp_path), content(folder)
    for split in ("train", "val"):
        key = f"annotations/instances_{split}.json"
        few, many = json.loads(small.pop(key)), json.loads(large[key])
        for table in ("images", "annotations"):
            assert few[table] == many[table][: len(few[table])]
    assert all(large[name] == data for name, data in small.items())


@pytest.mark.parametrize(
    ("fraction", "val"), [(0.25, [2, 6, 10]), (0.5, [2, 4, 6, 8, 10]), (0.1, [2]), (0.3, [2, 6, 9])]
)
def test_the_split_is_a_function_of_the_index(fraction: float, val: list[int], tmp_path: Path) -> None:
    draw_scenes(tmp_path, 10, seed=3, size=SMALL, val_fraction=fraction)
    ids = {}
    for split in ("train", "val"):
        text = (tmp_path / "annotations" / f"instances_{split}.json").read_text(encoding="utf-8")
        ids[split] = [image["id"] for image in json.loads(text)["images"]]
    assert ids["val"] == val
    assert ids["train"] == [number for number in range(1, 11) if number not in val]


def test_pycocotools_reads_what_was_counted(tmp_path: Path) -> None:
    counts = draw_scenes(tmp_path, 10, seed=3, size=SMALL)
    files = [COCO(str(tmp_path / "annotations" / f"instances_{split}.json")) for split in ("train", "val")]
    assert [len(file.getImgIds()) for file in files] == [counts.train_images, counts.val_images]
    for file in files:
        assert {item["id"]: item["name"] for item in file.loadCats(file.getCatIds())} == CATEGORIES
    for number, name in CATEGORIES.items():
        found = sum(len(file.getAnnIds(catIds=[number], iscrowd=False)) for file in files)
        assert found == counts.objects[name]
    assert sum(len(file.getAnnIds(iscrowd=True)) for file in files) == counts.crowds
    assert sum(counts.objects.values()) > 20


def test_annotation_ids_are_unique_over_both_files(folder: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in (folder / "annotations").iterdir()]
    ids = [item["id"] for text in texts for item in json.loads(text)["annotations"]]
    assert len(set(ids)) == len(ids) > 0


def test_pictures_have_the_size_that_the_annotations_state(folder: Path) -> None:
    records = json.loads((folder / "annotations" / "instances_train.json").read_text(encoding="utf-8"))[
        "images"
    ]
    for record in records:
        with Image.open(folder / "images" / record["file_name"]) as image:
            assert (image.height, image.width) == (record["height"], record["width"]) == SMALL


def test_classes_come_6_to_3_to_1(objects: list[SceneObject]) -> None:
    numbers = Counter(CATEGORIES[item.category_id] for item in objects)
    shares = {name: count / len(objects) for name, count in numbers.items()}
    # Objects of a scene are not independent draws: three standard deviations of the mean over 200 scenes.
    assert shares == {
        "car": pytest.approx(0.6, abs=0.06),
        "pedestrian": pytest.approx(0.3, abs=0.06),
        "truck": pytest.approx(0.1, abs=0.03),
    }


def test_boxes_lie_in_the_picture_and_measure_four_pixels(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.image.shape[:2]
        for x, y, w, h in (item.box for item in scene.annotations):
            assert 0 <= x < x + w <= width
            assert 0 <= y < y + h <= height
            assert min(w, h) >= 4


def test_sizes_are_small_medium_and_large(objects: list[SceneObject]) -> None:
    areas = np.array([item.box[2] * item.box[3] for item in objects])
    small, large = (areas < 32**2).mean(), (areas > 96**2).mean()
    assert 0.15 < small < 0.4
    assert 0.1 < large < 0.35


def test_some_scenes_hold_a_crowd_and_some_nothing(scenes: list[Scene]) -> None:
    crowded = sum(any(item.crowd for item in scene.annotations) for scene in scenes)
    empty = sum(not scene.annotations for scene in scenes)
    assert 0.03 < crowded / len(scenes) < 0.2
    assert 0.02 < empty / len(scenes) < 0.1


def test_all_weathers_occur_and_nights_are_dark(scenes: list[Scene]) -> None:
    light: dict[str, list[float]] = {}
    for scene in scenes:
        light.setdefault(scene.weather, []).append(float(scene.image.mean()))
    mean = {name: np.mean(values) for name, values in light.items()}
    assert set(mean) == {"clear", "overcast", "dusk", "night", "rain", "fog", "night rain"}
    assert max(mean["night"], mean["night rain"]) < 0.6 * mean["clear"]


def card(x: tuple[float, float], z: float, category: int | None = CAR) -> Thing:
    """A flat thing that faces the camera, one metre high."""
    return Thing(z, lambda pen, camera: pen.shape(camera.upright(x, (0.0, 1.0), z), (200, 0, 0)), category)


def boxes_of(*things: Thing) -> list[tuple[float, float, float, float]]:
    return [item.box for item in draw_things(list(things), Canvas(SMALL), CAMERA, CLEAR)]


def test_a_box_is_tight_around_the_whole_object() -> None:
    # 10 pixels per metre at z = 10: columns 38 to 58, rows 30 to 40; Pillow paints the last edge pixel too.
    assert boxes_of(card((-1.0, 1.0), 10.0)) == [pytest.approx((38.0, 30.0, 20.0, 10.0), abs=0.5)]


@pytest.mark.parametrize(
    ("screen", "seen"), [((0.0, 2.0), (38.0, 30.0, 10.0, 10.0)), ((-2.0, 0.0), (48.0, 30.0, 10.0, 10.0))]
)
def test_a_box_shrinks_to_what_is_seen(
    screen: tuple[float, float], seen: tuple[float, float, float, float]
) -> None:
    # The screen stands right in front of one half of the card.
    found = boxes_of(card((-1.0, 1.0), 10.0), card(screen, 9.999, category=None))
    assert found == [pytest.approx(seen, abs=0.5)]


@pytest.mark.parametrize(("edge", "kept"), [(0.3, 1), (0.5, 0)])
def test_less_than_three_tenths_seen_is_not_annotated(edge: float, kept: int) -> None:
    # The screen reaches from -1 to ``edge``: 35 % or 25 % of the card stays in sight.
    assert len(boxes_of(card((-1.0, 1.0), 10.0), card((-1.0, edge), 9.999, category=None))) == kept


@pytest.mark.parametrize(("left", "kept"), [(3.0, 1), (4.0, 0)])
def test_what_the_border_cuts_off_counts_as_hidden(left: float, kept: int) -> None:
    # The picture ends at x = 4.8: 45 % or 20 % of the card is inside.
    assert len(boxes_of(card((left, left + 4.0), 10.0))) == kept


def test_an_object_below_four_pixels_is_not_annotated() -> None:
    assert boxes_of(card((0.0, 0.3), 10.0)) == []


def test_haze_leaves_the_part_that_the_distance_says() -> None:
    canvas = Canvas(SMALL)
    weather = CLEAR._replace(ambient=(1.0, 1.0, 1.0), haze=(100.0, 100.0, 100.0), haze_density=0.1)
    Pen(canvas, weather, distance=10.0).shape(rectangle(10, 10, 20, 20), (200.0, 100.0, 0.0))
    # exp(-1) of the difference from the haze is left: 136.8, 100, 63.2.
    assert canvas.image.getpixel((30, 30)) == (136, 100, 63)


def test_progress_counts_the_scenes(tmp_path: Path) -> None:
    seen: list[int] = []
    draw_scenes(tmp_path, 3, seed=0, size=SMALL, progress=seen.append)
    assert seen == [1, 2, 3]


def test_an_unfinished_folder_may_be_written_again(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000001.jpg").write_bytes(b"half a picture")
    draw_scenes(tmp_path, 10, seed=3, size=SMALL)
    assert content(tmp_path) == content(folder)


def test_a_folder_with_annotations_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=f"{folder.name} already holds annotations"):
        draw_scenes(folder, 2, seed=0, size=SMALL)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": 1}, "images must be at least 2, .* got 1"),
        ({"size": (63, 96)}, r"size must be at least 64 by 64 pixels, got \(63, 96\)"),
        ({"val_fraction": 0.0}, r"val_fraction must be in \(0, 0.5\], got 0.0"),
        ({"val_fraction": 0.6}, r"val_fraction must be in \(0, 0.5\], got 0.6"),
    ],
)
def test_arguments_out_of_range_are_refused(changed: dict[str, object], message: str, tmp_path: Path) -> None:
    arguments: dict[str, object] = {"images": 2, "seed": 0, "size": SMALL, **changed}
    with pytest.raises(ValueError, match=message):
        draw_scenes(tmp_path, **arguments)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("index", "size"), [(-1, SMALL), (0, (96, 32))])
def test_a_scene_out_of_range_is_refused(index: int, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"index|size"):
        draw_scene(0, index, size)
