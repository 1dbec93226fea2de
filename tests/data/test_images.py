import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import write_png

from dethead.data import images
from dethead.data.errors import DataError
from dethead.data.images import check_end, check_size, image_size, read_image

WIDTH, HEIGHT = 37, 23


@pytest.fixture
def photo() -> Image.Image:
    """Something smooth, which JPEG keeps; its four corners differ."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [x * 6, y * 10, 255 - x * 3 - y * 4]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def pixels(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "LA"])
def test_png_of_any_mode_is_what_pillow_makes_of_it(tmp_path: Path, photo: Image.Image, mode: str) -> None:
    picture = photo.convert(mode)
    picture.save(tmp_path / "a.png")

    found = read_image(tmp_path / "a.png")

    assert found.dtype == torch.uint8
    assert torch.equal(found, pixels(picture))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_of_any_mode_is_what_pillow_makes_of_it(tmp_path: Path, photo: Image.Image, mode: str) -> None:
    photo.convert(mode).save(tmp_path / "a.jpg", quality=95)

    found = read_image(tmp_path / "a.jpg")

    # Two builds of libjpeg may round differently.
    assert (found.int() - pixels(Image.open(tmp_path / "a.jpg")).int()).abs().max() <= 2


@pytest.mark.parametrize("suffix", ["bmp", "webp", "tiff", "gif"])
def test_other_formats_are_read(tmp_path: Path, photo: Image.Image, suffix: str) -> None:
    photo.save(tmp_path / f"a.{suffix}")

    found = read_image(tmp_path / f"a.{suffix}")

    assert torch.equal(found, pixels(Image.open(tmp_path / f"a.{suffix}")))
    assert found.shape == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_keep_their_high_byte(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.full((4, 5), 0x80FF, dtype=np.uint16)).save(path)

    assert torch.equal(read_image(path), torch.full((3, 4, 5), 0x80, dtype=torch.uint8))


def test_32_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 0.5, dtype=np.float32)).save(tmp_path / "a.tiff")

    with pytest.raises(DataError, match="no agreed white"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pillow_takes_over_where_torchvision_has_no_decoder(
    tmp_path: Path, photo: Image.Image, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{suffix}"
    photo.save(path)
    expected = read_image(path)
    monkeypatch.setattr(images, "decode_image", None)

    assert (read_image(path).int() - expected.int()).abs().max() <= 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_orientation_is_applied_only_when_asked_for(tmp_path: Path, photo: Image.Image, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    photo.save(tmp_path / f"a.{suffix}", exif=exif, quality=95, lossless=True)
    stored = pixels(Image.open(tmp_path / f"a.{suffix}"))

    as_stored = read_image(tmp_path / f"a.{suffix}")
    turned = read_image(tmp_path / f"a.{suffix}", exif=True)

    assert (as_stored.int() - stored.int()).abs().max() <= 2
    assert torch.equal(turned, as_stored.rot90(-1, (1, 2)))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_a_truncated_file_is_named(tmp_path: Path, photo: Image.Image, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    photo.save(path)
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(DataError, match=f"a.{suffix}: cannot be decoded"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"a\.jpg: cannot be decoded"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jpg: no such image file"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: no such image file"):
        image_size(tmp_path / "a.jpg")


def test_a_size_is_height_and_width_and_a_wrong_one_is_named(tmp_path: Path, photo: Image.Image) -> None:
    path = tmp_path / "a.png"
    photo.save(path)

    assert image_size(path) == (HEIGHT, WIDTH)
    check_size(path, (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    with pytest.raises(DataError, match=r"a\.png: image is 37 x 23 px .* annotation file says 40 x 23$"):
        check_size(path, (HEIGHT, WIDTH), (HEIGHT, 40))


def test_a_size_turned_by_exif_is_explained(tmp_path: Path, photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "a.jpg", exif=exif)

    with pytest.raises(DataError, match="EXIF orientation"):
        check_size(tmp_path / "a.jpg", (HEIGHT, WIDTH), (WIDTH, HEIGHT))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_the_end_of_a_file_tells_whether_it_is_whole(tmp_path: Path, photo: Image.Image, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    photo.save(path)

    check_end(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be decoded"):
        check_end(path)


def test_bytes_behind_the_end_are_no_damage(tmp_path: Path, photo: Image.Image) -> None:
    buffer = io.BytesIO()
    photo.save(buffer, "jpeg")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue() + b"trailer")

    check_end(tmp_path / "a.jpg")


def test_a_png_of_torchvision_comes_back(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (3, 5, 9), dtype=torch.uint8)
    write_png(image, str(tmp_path / "a.png"))

    assert torch.equal(read_image(tmp_path / "a.png"), image)


def test_a_png_with_a_wrong_checksum_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    content = bytearray(png_bytes())
    content[content.index(b"IDAT") + 10] ^= 0xFF
    (tmp_path / "bad.png").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"bad\.png: cannot be decoded"):
        read_image(tmp_path / "bad.png")


def png_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 50).save(buffer, "png")
    return buffer.getvalue()
