"""Lens distortion: known models are removed when images are loaded, unknown ones are refused."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Model name in ROS' sensor_msgs/CameraInfo and OpenCV -> permitted numbers of coefficients
LENS_MODELS = {
    "plumb_bob": (4, 5),  # k1 k2 p1 p2 [k3] (Brown 1966)
    "rational_polynomial": (8, 12, 14),  # k1 k2 p1 p2 k3 k4 k5 k6 [s1..s4] [tau_x tau_y]
    "equidistant": (4,),  # k1..k4 of a fisheye (Kannala and Brandt 2006)
}


@dataclass(frozen=True)
class Lens:
    """Distortion model with its coefficients.

    Raises:
        ValueError: the model is unknown, or the coefficients are not finite or of a wrong number.
    """

    model: str
    coefficients: tuple[float, ...]
    where: str = "lens"  # name of the lens in error messages

    def __post_init__(self) -> None:
        if self.model not in LENS_MODELS:
            raise ValueError(
                f"{self.where}: lens model must be one of {', '.join(LENS_MODELS)}; "
                f"got {self.model!r}"
            )
        counts = LENS_MODELS[self.model]
        if len(self.coefficients) not in counts:
            raise ValueError(
                f"{self.where}: {self.model} must have {' or '.join(map(str, counts))} "
                f"coefficients; got {len(self.coefficients)}"
            )
        if not np.isfinite(self.coefficients).all():
            raise ValueError(f"{self.where}: coefficients must be finite; got {self.coefficients}")

    @property
    def is_fisheye(self) -> bool:
        """Return True if the image side is proportional to the angle, not to its tangent."""
        return self.model == "equidistant"

    def undistort(
        self,
        image: NDArray[np.uint8] | None,  # (H / reduction, W / reduction, 3)
        intrinsics: Tensor,  # (3, 3) float64, pixels, of the distorted image of full size
        image_size: tuple[int, int],  # (H, W)
        reduction: int = 1,
    ) -> tuple[NDArray[np.uint8] | None, Tensor]:
        """Return the undistorted pinhole image, of the same size, and its intrinsics.

        "plumb_bob" and "rational_polynomial" keep the intrinsics. Those of a fisheye would crop
        the image or leave empty pixels, so its new focal length is the smallest that leaves none.
        Intrinsics and coefficients follow the conventions of OpenCV's calibration.

        An image may have been decoded at a fraction of its size; the result is then that of the
        full image at the same fraction, and so are the intrinsics.

        Raises:
            ValueError: the size of a fisheye's image is unknown.
        """
        new_matrix = self._new_matrix(intrinsics, image_size)
        if image is not None:
            old, new = _reduced(intrinsics.numpy(), reduction), _reduced(new_matrix, reduction)
            image = _remap(image, self._maps(old, new, (image.shape[0], image.shape[1])))
        reduced = np.array(new_matrix, dtype=np.float64)
        reduced[:2] /= reduction  # pixel coordinates are continuous here, see CameraRig
        return image, torch.from_numpy(reduced)

    def undistorter(
        self,
        intrinsics: Tensor,  # (3, 3) float64, pixels, of the distorted image
        image_size: tuple[int, int],  # (H, W)
        reduction: int = 1,
    ) -> Undistorter:
        """Return the undistortion of a camera's images of one size; it gives equal pixels.

        Its images were decoded at a fraction of their size, as for ``undistort``.

        Raises:
            ValueError: see ``undistort``.
        """
        new_matrix = self._new_matrix(intrinsics, image_size)
        old, new = _reduced(intrinsics.numpy(), reduction), _reduced(new_matrix, reduction)
        maps = self._maps(old, new, (image_size[0] // reduction, image_size[1] // reduction))
        matrix = np.array(new_matrix, dtype=np.float64)
        matrix[:2] /= reduction  # pixel coordinates are continuous here, see CameraRig
        return Undistorter(maps, torch.from_numpy(matrix))

    def _new_matrix(
        self, intrinsics: Tensor, image_size: tuple[int, int]
    ) -> NDArray[np.float64]:  # (3, 3)
        matrix: NDArray[np.float64] = intrinsics.numpy()
        if not self.is_fisheye:
            return matrix
        if min(image_size) < 1:
            raise ValueError(
                f"{self.where}: width and height must be known for the lens model "
                f"{self.model!r}; got {image_size[1]}x{image_size[0]}"
            )
        coefficients = np.asarray(self.coefficients)
        return np.asarray(
            cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
                matrix, coefficients, image_size[::-1], np.eye(3), balance=0.0
            ),
            dtype=np.float64,
        )

    def _maps(
        self,
        matrix: NDArray[np.float64],  # (3, 3)
        new_matrix: NDArray[np.float64],  # (3, 3)
        size: tuple[int, int],  # (H, W)
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # (H, W) each
        rectify = (
            cv2.fisheye.initUndistortRectifyMap if self.is_fisheye else cv2.initUndistortRectifyMap
        )
        distortion = np.asarray(self.coefficients)
        across, down = rectify(matrix, distortion, np.eye(3), new_matrix, size[::-1], cv2.CV_32FC1)
        return np.asarray(across, dtype=np.float32), np.asarray(down, dtype=np.float32)


@dataclass(frozen=True)
class Undistorter:
    """Undistortion of a camera whose images come one after the other: maps are computed once."""

    maps: tuple[NDArray[np.float32], NDArray[np.float32]]  # (H, W) each
    intrinsics: Tensor  # (3, 3) float64, of the undistorted image

    def apply(
        self,
        image: NDArray[np.uint8],  # (H, W, 3)
    ) -> NDArray[np.uint8]:  # (H, W, 3)
        """Return the undistorted pinhole image."""
        return _remap(image, self.maps)


def _remap(
    image: NDArray[np.uint8], maps: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> NDArray[np.uint8]:
    return np.asarray(cv2.remap(image, *maps, cv2.INTER_LINEAR), dtype=np.uint8)


def _reduced(
    matrix: NDArray[np.float64],  # (3, 3)
    reduction: int,
) -> NDArray[np.float64]:  # (3, 3)
    """Return OpenCV's intrinsics, whose integers are centres of pixels, at a fraction of a size."""
    reduced = np.array(matrix, dtype=np.float64)
    reduced[:2, 2] += 0.5
    reduced[:2] /= reduction
    reduced[:2, 2] -= 0.5
    return matrix if reduction == 1 else reduced
