"""Reading camera images, refusing what is not wholly there."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG"
_PNG_END = b"IEND"


def read_image(
    path: Path | str,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:  # (H, W, 3)
    """Decodes an image file to RGB.

    Pixels stay as they are stored: an orientation tag is not applied, for calibrations speak of
    the stored pixels. A decoder fills what a cut-off JPEG lacks with grey and says nothing, so
    the file's end is looked for first.

    Args:
        path: a JPEG, PNG or any format that OpenCV reads.
        size: the (height, width) that the image must have.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a truncated file, one that is no image, or one of another size.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"image must exist; got no file {path}: complete the data set"
        ) from None
    if not _is_whole(data):
        raise ValueError(
            f"image must be a whole file; got {path}, cut off after {len(data)} bytes: copy or "
            "unpack it again"
        )
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags) if data else None
    if image is None:
        raise ValueError(f"image must be a JPEG or PNG; got {path}, which does not decode")
    if size is not None and image.shape[:2] != tuple(size):
        raise ValueError(
            f"image must be {size[1]}x{size[0]} (width x height) as the table says; got "
            f"{image.shape[1]}x{image.shape[0]} in {path}: restore the original file, for the "
            "calibration belongs to that size"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _is_whole(data: bytes) -> bool:
    """Whether a JPEG or PNG has its end; other formats are left to the decoder."""
    if data.startswith(_JPEG_START):
        # The end marker is last, but for what some cameras append; zeros are a preallocated rest.
        return data.rstrip(b"\0").endswith(_JPEG_END) or _jpeg_scan_ends(data)
    if data.startswith(_PNG_START):
        return _PNG_END in data[-64:]
    return len(data) > 0


def _jpeg_scan_ends(data: bytes) -> bool:
    """Walks the markers of a JPEG to the end of its image, past thumbnails in its header."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xD9:
            return True
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA:  # compressed data follow, up to the next marker that is no restart
            while True:
                position = data.find(b"\xff", position)
                if position < 0 or position + 1 >= len(data):
                    return False
                if data[position + 1] not in (0x00, *range(0xD0, 0xD8)):
                    break
                position += 2
    return data[position : position + 2] == _JPEG_END
