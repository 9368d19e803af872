"""Parts of PNG files: equal to OpenCV's reading for every filter, damage is refused."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from bevstack.tables import png_window
from bevstack.tables.png_window import png_size, read_png_window


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode(picture: np.ndarray, filters: list[int], pieces: int = 3) -> bytes:
    """Encode a grey picture by the definition of the filters, in several chunks."""
    height, width = picture.shape
    padded = np.zeros((height + 1, width + 1), int)
    padded[1:, 1:] = picture
    rows = bytearray()
    for y in range(height):
        kind = filters[y % len(filters)]
        rows.append(kind)
        for x in range(width):
            left, above, corner = padded[y + 1, x], padded[y, x + 1], padded[y, x]
            nearest = min((left, above, corner), key=lambda v: abs(left + above - corner - v))
            guess = {1: left, 2: above, 3: (left + above) // 2, 4: nearest}.get(kind, 0)
            rows.append((int(picture[y, x]) - int(guess)) % 256)
    data = zlib.compress(bytes(rows))
    step = -(-len(data) // pieces)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IDAT", data[i : i + step]) for i in range(0, len(data), step)]
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tEXt", b"a\0b")
    return start + b"".join(parts) + chunk(b"IEND", b"")


def picture(height: int = 23, width: int = 17) -> np.ndarray:
    smooth = np.add.outer(5 * np.arange(height), 7 * np.arange(width))
    return (smooth + np.random.default_rng(0).integers(0, 90, (height, width))).astype(np.uint8)


@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [4, 2, 0, 3, 1]])
def test_rows_of_every_filter_are_those_that_opencv_reads(
    filters: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encode(picture(), filters)
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(expected, picture())  # the test's own encoder is right
    assert png_size(content, "a.png") == (23, 17)
    for piece in (7, 40, 1 << 24):  # bytes decompressed at once: rows are cut anywhere
        monkeypatch.setattr(png_window, "_PIECE_BYTES", piece)
        whole = read_png_window(content, "a.png", range(23), range(17))
        np.testing.assert_array_equal(whole, expected)
        part = read_png_window(content, "a.png", range(4, 19), range(3, 9))
        np.testing.assert_array_equal(part, expected[4:19, 3:9])


def test_pictures_of_opencv_are_read() -> None:
    mask = np.kron(np.random.default_rng(1).integers(0, 2, (20, 30)), np.ones((9, 9))) * 255
    content = cv2.imencode(".png", mask.astype(np.uint8))[1].tobytes()
    np.testing.assert_array_equal(read_png_window(content, "m", range(180), range(270)), mask)


def test_a_damaged_or_cut_file_is_refused() -> None:
    content = encode(picture(), [1])
    with pytest.raises(
        ValueError, match=r"m\.png must be a whole PNG; got .*: the file is damaged"
    ):
        read_png_window(content[: len(content) // 2], "m.png", range(23), range(17))
    middle = len(content) // 2
    changed = content[:middle] + bytes(8) + content[middle + 8 :]
    with pytest.raises(ValueError, match="must be a whole PNG"):
        read_png_window(changed, "m.png", range(23), range(17))
    with pytest.raises(ValueError, match="got an unknown filter"):
        read_png_window(encode(picture(), [1, 7]), "m.png", range(23), range(17))
    size = struct.pack(">II", 1 << 20, 2)
    with pytest.raises(ValueError, match="must be at most 131072 pixels wide and high"):
        png_size(content[:16] + size + content[24:], "m.png")
    with pytest.raises(ValueError, match="got another kind of file"):
        png_size(b"GIF89a" * 9, "m.png")


def test_rows_below_the_part_are_not_read() -> None:
    content = encode(picture(), [2], pieces=8)
    cut = content[: len(content) - 60]
    part = read_png_window(cut, "m.png", range(5), range(17))
    np.testing.assert_array_equal(part, picture()[:5])
