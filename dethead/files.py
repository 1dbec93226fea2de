"""Files that are written: their folders are checked before the work, and no file is seen half written."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def prepare_file(path: Path | None) -> None:
    """Make the folder of a file that will be written, and check that it can be.

    Raises:
        OSError: naming what is in the way.
    """
    if path is None:
        return
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, name a file")
    prepare_folder(path.parent)


def prepare_folder(path: Path) -> None:
    """Make a folder, and check that files can be written there.

    Raises:
        OSError: naming what is in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path}: this folder cannot be made ({error.strerror})") from error
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path}: nothing can be written to this folder")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file in one step; ``nan`` is refused, undefined values must be None."""
    write_atomically(path, json.dumps(values, indent=2, allow_nan=False))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is never seen half written.

    Raises:
        OSError: naming the file.
    """
    part = path.with_name(path.name + ".part")
    with naming(path):
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def sha256_of(path: Path) -> str:
    """Give the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A full disk's error does not say which file it met: say it."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror or error})") from error
