"""Sizes of key-frame images: of the table, or of the file where the table gives none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.images import read_size
from bevstack.tables.reader import Tables

Sizes = NDArray[np.int64]  # (n, 2) of (height, width) pixels


def image_sizes(
    tables: Tables,
    keyframes: NDArray[np.int64],  # (n,) rows
) -> Sizes:
    """Return the sizes of images; 0 or null in the table is replaced by the size in the file.

    Raises:
        FileNotFoundError: the table gives no size, and the file is missing.
        ValueError: the table gives no size, and the file is no image.
    """
    sizes = tables.keyframes.size[keyframes].astype(np.int64)
    for row in np.flatnonzero((sizes == 0).any(axis=1)):
        sizes[row] = read_size(tables.file_path(str(tables.keyframes.filename[keyframes[row]])))
    return sizes


def known_image_sizes(
    tables: Tables,
    keyframes: NDArray[np.int64],  # (n,) rows, of any sensors
) -> Sizes:
    """Return the sizes of images as ``image_sizes``, and 0 if one cannot be read."""
    sizes = tables.keyframes.size[keyframes].astype(np.int64)
    is_camera = tables.calibrated_sensors.is_camera[tables.keyframes.sensor[keyframes]]
    for row in np.flatnonzero(is_camera & (sizes == 0).any(axis=1)):
        try:
            sizes[row] = image_sizes(tables, keyframes[row : row + 1])[0]
        except (ValueError, OSError):  # reading the image raises it again
            sizes[row] = 0
    return sizes
