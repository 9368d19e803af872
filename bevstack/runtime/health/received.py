"""Pictures as they arrive from cameras, before they are a frame: refuses those that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Received(NamedTuple):
    """Pictures of one moment, for ``Frame(images=..., rejected_cameras=...)``."""

    images: tuple[NDArray[np.uint8] | None, ...]  # N of (H, W, 3) RGB
    rejected: tuple[str, ...]  # names of the cameras whose picture was refused
    reasons: tuple[str, ...]  # one for each of them


def receive_images(
    images: Sequence[object],  # N arrays of any kind, None for a camera without a picture
    names: Sequence[str],  # N
    sizes: Sequence[tuple[int, int]],  # N of (H, W) to which the calibrations belong
) -> Received:
    """Take the pictures that are uint8 RGB of the calibrated size; refuse all else, by camera.

    ``Frame`` refuses a whole frame because of one such picture. Here its camera alone is rejected,
    and the remaining ones go on.

    Raises:
        ValueError: the numbers of images, names and sizes differ.
    """
    if not len(images) == len(names) == len(sizes):
        raise ValueError(
            "images, names and sizes must be one a camera; got "
            f"{len(images)}, {len(names)} and {len(sizes)}"
        )
    taken: list[NDArray[np.uint8] | None] = []
    faults: dict[str, str] = {}
    for image, name, size in zip(images, names, sizes, strict=True):
        fault = "" if image is None else _fault(image, size)
        taken.append(image if isinstance(image, np.ndarray) and not fault else None)
        if fault:
            faults[name] = f"{name} {fault}"
    return Received(tuple(taken), tuple(faults), tuple(faults.values()))


def _fault(image: object, size: tuple[int, int]) -> str:
    """Return the requirement that a picture misses; "" for none."""
    if not isinstance(image, np.ndarray):
        return f"must be an array; got {type(image).__name__}"
    if image.dtype != np.uint8:
        return f"must have values of 8 bits; got {image.dtype}"
    if image.ndim != 3 or image.shape[2] != 3:
        return f"must be RGB of shape (H, W, 3); got {image.shape}: another encoding"
    if image.shape[:2] != tuple(size):
        height, width = image.shape[:2]
        return f"must be {size[1]}x{size[0]} as calibrated; got {width}x{height}"
    return ""
