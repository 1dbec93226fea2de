"""Data sets, configs and trainings so small that a test may run several of them."""

import json
import os
import resource
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image, ImageDraw

from dethead import config
from dethead.config import Run
from dethead.training import Inputs, train

CONFIG = Path(__file__).with_name("tiny.yaml")
CATEGORIES = {1: "car", 3: "pedestrian", 8: "truck"}
"""With gaps in the ids, as COCO has them."""
_COLOURS = {1: (220, 40, 40), 3: (40, 200, 40), 8: (50, 60, 230)}
_SIZE = (72, 96)
"""(height, width) in px: the network's 64 x 64 needs scaling and padding."""


def write_data(folder: Path, train_images: int = 8, val_images: int = 4) -> Path:
    """Draw images with a coloured rectangle or two, in COCO format, lossless; ids from 10 on."""
    generator = torch.Generator().manual_seed(5)
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    first = 10
    for split, count in (("train", train_images), ("val", val_images)):
        content = split_content(folder, range(first, first + count), generator)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        first += count
    return folder


def split_content(folder: Path, image_ids: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
    """Draw the images of a split; gives its annotation file."""
    images, annotations = [], []
    for image_id in image_ids:
        picture = Image.new("RGB", _SIZE[::-1], (120, 120, 120))
        for number in range(image_id % 2 + 1):
            category = [*CATEGORIES][(image_id + number) % 3]
            x, y, width, height = _rectangle(number, generator)
            ImageDraw.Draw(picture).rectangle((x, y, x + width - 1, y + height - 1), _COLOURS[category])
            box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
            annotations.append(
                {"id": 100 * image_id + number, "image_id": image_id, "category_id": category, **box}
            )
        name = f"{image_id}.png"
        picture.save(folder / "images" / name)
        images.append({"id": image_id, "file_name": name, "height": _SIZE[0], "width": _SIZE[1]})
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _rectangle(number: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """(x, y, width, height) in the left half of the image, or with number 1 in the right one."""
    x, y, width, height = (
        int(torch.randint(low, high, (), generator=generator))
        for low, high in ((0, 14), (0, 36), (20, 34), (20, 34))
    )
    return x + 48 * number, y, width, height


def load_run(*overrides: str) -> Run:
    """The config of the tests, changed."""
    return config.load(CONFIG, overrides)


def train_tiny(
    data: Path, out: Path, *overrides: str, resume: bool = False, **changes: Any
) -> dict[str, Any]:
    """Train in this process, without the pictures at the end; ``changes`` are those of ``Inputs``."""
    with patch("dethead.training.loop.leave_pictures"):
        return train(load_run(*overrides), Inputs.find(data, device="cpu", **changes), out, resume=resume)


def log_lines(out: Path) -> list[dict[str, Any]]:
    """The whole lines of log.jsonl; none where it is not there yet."""
    path = out / "log.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def start(
    arguments: Sequence[str], log: Path, *, file_limit: int | None = None, **environment: str
) -> BaseProcess:
    """Run the command line in a process of its own, its output in a file.

    No file may grow above ``file_limit`` bytes: a stand-in for a full disk. The process is
    forked from a server that has imported all and done nothing, which takes no time.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["dethead.cli", "dethead.training", "tiny_backbone", "tiny_runs"])
    process = context.Process(target=_command, args=([*arguments], str(log), file_limit, environment))
    process.start()
    return process


def _command(arguments: list[str], log: str, file_limit: int | None, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    file = open(log, "w", buffering=1)  # noqa: SIM115  # lives as long as the process
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file
    torch.set_num_threads(1)
    from dethead.cli import main

    main(arguments)


def tensors(path: Path) -> dict[str, Any]:
    """A checkpoint as one flat mapping, to compare it."""
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{prefix}/{key}", inner)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                add(f"{prefix}/{index}", inner)
        else:
            flat[prefix] = value

    add("", torch.load(path, weights_only=True))
    return flat


def weights(out: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """The model of a run's checkpoint."""
    model: dict[str, torch.Tensor] = torch.load(out / "checkpoints" / f"{name}.pt", weights_only=True)[
        "model"
    ]
    return model
