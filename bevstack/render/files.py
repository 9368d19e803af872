"""Atomic writing of picture files."""

from __future__ import annotations

from pathlib import Path

import cv2

from bevstack.files import write_atomically
from bevstack.render.canvas import Image

_SUFFIXES = (".png", ".jpg", ".jpeg")


def write_picture(
    path: Path | str,
    image: Image,  # (H, W, 3) RGB
    *,
    jpeg_quality: int = 92,
) -> Path:
    """Write a PNG or JPEG; make its folder if it is missing.

    The bytes go to a temporary file in the same folder, which replaces ``path`` when complete, so
    an error leaves an older picture intact. The same pixels give the same bytes.

    Raises:
        ValueError: The name ends with none of .png, .jpg and .jpeg.
        OSError: The folder cannot be made or written, or the disk is full; names the path.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        suffixes = ", ".join(_SUFFIXES)
        raise ValueError(f"the picture's name must end with one of {suffixes}; got {path.name}")
    options = [] if path.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    encoded = cv2.imencode(path.suffix.lower(), image[..., ::-1], options)[1].tobytes()
    write_atomically(path, encoded)
    return path
