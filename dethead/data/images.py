"""Image files -> uint8 RGB tensors."""

import io
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dethead.data.errors import DataError

try:
    from torchvision.io import decode_image
except ImportError:  # torchvision 0.29 announces that its decoders will go; Pillow takes twice the time
    decode_image = None

_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xae\x42\x60\x82"
_ORIENTATION_TAG = 0x0112
_DECODER_ERRORS = (OSError, RuntimeError, ValueError, SyntaxError, EOFError, struct.error)


def read_image(path: Path, *, exif: bool = False) -> Tensor:
    """Decode a JPEG file, or any other format that Pillow reads.

    Args:
        path: the file.
        exif: turn the image as its EXIF orientation says. Leave it off for data sets: their boxes are drawn
            on the pixels as they are stored, which is what the COCO tools show.

    Returns:
        (3, H, W) uint8 RGB; grey becomes three equal channels, transparency is dropped, 16 bits become 8.

    Raises:
        DataError: no such file, not an image, or truncated.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
        start = content[:8].tobytes()
        # PNG goes to Pillow: torchvision 0.29's decoder crashes the process on a wrong checksum.
        if decode_image is not None and start.startswith(_JPEG_START):
            image: Tensor = decode_image(torch.from_numpy(content), mode="RGB", apply_exif_orientation=exif)
            return image
        return _decode_with_pillow(content, exif)
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file") from None
    # Pillow's decoders raise what they meet: a SyntaxError for a broken PNG, an EOFError for a short one.
    except (*_DECODER_ERRORS, Image.DecompressionBombError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot be decoded as an image: {said}") from error


def image_size(path: Path) -> tuple[int, int]:
    """Read (height, width) from the header alone.

    Raises:
        DataError: no such file, or not an image.
    """
    with _open_header(path) as image:
        return image.height, image.width


def check_size(path: Path, found: tuple[int, int], expected: tuple[int, int]) -> None:
    """Refuse an image whose size differs from the annotation file's: its boxes would be in the wrong place.

    Args:
        path: the image file.
        found: (height, width) of the image.
        expected: (height, width) in the annotation file.

    Raises:
        DataError: they differ.
    """
    if found == expected:
        return
    hint = ""
    if found == expected[::-1] and _turned(path):
        hint = "; the file has an EXIF orientation that turns it: store it turned, without the tag"
    raise DataError(
        f"{path}: image is {found[1]} x {found[0]} px (width x height), the annotation file says "
        f"{expected[1]} x {expected[0]}{hint}"
    )


def check_end(path: Path) -> None:
    """Find out cheaply whether a file is whole: only one that does not end as it should is decoded.

    Raises:
        DataError: truncated, or damaged.
    """
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0, io.SEEK_END)
        file.seek(max(0, file.tell() - 8))
        end = file.read()
    whole = (start.startswith(_JPEG_START) and end.endswith(_JPEG_END)) or end == _PNG_END
    if not whole:
        read_image(path)


def _decode_with_pillow(content: np.ndarray[tuple[int], np.dtype[np.uint8]], exif: bool) -> Tensor:
    with Image.open(io.BytesIO(content.tobytes())) as image:
        turned = ImageOps.exif_transpose(image) if exif else image
        if turned.mode in ("I", "F"):
            raise ValueError(f"pixels of 32 bits (Pillow's mode {turned.mode!r}) have no agreed white")
        if turned.mode.startswith("I;16"):
            # Pillow's own conversion cuts off at 255, which is white almost everywhere.
            turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
        # np.array, for a copy that torch may write to.
        pixels = np.array(turned.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _open_header(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error


def _turned(path: Path) -> bool:
    with _open_header(path) as image:
        return image.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8)
