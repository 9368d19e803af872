"""Checks of the fields of a frame: kinds, shapes and values, each named in the message.

Letters: N cameras.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.shapes import expect_shape
from bevstack.times import whole_microseconds
from bevstack.vocabulary import MANOEUVRES


def check_images(images: Sequence[NDArray[np.uint8] | None]) -> int:
    """Check the images of a frame and return N.

    Raises:
        ValueError: there is no camera, or an image is not a uint8 RGB array.
    """
    if isinstance(images, (str, bytes, dict)) or not hasattr(images, "__len__"):
        raise ValueError(
            f"images must be a list with one image or None a camera; got {_kind(images)}"
        )
    if not len(images):
        raise ValueError("images must hold at least one camera; got none")
    for index, image in enumerate(images):
        if image is None:
            continue
        shape = getattr(image, "shape", None)
        if (
            not isinstance(image, np.ndarray)
            or image.dtype != np.uint8
            or image.ndim != 3
            or image.shape[2] != 3
            or 0 in image.shape
        ):
            found = _kind(image) if shape is None else f"{image.dtype} {tuple(shape)}"
            raise ValueError(
                f"images[{index}] must be uint8 RGB of shape (H, W, 3); got {found}: "
                "give a numpy array, or None for a lost camera"
            )
    return len(images)


def float_tensor(
    name: str,
    value: object,
    shape: tuple[int, ...],
) -> Tensor:
    """Return a matrix as a float64 tensor.

    Raises:
        ValueError: the value does not hold numbers, or is of another shape.
    """
    requirement = f"{name} must be numbers of shape {shape}"
    if value is None:
        raise ValueError(f"{requirement}; got None")
    try:
        array = value if isinstance(value, Tensor) else np.asarray(value)
        is_real = (
            array.dtype.is_floating_point or array.dtype in _INTEGERS
            if isinstance(array, Tensor)
            else array.dtype.kind in "fiu"
        )
        tensor = torch.as_tensor(array) if is_real else None
    except (ValueError, TypeError, RuntimeError):  # ragged lists, foreign objects
        tensor = None
    if tensor is None:
        raise ValueError(f"{requirement}; got {_kind(value)}")
    expect_shape(name, tensor, shape)
    return tensor.to(torch.float64)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the roles of the cameras as a tuple.

    Raises:
        ValueError: the roles are one text, or one of them is no text.
    """
    if isinstance(names, (str, bytes)) or not hasattr(names, "__len__"):
        raise ValueError(f"camera_names must be a list of texts; got {names!r}: give one a camera")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"camera_names[{index}] must be a text; got {name!r}")
    return tuple(names)


def check_rejected(
    names: Sequence[str],
    labels: Sequence[str],  # N
) -> tuple[str, ...]:
    """Return the names of the rejected cameras as a tuple.

    Raises:
        ValueError: the frame has no camera of such a name.
    """
    for name in names:
        if name not in labels:
            raise ValueError(
                f"rejected_cameras must be cameras of the frame, {', '.join(labels)}; got {name!r}"
            )
    return tuple(names)


def check_camera_times(times: Sequence[int]) -> tuple[int, ...]:
    """Return the cameras' times as a tuple of integers.

    Raises:
        ValueError: the times are no list, or one is not a whole number of microseconds.
    """
    if isinstance(times, (str, bytes)) or not hasattr(times, "__len__"):
        raise ValueError(
            f"camera_timestamp_us must be a list of whole microseconds; got {times!r}: give one a "
            "camera"
        )
    return tuple(
        whole_microseconds(f"camera_timestamp_us[{index}]", time)
        for index, time in enumerate(times)
    )


def mask_tensor(
    mask: object,
    count: int,
) -> Tensor:  # (N,) bool
    """Return the camera mask as a tensor.

    Raises:
        ValueError: it does not hold one boolean a camera.
    """
    try:
        tensor = torch.as_tensor(mask)
    except (ValueError, TypeError, RuntimeError):
        tensor = None
    if tensor is not None and tensor.dtype in _INTEGERS and bool(((tensor | 1) == 1).all()):
        tensor = tensor.bool()  # 0 and 1
    if tensor is None or tensor.dtype != torch.bool:
        raise ValueError(f"camera_mask must hold a boolean for each camera; got {mask!r}")
    expect_shape("camera_mask", tensor, (count,))
    return tensor


def check_text(name: str, value: object) -> None:
    """Check that a token is a text.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text; got {value!r}")


def check_manoeuvre(value: object) -> None:
    """Check that a commanded manoeuvre is known, or empty.

    Raises:
        ValueError: it is neither.
    """
    if value != "" and value not in MANOEUVRES:
        raise ValueError(
            f"manoeuvre must be one of {', '.join(MANOEUVRES)}, or empty if it is unknown; "
            f"got {value!r}"
        )


def check_limit(name: str, value: object) -> None:
    """Check that a limit is a positive number.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{name} must be a positive number of seconds; got {value!r}")


_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _kind(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
