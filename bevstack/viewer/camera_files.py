"""Camera pictures of a data set as the bytes of their files, with the calibration that fits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.camera_images import load_camera
from bevstack.datasets.camera_rows import camera_rows
from bevstack.datasets.image_sizes import known_image_sizes
from bevstack.datasets.images import read_size
from bevstack.file_bytes import read_bytes
from bevstack.render.layers import as_array
from bevstack.tables.calibration import lens_of_sensor
from bevstack.tables.reader import Tables
from bevstack.types import Frame
from bevstack.viewer.moment import CameraView, Floats

JPEG, PNG = "image/jpeg", "image/png"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_QUALITY = 90  # of a picture that is undistorted here
MAX_BYTES = 1 << 26  # of an encoded picture
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_UNKNOWN_SIZE = (1600, 900)  # width and height of the grey tile of a missing picture


def camera_views(
    tables: Tables,
    sample: int,
    frame: Frame,  # of the sample, in its ego frame; its pictures need not be loaded
) -> tuple[CameraView, ...]:
    """Return the cameras of a sample, in the order of the frame's.

    A picture that is missing leaves its camera without one, with the file's name. A picture of a
    lens with distortion is undistorted and encoded again; every other keeps the bytes of its file.

    Raises:
        ValueError: a file is no image, or lies outside the root.
    """
    ego_from_cam = as_array(frame.bev_from_cam())
    return tuple(
        _view(tables, row, name, as_array(intrinsics), pose)
        for row, name, intrinsics, pose in zip(
            camera_rows(tables, sample).tolist(),
            frame.camera_labels(),
            frame.intrinsics,
            ego_from_cam,
            strict=True,
        )
    )


def media_type(data: bytes) -> str:
    """Return the kind of an encoded picture, by its first bytes."""
    return PNG if data.startswith(_PNG_START) else JPEG


def _view(
    tables: Tables, row: int, name: str, intrinsics: Floats, ego_from_cam: Floats
) -> CameraView:
    filename = str(tables.keyframes.filename[row])
    path = tables.file_path(filename)
    height, width = known_image_sizes(tables, np.array([row]))[0].tolist()
    size_px = (width, height) if width and height else _UNKNOWN_SIZE
    encoded = None
    if path.is_file():
        encoded = _encoded(tables, row, path)
    return CameraView(
        name=name,
        size_px=size_px,
        intrinsics=intrinsics,
        ego_from_cam=ego_from_cam,
        encoded=encoded,
        media_type=JPEG if encoded is None else media_type(encoded),
        missing="" if encoded is not None else Path(filename).name,
    )


def _encoded(tables: Tables, row: int, path: Path) -> bytes:
    """Return the file's bytes; of a lens with distortion, the undistorted picture as JPEG."""
    if lens_of_sensor(tables, int(tables.keyframes.sensor[row])) is None:
        read_size(path)  # refuses a file that is no image
        return read_bytes(path, "image", max_bytes=MAX_BYTES)
    image, _ = load_camera(tables, row, 1, load_image=True)
    assert image is not None  # it was asked for
    return encode_jpeg(image)


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:  # (H, W, 3) RGB
    """Return a picture as JPEG."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    done, data = cv2.imencode(".jpg", image[..., ::-1], quality)
    assert done  # of an array of this kind
    return bytes(data)


def thumbnail(view: CameraView, width_px: int) -> NDArray[np.uint8] | None:  # (H, W, 3) RGB
    """Return a camera's picture at most ``width_px`` wide; None without a picture.

    JPEG files are decoded at a fraction of their size, which is several times as fast.

    Raises:
        ValueError: the bytes are no whole picture.
    """
    if view.encoded is None:
        return None
    width, height = view.size_px
    reduction = next((r for r in (8, 4, 2) if width // r >= width_px), 1)
    data = np.frombuffer(view.encoded, np.uint8)
    image = cv2.imdecode(data, _REDUCED[reduction])
    if image is None:
        raise ValueError(f"picture of {view.name} must be a whole image; got a damaged one")
    if image.shape[1] > width_px:
        size = (width_px, max(round(width_px * height / width), 1))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1], np.uint8)
