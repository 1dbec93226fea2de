"""Drawn scenes as a data set in COCO format: pictures and two annotation files."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from PIL import Image

from dethead.data.scenes.scene import CATEGORIES, LEAST_SIZE, Scene, draw_scene

JPEG_QUALITY: Final = 90
MOST_OBJECTS: Final = 1000
"""Annotation ids are this times the image id, plus the number within the image: unique over both files."""


class SceneCounts(NamedTuple):
    """What was written."""

    train_images: int
    val_images: int
    objects: dict[str, int]
    """Objects of each category by its name, crowds left out."""
    crowds: int


def draw_scenes(
    folder: Path,
    images: int,
    *,
    seed: int,
    val_fraction: float = 0.25,
    size: tuple[int, int] = (320, 480),
    progress: Callable[[int], None] | None = None,
) -> SceneCounts:
    """Draw street scenes into a folder, in COCO format.

    Writes ``images/000001.jpg`` and so on, ``annotations/instances_train.json`` and
    ``annotations/instances_val.json``. The annotations come last: a folder without them was not finished, and
    may be written again. What scene i shows, and to which split it belongs, follows from i and the other
    arguments but not from ``images``: the first scenes of a larger set are those of a smaller one.

    Args:
        folder: is made where it does not exist.
        images: how many, at least 2.
        seed: the same seed gives the same bytes, with the same versions of Python, NumPy and Pillow.
        val_fraction: part of the scenes that goes into the validation split, in (0, 0.5].
        size: (height, width) in pixels, at least 64.
        progress: called with the number of scenes drawn so far, after each.

    Raises:
        ValueError: an argument out of range, or a folder that holds annotations already.
    """
    _check(folder, images, val_fraction, size)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    train, val = _empty_file(), _empty_file()
    for index in range(images):
        scene = draw_scene(seed, index, size)
        image_id = index + 1
        name = f"{image_id:06d}.jpg"
        Image.fromarray(scene.image).save(folder / "images" / name, quality=JPEG_QUALITY)
        _append(val if _is_val(index, val_fraction) else train, scene, image_id, name)
        if progress is not None:
            progress(image_id)
    part = folder / "annotations.part"
    part.mkdir(exist_ok=True)
    for split, content in (("train", train), ("val", val)):
        (part / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    part.rename(folder / "annotations")
    return _count(train, val)


def _check(folder: Path, images: int, val_fraction: float, size: tuple[int, int]) -> None:
    if images < 2:
        raise ValueError(f"images must be at least 2, one for each split, got {images}")
    if not 0.0 < val_fraction <= 0.5:
        raise ValueError(f"val_fraction must be in (0, 0.5], got {val_fraction}")
    if min(size) < LEAST_SIZE:
        raise ValueError(f"size must be at least {LEAST_SIZE} by {LEAST_SIZE} pixels, got {size}")
    if (folder / "annotations").exists():
        raise ValueError(f"{folder} already holds annotations/; choose another folder or remove it")


def _is_val(index: int, val_fraction: float) -> bool:
    """Spread the validation scenes evenly: the second scene is the first of them."""
    return math.floor((index - 1) * val_fraction) > math.floor((index - 2) * val_fraction)


def _empty_file() -> dict[str, list[dict[str, Any]]]:
    categories = [{"id": number, "name": name, "supercategory": ""} for number, name in CATEGORIES.items()]
    return {"images": [], "annotations": [], "categories": categories}


def _append(content: dict[str, list[dict[str, Any]]], scene: Scene, image_id: int, name: str) -> None:
    height, width = scene.image.shape[:2]
    content["images"].append(
        {"id": image_id, "file_name": name, "height": height, "width": width, "weather": scene.weather}
    )
    for number, item in enumerate(scene.annotations):
        content["annotations"].append(
            {
                "id": MOST_OBJECTS * image_id + number,
                "image_id": image_id,
                "category_id": item.category_id,
                "bbox": list(item.box),
                "area": item.box[2] * item.box[3],
                "iscrowd": int(item.crowd),
            }
        )


def _count(train: dict[str, list[dict[str, Any]]], val: dict[str, list[dict[str, Any]]]) -> SceneCounts:
    annotations = train["annotations"] + val["annotations"]
    numbers = Counter(item["category_id"] for item in annotations if not item["iscrowd"])
    objects = {name: numbers[number] for number, name in CATEGORIES.items()}
    crowds = sum(item["iscrowd"] for item in annotations)
    return SceneCounts(len(train["images"]), len(val["images"]), objects, crowds)
