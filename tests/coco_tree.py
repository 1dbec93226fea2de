"""A data set laid out as COCO 2017: its folders, its 80 categories with gaps in the ids, its annotations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask

_NAMES = """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
    stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
    backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite,
    baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork,
    knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake,
    chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
    cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
    hair drier, toothbrush
"""
NAMES = [name.strip() for name in _NAMES.split(",")]
UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
IDS = [number for number in range(1, 91) if number not in UNUSED_IDS]
HEIGHT, WIDTH = 60, 80


def write_coco_2017(folder: Path) -> Path:
    """Write 4 training and 3 validation images: polygons, an RLE crowd, an image without objects."""
    (folder / "annotations").mkdir(parents=True)
    for split, ids in (("train", (9, 25, 30, 34)), ("val", (139, 285, 632))):
        name = f"{split}2017"
        (folder / name).mkdir()
        content = _content(folder / name, ids)
        (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return folder


def _content(images: Path, ids: tuple[int, ...]) -> dict[str, Any]:
    records, annotations = [], []
    for number, image_id in enumerate(ids):
        pixels = np.random.default_rng(image_id).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        file_name = f"{image_id:012}.jpg"
        Image.fromarray(pixels).save(images / file_name)
        records.append(
            {"id": image_id, "file_name": file_name, "height": HEIGHT, "width": WIDTH, "license": 1}
        )
        if number == len(ids) - 1:
            continue  # without objects, as a hundredth of COCO's images
        for category in (1, 3, 8, 90 - number):
            annotations.append(_polygon(image_id, category, len(annotations)))
        if number == 0:
            annotations.append(_crowd(image_id))
    categories = [{"id": i, "name": n, "supercategory": ""} for i, n in zip(IDS, NAMES, strict=True)]
    return {
        "info": {},
        "licenses": [],
        "images": records,
        "annotations": annotations,
        "categories": categories,
    }


def _polygon(image_id: int, category: int, number: int) -> dict[str, Any]:
    x, y, width, height = 5.5 + number, 4.25 + number, 30.0, 40.5
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {
        "id": 1_000_000 + number + image_id * 100,
        "image_id": image_id,
        "category_id": category,
        "segmentation": [corners],
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def _crowd(image_id: int) -> dict[str, Any]:
    """People as COCO marks a group: run lengths over the columns, not compressed."""
    covered = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    covered[10:30, 50:75] = 1
    flat = covered.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, len(flat)]).tolist()
    box = mask.toBbox(mask.encode(covered)).tolist()
    return {
        "id": 900_000_000_000 + image_id,
        "image_id": image_id,
        "category_id": 1,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
        "bbox": box,
        "area": int(covered.sum()),
        "iscrowd": 1,
    }
