"""Kinds and sizes of image files: each is read right or refused before memory is allocated."""

from __future__ import annotations

import os
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bevstack.datasets.images import MAX_PIXELS, read_image

GRADIENT = np.linspace(0.0, 1.0, 40 * 64).reshape(40, 64)


def _levels(bits: int) -> np.ndarray:  # (40, 64) from 0 to the highest value
    return np.round(GRADIENT * ((1 << bits) - 1)).astype(np.uint16)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_bits_that_a_sensor_uses_fill_the_range(
    tmp_path: Path, bits: int, channels: int
) -> None:
    path = tmp_path / "camera.png"
    picture = _levels(bits)
    cv2.imwrite(str(path), picture if channels == 1 else np.dstack([picture] * 3))
    with pytest.warns(
        UserWarning, match=rf"above {(1 << bits) - 1} in .* it is read as one of {bits}"
    ):
        image = read_image(path)
    np.testing.assert_array_equal(image, np.dstack([picture >> (bits - 8)] * 3))
    assert image.max() == 255
    with pytest.warns(UserWarning, match="16 bits"):
        half = read_image(path, (40, 64), reduction=2)
    expected = cv2.resize(image, (32, 20), interpolation=cv2.INTER_LINEAR_EXACT)
    np.testing.assert_array_equal(half, expected)


def test_a_folder_of_such_images_gives_one_warning(tmp_path: Path) -> None:
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index}.png"), _levels(12) - np.minimum(_levels(12), index))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for index in range(5):
            read_image(tmp_path / f"{index}.png")
    assert len(caught) == 1


@pytest.mark.parametrize("levels", [_levels(16), np.zeros((40, 64), np.uint16)])
def test_sixteen_used_bits_and_a_black_image_need_no_warning(
    tmp_path: Path, levels: np.ndarray
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([levels, levels[::-1], levels]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, np.dstack([levels, levels[::-1], levels]) >> 8)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *[(".png", mode) for mode in ("L", "RGB", "P", "1", "LA", "RGBA")],
        *[(".bmp", mode) for mode in ("L", "RGB", "P", "RGBA")],
        *[(".jpg", mode) for mode in ("L", "RGB", "1")],
    ],
)
def test_grey_palette_and_opaque_images_have_the_right_colours(
    tmp_path: Path, mode: str, suffix: str
) -> None:
    colours = np.zeros((16, 24, 3), np.uint8)
    colours[:8, :12], colours[8:, 12:] = (255, 0, 0), (0, 0, 255)
    picture = Image.fromarray(colours).convert(mode)
    path = tmp_path / f"a{suffix}"
    picture.save(path, **({"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}))
    expected = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(read_image(path).astype(int) - expected).max() <= (2 if suffix == ".jpg" else 0)


def test_a_bitmap_of_one_bit_a_pixel_is_refused(tmp_path: Path) -> None:
    Image.new("1", (16, 8)).save(tmp_path / "a.bmp")
    with pytest.raises(ValueError, match=r"image must .*a\.bmp"):
        read_image(tmp_path / "a.bmp")


def test_transparent_pixels_are_refused(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[3, 3, 3] = 254
    for kind in (Image.fromarray(pixels), Image.fromarray(pixels).convert("LA")):
        kind.save(tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"image must be opaque; got .*a\.png"):
            read_image(tmp_path / "a.png")
    Image.fromarray(pixels[..., :3]).quantize(4).save(tmp_path / "a.png", transparency=0)
    with pytest.raises(ValueError, match=r"image must be opaque; got .*a\.png"):
        read_image(tmp_path / "a.png")


def test_kinds_without_a_known_meaning_are_refused_by_name(tmp_path: Path) -> None:
    picture = Image.new("RGB", (16, 8), (200, 100, 0))
    picture.convert("CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"grey or RGB JPEG of 8 bits; got .*a\.jpg with 4"):
        read_image(tmp_path / "a.jpg")
    for suffix in ("gif", "tiff", "webp"):
        picture.save(tmp_path / f"a.{suffix}")
        with pytest.raises(ValueError, match=rf"must be a JPEG, PNG or BMP; got .*a\.{suffix}"):
            read_image(tmp_path / f"a.{suffix}")


def _png(width: int, height: int, pixels: bytes = b"") -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def _jpeg(width: int, height: int) -> bytes:
    """Return a whole small JPEG whose header declares another size."""
    data = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    start = data.index(b"\xff\xc0")
    return data[: start + 5] + struct.pack(">HH", height, width) + data[start + 9 :]


def _bmp(width: int, height: int) -> bytes:
    data = bytearray(cv2.imencode(".bmp", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


@pytest.mark.parametrize("size", [(60000, 60000), (16000, 16000), (MAX_PIXELS + 1, 1)])
@pytest.mark.parametrize("make", [_png, _jpeg, _bmp])
@pytest.mark.parametrize("table", [None, (900, 1600)])
def test_a_huge_declared_size_is_refused_without_memory(
    tmp_path: Path, make: object, size: tuple[int, int], table: tuple[int, int] | None
) -> None:
    assert callable(make)
    if make is _jpeg and size[0] > 65535:
        size = (65000, 65000)
    (tmp_path / "a").write_bytes(make(*size))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"image must .*got .*\ba\b"):
        read_image(tmp_path / "a", table)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_the_largest_declared_size_alone_is_no_memory_either(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png(8192, 4096, b"\0" * 100))
    with pytest.raises(ValueError, match=r"image must be undamaged; got .*a\.png"):
        read_image(tmp_path / "a.png", (4096, 8192))


@pytest.mark.parametrize("make", [_png, _jpeg, _bmp])
def test_a_size_of_zero_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    (tmp_path / "a").write_bytes(make(0, 8))
    with pytest.raises(ValueError, match=r"image must be .*got .*\ba\b"):
        read_image(tmp_path / "a")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8" + b"\xff" * 300_000 + b"\xff\xd9",
        b"\xff\xd8" + b"\xff\x01" * 300_000 + b"\xff\xd9",
        b"\xff\xd8\xff\xda\x00\x02" + b"\xff\x00" * 300_000,
        b"\x89PNG\r\n\x1a\n" + (b"\0\0\0\0abcd" + struct.pack(">I", zlib.crc32(b"abcd"))) * 200_000,
        b"BM" + b"\xff" * 60,
        b"\xff\xd8\xff\xd9",
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["fill bytes", "bare markers", "stuffed bytes", "chunks", "bmp", "no frame", "signature"],
)
def test_headers_without_an_image_are_refused_at_once(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"image must be .*a\.jpg"):
        read_image(tmp_path / "a.jpg")


def test_devices_pipes_and_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.symlink("/dev/zero", tmp_path / "zero.jpg")
    for name in ("pipe.jpg", "zero.jpg", "."):
        with pytest.raises(ValueError, match="image must be a regular file; got"):
            read_image(tmp_path / name)
    with pytest.raises(ValueError, match="image must be the path of a file"):
        read_image(f"{tmp_path}/a\0.jpg")
