"""Writing pictures, whole or not at all."""

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
    """Writes a PNG or JPEG; makes its folder where needed.

    The file is written beside its place and moved there when complete, so that an error leaves
    an older picture whole. The same pixels give the same bytes.

    Raises:
        ValueError: a name that ends with neither .png, .jpg nor .jpeg.
        OSError: the folder cannot be made or written, or the disk is full; names the path.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"picture must end with one of {', '.join(_SUFFIXES)}; got {path.name}")
    options = [] if path.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    encoded = cv2.imencode(path.suffix.lower(), image[..., ::-1], options)[1].tobytes()
    write_atomically(path, encoded)
    return path
