"""Reading of camera images, which refuses damaged, incomplete and oversized files."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.image_header import ImageHeader, find_fault, is_complete, read_header
from bevstack.file_bytes import read_bytes

MAX_PIXELS = 1 << 25  # 8192 x 4096; an image is 100 MB when it is decoded
MAX_FILE_BYTES = 1 << 28

# Decoding flags by reduction k: the JPEG decoder itself turns blocks of 8x8 pixels into 8/k x 8/k.
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_SENSOR_BITS = (10, 12, 14, 16)  # of images that are stored with 16 bits


def read_image(
    path: Path | str,
    size: tuple[int, int] | None = None,
    *,
    reduction: int = 1,
) -> NDArray[np.uint8]:  # (H / reduction, W / reduction, 3)
    """Decode an image file to RGB.

    An orientation tag is not applied, because calibrations refer to the stored pixels. The size in
    the header is checked before memory is allocated. OpenCV silently fills the missing part of a
    damaged JPEG; therefore simplejpeg decodes it, which refuses all that its decoder warns of and
    gives the same pixels. Damage of a few bytes often leaves a valid JPEG and stays unnoticed. A
    PNG has check sums.

    Args:
        path: a JPEG, PNG or BMP, grey or RGB. Alpha must be opaque. Images of 16 bits a channel are
            scaled to 8 bits by the number of bits that they use (10, 12, 14 or 16), with a warning
            if it is less than 16.
        size: the (height, width) that the image must have in the file.
        reduction: decode at 1, 1/2, 1/4 or 1/8 of the size, which takes a third of the time; see
            ``reduction_for``. The caller divides the intrinsics by it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, truncated, no regular file, not an image of these kinds, or
            larger than ``MAX_PIXELS``; its size differs from ``size``, or the reduction does not
            divide ``size``.
    """
    if reduction not in _FLAGS:
        raise ValueError(f"reduction must be one of 1, 2, 4, 8; got {reduction}")
    path = Path(path)
    return decode_image(_read(path), path, size, reduction=reduction)


def decode_image(
    data: bytes, path: Path, size: tuple[int, int] | None = None, *, reduction: int = 1
) -> NDArray[np.uint8]:  # (H / reduction, W / reduction, 3)
    """Decode the bytes of an image file to RGB, as ``read_image`` does.

    Args:
        data: the bytes.
        path: name of the image in messages.
        size: the (height, width) that the image must have.
        reduction: see ``read_image``.

    Raises:
        ValueError: see ``read_image``.
    """
    header = _checked_header(path, data, size, reduction)
    if header.kind == "JPEG" and _strict_decoder() is not None:
        return _decode_jpeg(path, data, header, reduction)
    if header.bits == 16:
        return _decode_16_bits(path, data, reduction)
    image = _decode(path, data, _FLAGS[reduction])
    # In place: the first access to new memory costs more than the conversion.
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image).astype(np.uint8, copy=False)


def read_size(path: Path | str) -> tuple[int, int]:
    """Return the (height, width) of an image file, from its header.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no regular file or has no valid header.
    """
    return _read_header(Path(path), _read(Path(path))).size


def find_jpeg_damage(data: bytes) -> str | None:
    """Return a reason why a JPEG in memory is damaged, None if it is whole or cannot be checked."""
    decoder = _strict_decoder()
    if decoder is None:
        return None
    try:
        decoder.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        return str(error)
    return None


def reduction_for(
    size: tuple[int, int],  # (H, W) of the image file
    scale: float,  # largest factor by which the image will be resized
    top: int = 0,  # rows that will be cropped off the top before resizing
) -> int:
    """Return the factor, 1, 2, 4 or 8, by which an image may be reduced while it is decoded.

    It is the largest factor that leaves at least the pixels needed for resizing, and that divides
    both sides and the cropped rows, so that intrinsics stay exact. On nuScenes images the final
    result differs from that of full decoding by 0.6 to 0.9 levels RMS (reduction 2) or 1.1 to 1.4
    (4), which is less than the difference between bilinear and bicubic resizing.
    """
    allowed = (k for k in _FLAGS if k * scale <= 1 and not any(n % k for n in (*size, top)))
    return max(allowed, default=1)


def _read(path: Path) -> bytes:
    return read_bytes(path, "image", remedy="complete the dataset", max_bytes=MAX_FILE_BYTES)


def _read_header(path: Path, data: bytes) -> ImageHeader:
    header = read_header(data)
    if header is None or 0 in header.size:
        raise ValueError(
            f"image must be a JPEG, PNG or BMP; got {path}, which has no valid header of these: "
            "convert it, or restore the original file"
        )
    return header


def _checked_header(
    path: Path, data: bytes, size: tuple[int, int] | None, reduction: int
) -> ImageHeader:
    """Return the header of a file whose bytes are whole and whose pixels may be decoded."""
    if not is_complete(data):
        raise ValueError(
            f"image must be a whole file; got {path}, cut off after {len(data)} bytes: copy or "
            "unpack it again"
        )
    header = _read_header(path, data)
    height, width = header.size
    if size is not None:
        _check_size(path, header.size, size, reduction)
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"image must have at most {MAX_PIXELS / 1e6:.0f} million pixels; got {path} with "
            f"{width}x{height}: make it smaller, and its calibration with it"
        )
    fault = find_fault(data)
    if fault is not None:
        raise _damage(path, fault)
    if header.kind == "JPEG" and (header.bits != 8 or header.channels not in (1, 3)):
        raise ValueError(
            f"image must be a grey or RGB JPEG of 8 bits; got {path} with {header.channels} "
            f"channels (4: CMYK) of {header.bits} bits: convert it"
        )
    if header.has_alpha:
        _check_opaque(path, data)
    return header


def _check_size(path: Path, stored: tuple[int, ...], size: tuple[int, int], reduction: int) -> None:
    if any(side % reduction for side in size):
        raise ValueError(
            f"reduction must divide the image's sides; got {reduction} for {size[1]}x{size[0]}"
        )
    if stored != tuple(size):
        raise ValueError(
            f"image must be {size[1]}x{size[0]} (width x height) as in the table; got "
            f"{stored[1]}x{stored[0]} in {path}: restore the original file, since the calibration "
            "belongs to that size"
        )


def _damage(path: Path, fault: str) -> ValueError:
    return ValueError(
        f"image must be undamaged; got {path} ({fault}): copy or unpack it again, or save it again "
        "by another program"
    )


@functools.cache
def _strict_decoder() -> ModuleType | None:
    """Import simplejpeg; warn once where it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        warnings.warn(
            "simplejpeg must be installed to notice damage inside JPEG files; got no such module, "
            "so OpenCV decodes them unchecked: pip install simplejpeg",
            stacklevel=2,
        )
        return None
    module: ModuleType = simplejpeg
    return module


def _decode_jpeg(
    path: Path, data: bytes, header: ImageHeader, reduction: int
) -> NDArray[np.uint8]:  # (H / reduction, W / reduction, 3)
    decoder = _strict_decoder()
    assert decoder is not None  # checked by the caller
    # The decoder takes the smallest scale that is at least 1 / reduction and gives these sides.
    height, width = (-(-side // reduction) for side in header.size)
    try:
        image: NDArray[np.uint8] = decoder.decode_jpeg(
            data, "RGB", min_height=height, min_width=width, min_factor=reduction, strict=True
        )
    except ValueError as error:
        raise _damage(path, str(error)) from None
    return image


def _decode_16_bits(path: Path, data: bytes, reduction: int) -> NDArray[np.uint8]:
    """Decode an image of 16 bits a channel to the 8 highest of the bits that it uses."""
    image = _decode(path, data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)  # (H, W, 3) uint16
    highest = int(image.max())
    bits = next(bits for bits in _SENSOR_BITS if highest < 1 << bits)
    if bits < 16 and highest:  # a black image is black with any number
        # The folder and the bits, not file and value: Python shows the same text once.
        warnings.warn(
            f"images of 16 bits should use all of them; got no value above {(1 << bits) - 1} in an "
            f"image of {path.parent}: it is read as one of {bits} bits; save images with 8 bits if "
            "brightness must not depend on each image's highest value",
            stacklevel=3,
        )
    pixels = cv2.cvtColor((image >> (bits - 8)).astype(np.uint8), cv2.COLOR_BGR2RGB)
    if reduction > 1:  # as OpenCV reduces an image of 8 bits after decoding
        sides = (pixels.shape[1] // reduction, pixels.shape[0] // reduction)
        pixels = cv2.resize(pixels, sides, interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(pixels, dtype=np.uint8)


def _check_opaque(path: Path, data: bytes) -> None:
    image = _decode(path, data, cv2.IMREAD_UNCHANGED)
    if image.ndim == 3 and image.shape[2] == 4:
        alpha = image[..., 3]
        if int(alpha.min()) < np.iinfo(alpha.dtype).max:
            raise ValueError(
                f"image must be opaque; got {path} with transparent pixels, whose colours are "
                "undefined: save it without alpha"
            )


def _decode(path: Path, data: bytes, flags: int) -> NDArray[Any]:
    try:
        image = cv2.imdecode(
            np.frombuffer(data, dtype=np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        image = None
    if image is None:
        raise _damage(path, "it does not decode")
    return image
