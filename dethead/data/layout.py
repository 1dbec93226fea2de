"""Where the files of a data set are."""

from pathlib import Path
from typing import NamedTuple

from dethead.data.errors import DataError


class Split(NamedTuple):
    """One part of a data set: training, validation, ..."""

    annotations: Path
    """The COCO annotation file."""
    images: Path
    """The folder that ``file_name`` is relative to."""


def find_split(
    data: Path, split: str, *, annotations: Path | None = None, images: Path | None = None
) -> Split:
    """Find annotation file and image folder of a split, in one of three usual layouts.

    ========================================= ================================
    annotations                               images
    ========================================= ================================
    ``annotations/instances_{split}.json``    ``{split}/`` or ``images/``
    ``annotations/instances_val2017.json``    ``val2017/`` (any year) or ``images/``
    ``{split}/_annotations.coco.json``        ``{split}/``
    ========================================= ================================

    Args:
        data: root folder of the data set.
        split: ``train``, ``val`` or any other name; ``val2017`` is taken as it is.
        annotations: this file, wherever it is.
        images: this folder, wherever it is.

    Raises:
        DataError: nothing found (with all that was looked for), or several files that fit.
    """
    if not data.is_dir() and (annotations is None or images is None):
        raise DataError(f"{data}: no such folder")
    if annotations is None:
        annotations = _find_annotations(data, split)
    elif not annotations.is_file():
        raise DataError(f"{annotations}: no such annotation file")
    if images is None:
        images = _find_images(data, split, annotations)
    elif not images.is_dir():
        raise DataError(f"{images}: no such image folder")
    return Split(annotations, images)


def _find_annotations(data: Path, split: str) -> Path:
    exact = [data / "annotations" / f"instances_{split}.json", data / split / "_annotations.coco.json"]
    found = [path for path in exact if path.is_file()]
    if not found:
        found = sorted((data / "annotations").glob(f"instances_{split}[0-9][0-9][0-9][0-9].json"))
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{data}: several annotation files fit split {split!r}: {_listed(found)}; name one")
    looked_for = [*exact, data / "annotations" / f"instances_{split}<year>.json"]
    raise DataError(f"{data}: no annotation file of split {split!r}; looked for {_listed(looked_for)}")


def _find_images(data: Path, split: str, annotations: Path) -> Path:
    if annotations == data / split / "_annotations.coco.json":
        return data / split
    folder = annotations.stem.removeprefix("instances_")
    looked_for = [*dict.fromkeys([data / folder, data / split, data / "images" / folder, data / "images"])]
    for path in looked_for:
        if path.is_dir():
            return path
    raise DataError(f"{data}: no image folder of split {split!r}; looked for {_listed(looked_for)}")


def _listed(paths: list[Path]) -> str:
    return ", ".join(str(path) for path in paths)
