"""Calibration of a camera, from its CameraInfo, with the undistortion of its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.geometry.camera import check_intrinsics
from bevstack.geometry.lenses import LENS_MODELS, Lens, Undistorter
from bevstack.runtime.node.inputs import CameraInfo

_NO_LENS = ("", "none")  # names that some drivers give to a lens without distortion
_ORTHONORMAL = 1e-3


@dataclass(frozen=True)
class Calibration:
    """A camera's ideal pinhole image: its intrinsics, and the way there from the message's image.

    ``camera_from_optical`` is the rotation from the frame of the message to that of the image: the
    identity for raw images.
    """

    info: CameraInfo  # that it follows from
    size: tuple[int, int]  # (H, W) of the images that belong to it, as they are decoded
    intrinsics: Tensor  # (3, 3) float64, pixels, of the pinhole image
    camera_from_optical: Tensor  # (3, 3) float64
    undistorter: Undistorter | None  # None: images are used as they are

    def rectify(
        self,
        image: NDArray[np.uint8],  # (H, W, 3)
    ) -> NDArray[np.uint8]:  # (H, W, 3)
        """Return the pinhole image of a message's image.

        Raises:
            ValueError: the image does not have the size of the calibration.
        """
        self.check_size((image.shape[0], image.shape[1]))
        return image if self.undistorter is None else self.undistorter.apply(image)

    def check_size(self, size: tuple[int, int]) -> None:
        """Check that an image has the size of the calibration.

        Raises:
            ValueError: it does not.
        """
        if size != self.size:
            raise ValueError(
                f"image must be {self.size[1]}x{self.size[0]} as in camera_info; got "
                f"{size[1]}x{size[0]}: calibrate at this size, or give binning and roi"
            )

    def is_of(self, info: CameraInfo) -> bool:
        """Return True if a message states the same calibration, whatever its time."""
        mine = self.info
        same_arrays = all(
            np.array_equal(getattr(mine, name), getattr(info, name))
            for name in ("d", "k", "r", "p")
        )
        return same_arrays and (
            (mine.frame_id, mine.size, mine.distortion_model, mine.binning, mine.roi)
            == (info.frame_id, info.size, info.distortion_model, info.binning, info.roi)
        )


def calibration_from_info(info: CameraInfo, *, rectified: bool, reduction: int = 1) -> Calibration:
    """Return the calibration that a message states.

    Args:
        info: the message.
        rectified: images are rectified already: P holds their intrinsics, and R turns the frame of
            the message into theirs. Else K and D describe them.
        reduction: images are decoded at this fraction of their size, which it divides.

    Raises:
        ValueError: a field is impossible; the message names it and the remedy.
    """
    _check_fields(info)
    matrix = info.p[:, :3] if rectified else info.k
    name = "P" if rectified else "K"
    if not matrix.any():
        raise ValueError(f"camera_info.{name} must be calibrated; got zeros: calibrate the camera")
    rotation = np.eye(3)
    if rectified:
        rotation = info.r if info.r.any() else rotation
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > _ORTHONORMAL:
            raise ValueError("camera_info.R must be a rotation; got another matrix")
    size, intrinsics = _cropped(info, torch.from_numpy(np.array(matrix, dtype=np.float64)))
    check_intrinsics(f"camera_info.{name}", intrinsics)
    lens = None if rectified else _lens(info)
    undistorter = None if lens is None else lens.undistorter(intrinsics, size, reduction)
    pinhole = intrinsics.clone()
    pinhole[:2] /= reduction  # a power of two: exact
    return Calibration(
        info=info,
        size=(size[0] // reduction, size[1] // reduction),
        intrinsics=pinhole if undistorter is None else undistorter.intrinsics,
        camera_from_optical=torch.from_numpy(np.array(rotation, dtype=np.float64)),
        undistorter=undistorter,
    )


def _check_fields(info: CameraInfo) -> None:
    for name in ("d", "k", "r", "p"):
        values = getattr(info, name)
        if not np.isfinite(values).all():
            raise ValueError(f"camera_info.{name.upper()} must be finite; got {values.tolist()}")
    if min(info.size) < 1 or max(info.size) > 1 << 16:
        raise ValueError(
            f"camera_info must state the size of the images; got width {info.size[1]} and height "
            f"{info.size[0]}: calibrate the camera"
        )


def _lens(info: CameraInfo) -> Lens | None:
    coefficients = tuple(info.d.tolist())
    model = info.distortion_model
    if not any(coefficients) and model != "equidistant":
        return None
    if model in _NO_LENS or model not in LENS_MODELS:
        raise ValueError(
            f"camera_info.distortion_model must be one of {', '.join(LENS_MODELS)}; got {model!r} "
            f"with {len(coefficients)} coefficients: rectify the images and set images_rectified"
        )
    return Lens(model, coefficients, "camera_info")


def _cropped(info: CameraInfo, matrix: Tensor) -> tuple[tuple[int, int], Tensor]:
    """Return the size and intrinsics of images that are a part of the sensor, or binned."""
    height, width = info.size
    x, y, roi_height, roi_width = info.roi
    if roi_height and roi_width:
        if x + roi_width > width or y + roi_height > height:
            raise ValueError(
                f"camera_info.roi must lie in the image of {width}x{height}; got {roi_width}x"
                f"{roi_height} at ({x}, {y})"
            )
        height, width = roi_height, roi_width
        matrix[0, 2] -= x
        matrix[1, 2] -= y
    across, down = (max(1, factor) for factor in info.binning)
    if width % across or height % down:
        raise ValueError(
            f"camera_info.binning must divide the image of {width}x{height}; got {across}x{down}"
        )
    matrix[0] /= across
    matrix[1] /= down
    return (height // down, width // across), matrix
