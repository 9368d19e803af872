"""Reading of a part of a large grey PNG, without the memory for the whole picture.

The masks of nuScenes' cities have up to 1.2 thousand million pixels. The picture is decompressed
row by row, and only the rows and columns asked for are kept (PNG specification, second edition,
sections 9 and 10).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_SIDE = 1 << 17  # pixels
_PIECE_BYTES = 1 << 24  # decompressed at once


class PngSize(NamedTuple):
    """Size of a picture in pixels."""

    height: int
    width: int


def png_size(content: bytes, name: str) -> PngSize:
    """Return the size of an 8-bit grey PNG without interlacing.

    Args:
        content: the whole file.
        name: the file's name for error messages.

    Raises:
        ValueError: the content is not such a PNG, or a side is longer than 131,072 pixels.
    """
    requirement = f"{name} must be an 8-bit grey PNG without interlacing"
    if len(content) < 33 or content[:8] != _SIGNATURE or content[12:16] != b"IHDR":
        raise ValueError(f"{requirement}; got another kind of file")
    width, height, *kind = struct.unpack(">IIBBBBB", content[16:29])
    if kind != [8, 0, 0, 0, 0]:
        raise ValueError(f"{requirement}; got depth {kind[0]}, colour type {kind[1]}")
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise ValueError(
            f"{name} must be at most {_MAX_SIDE} pixels wide and high; got {width} x {height}"
        )
    return PngSize(height, width)


def read_png_window(
    content: bytes, name: str, rows: range, columns: range
) -> NDArray[np.uint8]:  # (rows, columns)
    """Return a part of an 8-bit grey PNG.

    Args:
        content: the whole file.
        name: the file's name for error messages.
        rows: consecutive rows within the picture.
        columns: consecutive columns within the picture.

    Raises:
        ValueError: the content is not such a PNG, or is damaged before the last row asked for.
    """
    height, width = png_size(content, name)
    assert 0 <= rows.start <= rows.stop <= height and 0 <= columns.start <= columns.stop <= width
    window = np.empty((len(rows), len(columns)), np.uint8)
    previous = np.zeros(width, np.uint8)
    pending, first = bytearray(), 0
    try:
        for piece in _decompressed(content):
            pending += piece
            count = len(pending) // (width + 1)
            block = np.frombuffer(bytes(pending[: count * (width + 1)]), np.uint8)
            del pending[: count * (width + 1)]
            decoded = np.empty((count, width), np.uint8)
            if not _undo_filters(block.reshape(count, width + 1), previous, decoded):
                raise ValueError("an unknown filter")
            low, high = max(rows.start, first), min(rows.stop, first + count)
            if low < high:
                part = decoded[low - first : high - first, columns.start : columns.stop]
                window[low - rows.start : high - rows.start] = part
            if count:
                previous = decoded[-1].copy()
            first += count
            if first >= rows.stop:
                return window
        raise ValueError(f"{first} of {height} rows")
    except (zlib.error, struct.error, ValueError) as error:
        raise ValueError(f"{name} must be a whole PNG; got {error}: the file is damaged") from error


def _decompressed(content: bytes) -> Iterator[bytes]:
    """Yield the filtered rows in pieces of limited size."""
    engine = zlib.decompressobj()
    position = len(_SIGNATURE)
    while position + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[position : position + 8])
        data = content[position + 8 : position + 8 + length]
        if kind == b"IDAT":
            if len(data) < length:
                raise ValueError("a cut file")
            while data:
                yield engine.decompress(data, _PIECE_BYTES)
                data = engine.unconsumed_tail
        position += 12 + length


@numba.njit(nogil=True, cache=True)
def _undo_filters(
    block: NDArray[np.uint8],  # (n, 1 + width) filter and filtered bytes of each row
    previous: NDArray[np.uint8],  # (width,) the row above
    decoded: NDArray[np.uint8],  # (n, width) receives the result
) -> bool:
    """Decode rows; return False at an unknown filter."""
    for row in range(block.shape[0]):
        kind = block[row, 0]
        if kind > 4:
            return False
        left, corner = 0, 0
        for column in range(decoded.shape[1]):
            above = int(previous[column]) if row == 0 else int(decoded[row - 1, column])
            guess = 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = above
            elif kind == 3:
                guess = (left + above) // 2
            elif kind == 4:
                estimate = left + above - corner
                to_left = abs(estimate - left)
                to_above = abs(estimate - above)
                to_corner = abs(estimate - corner)
                if to_left <= to_above and to_left <= to_corner:
                    guess = left
                elif to_above <= to_corner:
                    guess = above
                else:
                    guess = corner
            left = (int(block[row, column + 1]) + guess) & 255
            corner = above
            decoded[row, column] = left
    return True
