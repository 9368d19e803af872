"""Images of a sample's cameras, undistorted, with the intrinsics that belong to them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.datasets.image_sizes import image_sizes, known_image_sizes
from bevstack.datasets.images import read_image
from bevstack.tables.calibration import lens_of_sensor
from bevstack.tables.reader import Tables


def load_camera(
    tables: Tables,
    row: int,
    reduction: int,
    *,
    load_image: bool,
) -> tuple[NDArray[np.uint8] | None, Tensor]:
    """Return the image of a camera, None if it is not to be loaded, and its intrinsics (3, 3).

    Images of a lens with distortion are undistorted, and the intrinsics are those of the result.

    Args:
        tables: the version's tables.
        row: the key frame.
        reduction: decode the image at this fraction of its size.
        load_image: False: return the intrinsics alone.

    Raises:
        FileNotFoundError: the image file is missing.
        ValueError: the image is truncated, or its size differs from the table.
    """
    sensor = int(tables.keyframes.sensor[row])
    sizes = image_sizes if load_image else known_image_sizes
    height, width = sizes(tables, np.array([row]))[0].tolist()
    image = None
    if load_image:
        path = tables.file_path(str(tables.keyframes.filename[row]))
        image = read_image(path, (height, width), reduction=reduction)
    intrinsics = torch.from_numpy(tables.calibrated_sensors.intrinsics[sensor].copy())
    lens = lens_of_sensor(tables, sensor)
    if lens is not None:
        return lens.undistort(image, intrinsics, (height, width), reduction)
    intrinsics[:2] /= reduction  # a power of two: exact
    return image, intrinsics
