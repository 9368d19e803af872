"""Crop, resize and mirror of a picture together with its label maps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.types.label_maps import LabelledPicture
from bevstack.vocabulary import IGNORED_LABEL


def mirror_labelled(picture: LabelledPicture) -> LabelledPicture:
    """Mirror a picture and its labels left to right."""
    depth = picture.depth_m
    return LabelledPicture(
        image=np.ascontiguousarray(picture.image[:, ::-1]),
        semantic=np.ascontiguousarray(picture.semantic[:, ::-1]),
        depth_m=None if depth is None else np.ascontiguousarray(depth[:, ::-1]),
    )


def resize_labelled(picture: LabelledPicture, size: tuple[int, int]) -> LabelledPicture:
    """Resize a picture bilinearly to (H, W), and its labels to those of the nearest pixels.

    Values of depth stay metres along the optical axis; the camera's focal length changes.

    Raises:
        ValueError: a side is below 1.
    """
    if min(size) < 1:
        raise ValueError(f"size must be at least (1, 1); got {size}")
    flat = (size[1], size[0])
    depth = picture.depth_m
    # Exact: the other rule for the nearest pixel moves labels by up to half a pixel.
    exact = cv2.INTER_NEAREST_EXACT
    return LabelledPicture(
        image=cv2.resize(picture.image, flat, interpolation=cv2.INTER_LINEAR).astype(np.uint8),
        semantic=cv2.resize(picture.semantic, flat, interpolation=exact).astype(np.uint8),
        depth_m=None if depth is None else _float(cv2.resize(depth, flat, interpolation=exact)),
    )


def crop_labelled(
    picture: LabelledPicture,
    corner: tuple[int, int],  # (row, column) of the first pixel, within the picture
    size: tuple[int, int],  # (H, W)
) -> LabelledPicture:
    """Cut a window out of a picture and its labels.

    Where the window reaches beyond the picture, the image is 0, the label 255 and the depth nan.

    Raises:
        ValueError: the corner lies outside of the picture, or a side is below 1.
    """
    height, width = picture.semantic.shape
    inside = 0 <= corner[0] < height and 0 <= corner[1] < width
    if not inside or min(size) < 1:
        raise ValueError(
            f"window must start within the picture ({height}, {width}) and hold a pixel; "
            f"got {size} at {corner}"
        )
    rows = slice(corner[0], corner[0] + size[0])
    columns = slice(corner[1], corner[1] + size[1])
    image = np.zeros((*size, 3), np.uint8)
    semantic = np.full(size, IGNORED_LABEL, np.uint8)
    part = picture.image[rows, columns]
    image[: part.shape[0], : part.shape[1]] = part
    semantic[: part.shape[0], : part.shape[1]] = picture.semantic[rows, columns]
    depth = None
    if picture.depth_m is not None:
        depth = np.full(size, np.nan, np.float32)
        depth[: part.shape[0], : part.shape[1]] = picture.depth_m[rows, columns]
    return LabelledPicture(image=image, semantic=semantic, depth_m=depth)


def _float(values: object) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)
