"""Split the training images of a data set in two, to choose settings without looking at its val.

    python tools/split.py DATA OUT --val 150 --seed 0
    python tools/split.py DATA OUT --val 150 --seed 0 --train 200  # fewer to train on, the same to score on

``OUT`` gets ``instances_train.json``, ``instances_val.json`` and a link to the images; nothing is copied.
Images are drawn with ``random.Random(seed)`` from their ids in order: the same seed gives the same split.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

from dethead.data.layout import find_split
from dethead.files import prepare_folder, write_json


def halves(whole: dict[str, Any], val: int, seed: int, train: int | None = None) -> dict[str, dict[str, Any]]:
    """Cut COCO annotations into those of ``val`` images drawn at random and those of the others.

    Of the others all are taken, or ``train``, drawn at random, too.

    Raises:
        ValueError: nothing would be left on one side, or there are fewer others.
    """
    ids = sorted(image["id"] for image in whole["images"])
    if not 0 < val < len(ids):
        raise ValueError(f"--val must be between 1 and {len(ids) - 1} of the {len(ids)} images, got {val}")
    drawn = set(random.Random(seed).sample(ids, val))
    others = [one for one in ids if one not in drawn]
    if train is not None:
        if not 0 < train <= len(others):
            raise ValueError(f"--train must be between 1 and the {len(others)} other images, got {train}")
        others = random.Random(seed).sample(others, train)
    return {"train": _part(whole, set(others)), "val": _part(whole, drawn)}


def _part(whole: dict[str, Any], ids: set[int]) -> dict[str, Any]:
    return whole | {
        "images": [image for image in whole["images"] if image["id"] in ids],
        "annotations": [one for one in whole["annotations"] if one["image_id"] in ids],
    }


def link(images: Path, source: Path) -> None:
    """Make ``images`` lead to the folder ``source``.

    Raises:
        OSError: something else is there.
    """
    if not images.is_symlink():
        images.symlink_to(source.resolve(), target_is_directory=True)
    elif images.resolve() != source.resolve():
        raise FileExistsError(f"{images}: leads to {images.resolve()}, not to {source}; name another folder")


def main() -> None:
    """Read, split, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of a data set in one of dethead's layouts")
    parser.add_argument("out", type=Path, help="where the new data set goes")
    parser.add_argument("--val", type=int, default=150, help="images to set aside (default: %(default)s)")
    parser.add_argument("--train", type=int, help="images to train on (default: all others)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    options = parser.parse_args()
    try:
        if options.out.resolve() == options.data.resolve():
            raise ValueError(f"{options.out}: the data set itself, whose annotations would be overwritten")
        source = find_split(options.data, "train")
        whole = json.loads(source.annotations.read_text(encoding="utf-8"))
        parts = halves(whole, options.val, options.seed, options.train)
        prepare_folder(options.out / "annotations")
        link(options.out / "images", source.images)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for name, part in parts.items():
        write_json(options.out / "annotations" / f"instances_{name}.json", part)
        print(f"{name}: {len(part['images'])} images, {len(part['annotations'])} objects")


if __name__ == "__main__":
    main()
