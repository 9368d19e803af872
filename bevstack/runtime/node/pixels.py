"""Pixels of image messages as RGB; an image that is not what it states is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.image_header import is_complete, read_header
from bevstack.datasets.images import MAX_PIXELS, decode_image
from bevstack.runtime.node.inputs import FileImage, Image, PixelImage

Pixels = NDArray[np.uint8]


class _Encoding(NamedTuple):
    """Layout of an encoding of sensor_msgs/Image, and its conversion to RGB."""

    channels: int  # bytes a pixel
    conversion: int | None  # of OpenCV; None: RGB already
    rows: tuple[int, int] = (1, 1)  # rows of bytes: this share of the height
    even: bool = False  # sides must be even


# OpenCV names a Bayer pattern after the second row's second and third pixel, ROS after the first
# row's first two: bayer_rggb8 is OpenCV's BG.
ENCODINGS: Mapping[str, _Encoding] = MappingProxyType(
    {
        "rgb8": _Encoding(3, None),
        "bgr8": _Encoding(3, cv2.COLOR_BGR2RGB),
        "rgba8": _Encoding(4, cv2.COLOR_RGBA2RGB),
        "bgra8": _Encoding(4, cv2.COLOR_BGRA2RGB),
        "mono8": _Encoding(1, cv2.COLOR_GRAY2RGB),
        "8UC1": _Encoding(1, cv2.COLOR_GRAY2RGB),
        "bayer_rggb8": _Encoding(1, cv2.COLOR_BayerBG2RGB),
        "bayer_bggr8": _Encoding(1, cv2.COLOR_BayerRG2RGB),
        "bayer_gbrg8": _Encoding(1, cv2.COLOR_BayerGR2RGB),
        "bayer_grbg8": _Encoding(1, cv2.COLOR_BayerGB2RGB),
        "yuv422": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even=True),
        "uyvy": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even=True),
        "yuv422_yuy2": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even=True),
        "yuyv": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even=True),
        "nv12": _Encoding(1, cv2.COLOR_YUV2RGB_NV12, rows=(3, 2), even=True),
    }
)
_SHORTEST_SIDE, _LONGEST_NAME = 8, 40


def check_image(image: Image) -> tuple[int, int]:  # (H, W)
    """Return an image's size after all checks that need no decoding.

    Raises:
        ValueError: the image is not what it states; the message names the fault and the remedy.
    """
    return _check_file(image) if isinstance(image, FileImage) else _check_pixels(image)


def decode(image: Image, *, reduction: int = 1) -> Pixels:  # (H, W, 3)
    """Return the pixels of a checked image as RGB.

    Args:
        image: the image.
        reduction: decode a compressed image at this fraction of its size; see ``read_image``.

    Raises:
        ValueError: the image is damaged.
    """
    if isinstance(image, FileImage):
        name = Path(f"the message in {image.frame_id}")
        return decode_image(image.data, name, reduction=reduction)
    height, width = image.size
    layout = ENCODINGS[image.encoding]
    rows = height * layout.rows[0] // layout.rows[1]
    lines = image.data[: rows * image.step].reshape(rows, image.step)
    pixels = lines[:, : width * layout.channels]
    shape = (rows, width) if layout.channels == 1 else (rows, width, layout.channels)
    pixels = np.ascontiguousarray(pixels).reshape(shape)
    if layout.conversion is None:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, layout.conversion), dtype=np.uint8)


def _check_file(image: FileImage) -> tuple[int, int]:
    header = read_header(image.data)
    if header is None or header.kind not in ("JPEG", "PNG") or 0 in header.size:
        raise ValueError(
            f"compressed image must be a JPEG or PNG; got {len(image.data)} bytes of another kind "
            f"with the format {image.format[:_LONGEST_NAME]!r}: choose jpeg or png in the "
            "compressed transport of the camera"
        )
    if not is_complete(image.data):
        raise ValueError(
            f"compressed image must be whole; got one cut off after {len(image.data)} bytes: check "
            "the camera's driver and the network"
        )
    _check_size(header.size)
    return header.size


def _check_pixels(image: PixelImage) -> tuple[int, int]:
    layout = ENCODINGS.get(image.encoding)
    if layout is None:
        raise ValueError(
            f"encoding must be one of {', '.join(ENCODINGS)}; got "
            f"{image.encoding[:_LONGEST_NAME]!r}: change it in the camera's driver"
        )
    if image.is_bigendian:
        raise ValueError("image must be little endian; got is_bigendian 1: convert it")
    height, width = image.size
    _check_size(image.size)
    if layout.even and (height % 2 or width % 2):
        raise ValueError(f"sides of {image.encoding} must be even; got {width}x{height}")
    if image.step < width * layout.channels:
        raise ValueError(
            f"step must be at least {width * layout.channels} bytes for {width} pixels of "
            f"{image.encoding}; got {image.step}: correct the encoding or the step"
        )
    expected = image.step * (height * layout.rows[0] // layout.rows[1])
    if len(image.data) != expected:
        raise ValueError(
            f"data must hold step times rows, {expected} bytes; got {len(image.data)}: the message "
            "is cut off, or its height or step is wrong"
        )
    return image.size


def _check_size(size: tuple[int, int]) -> None:
    height, width = size
    if min(size) < _SHORTEST_SIDE or height * width > MAX_PIXELS:
        raise ValueError(
            f"image must have sides of at least {_SHORTEST_SIDE} pixels and at most "
            f"{MAX_PIXELS / 1e6:.0f} million pixels; got {width}x{height}"
        )
