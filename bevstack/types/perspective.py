"""Boxes of single camera images, in the image and in the camera frame.

Camera axes are x right, y down, z forward, in metres. Object axes are x forward, y left, z up.
Quaternions are wxyz and rotate object axes to camera axes. Pixel coordinates and intrinsics belong
to the image that the network receives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bevstack.shapes import expect_shape

UNKNOWN_ATTRIBUTE = -1
UNKNOWN_VISIBILITY = 0
# Signs of the eight corners along the object's (x, y, z): first the front face, from its top left
# corner clockwise as viewed from behind the object, then the back face in the same order.
CAMERA_CORNER_SIGNS = (
    (1, 1, 1),
    (1, -1, 1),
    (1, -1, -1),
    (1, 1, -1),
    (-1, 1, 1),
    (-1, -1, 1),
    (-1, -1, -1),
    (-1, 1, -1),
)


@dataclass(frozen=True)
class CameraBoxes:
    """3D boxes of any orientation, located by the pixel and the depth of their centre.

    Centre and corners are differentiable with respect to every field. Leading axes are free.

    Raises:
        ValueError: shapes that do not agree.
    """

    quaternion: Tensor  # (..., 4) wxyz cam_from_object, of unit length
    projected_center_px: Tensor  # (..., 2) (u, v) of the centre
    depth_m: Tensor  # (...,) of the centre along the optical axis
    size_m: Tensor  # (..., 3) (length, width, height)
    cam_from_image: Tensor  # (..., 3, 3) inverse intrinsics: (u, v, 1) to the ray with z = 1

    def __post_init__(self) -> None:
        expect_shape("quaternion", self.quaternion, ("...", 4))
        leading = tuple(self.quaternion.shape[:-1])
        expect_shape("projected_center_px", self.projected_center_px, (*leading, 2))
        expect_shape("depth_m", self.depth_m, leading)
        expect_shape("size_m", self.size_m, (*leading, 3))
        expect_shape("cam_from_image", self.cam_from_image, (*leading, 3, 3))

    def __len__(self) -> int:
        return int(self.quaternion.shape[0])

    def __getitem__(self, index: Tensor | slice | int | tuple[Tensor, ...]) -> CameraBoxes:
        """Select along the leading axes."""
        return CameraBoxes(
            self.quaternion[index],
            self.projected_center_px[index],
            self.depth_m[index],
            self.size_m[index],
            self.cam_from_image[index],
        )

    def rays(self) -> Tensor:  # (..., 3)
        """Return the directions to the centres, with z = 1."""
        return pixel_rays(self.projected_center_px, self.cam_from_image)

    def centers(self) -> Tensor:  # (..., 3) metres, camera frame
        """Return the centres of gravity."""
        return self.rays() * self.depth_m[..., None]

    def corners(self) -> Tensor:  # (..., 8, 3) metres, camera frame
        """Return the corners in the order of ``CAMERA_CORNER_SIGNS``."""
        signs = self.size_m.new_tensor(CAMERA_CORNER_SIGNS)
        offsets = 0.5 * self.size_m[..., None, :] * signs
        return rotate(self.quaternion[..., None, :], offsets) + self.centers()[..., None, :]


@dataclass(frozen=True)
class CameraAnnotations:
    """Ground-truth boxes of one camera image (v2 specification, section 11.2).

    Raises:
        ValueError: shapes that do not agree.
    """

    boxes_px: Tensor  # (A, 4) (left, top, right, bottom), clipped to the image
    labels: Tensor  # (A,) int64, index into the configuration's class names
    quaternion: Tensor  # (A, 4) wxyz cam_from_object
    center_m: Tensor  # (A, 3) centre of gravity in the camera frame, z > 0
    size_m: Tensor  # (A, 3) (length, width, height)
    attributes: Tensor  # (A,) int64, or UNKNOWN_ATTRIBUTE
    speed_mps: Tensor  # (A,) speed over ground, NaN if unknown
    # (A,) int64, nuScenes' level over all cameras: 1 (0-40 % visible) to 4 (80-100 %), or
    # UNKNOWN_VISIBILITY; None: all unknown, and replaced by a tensor
    visibility: Tensor | None = None

    def __post_init__(self) -> None:
        if self.visibility is None:
            unknown = torch.full_like(self.labels, UNKNOWN_VISIBILITY)
            object.__setattr__(self, "visibility", unknown)
        sizes = expect_shape("boxes_px", self.boxes_px, ("A", 4))
        expect_shape("labels", self.labels, ("A",), sizes)
        expect_shape("quaternion", self.quaternion, ("A", 4), sizes)
        expect_shape("center_m", self.center_m, ("A", 3), sizes)
        expect_shape("size_m", self.size_m, ("A", 3), sizes)
        expect_shape("attributes", self.attributes, ("A",), sizes)
        expect_shape("speed_mps", self.speed_mps, ("A",), sizes)
        expect_shape("visibility", self.levels(), ("A",), sizes)

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def __getitem__(self, index: Tensor | slice) -> CameraAnnotations:
        return CameraAnnotations(*(part[index] for part in self._parts()))

    def levels(self) -> Tensor:  # (A,) int64
        """Return the levels of visibility."""
        assert self.visibility is not None  # set by __post_init__
        return self.visibility

    def to(self, target: torch.device | str) -> CameraAnnotations:
        """Return the annotations on a device."""
        return CameraAnnotations(*(part.to(target) for part in self._parts()))

    @staticmethod
    def empty() -> CameraAnnotations:
        """Return annotations without boxes."""
        none = torch.zeros(0, dtype=torch.int64)
        three = torch.zeros(0, 3)
        return CameraAnnotations(
            torch.zeros(0, 4), none, torch.zeros(0, 4), three, three, none, torch.zeros(0)
        )

    def _parts(self) -> tuple[Tensor, ...]:
        return (
            self.boxes_px,
            self.labels,
            self.quaternion,
            self.center_m,
            self.size_m,
            self.attributes,
            self.speed_mps,
            self.levels(),
        )


def pixel_rays(
    pixels: Tensor,  # (..., 2) (u, v)
    cam_from_image: Tensor,  # (..., 3, 3)
) -> Tensor:  # (..., 3)
    """Return the directions of pixels in the camera frame, with z = 1."""
    homogeneous = torch.cat((pixels, torch.ones_like(pixels[..., :1])), -1)
    # Autocast would compute a matrix product in bfloat16, with only 8 significant bits.
    return (cam_from_image * homogeneous[..., None, :]).sum(-1)


def rotate(
    quaternion: Tensor,  # (..., 4) wxyz, of unit length
    vectors: Tensor,  # (..., 3)
) -> Tensor:  # (..., 3)
    """Rotate vectors by quaternions: v + 2 w (u x v) + 2 u x (u x v); leading axes broadcast."""
    axis = quaternion[..., 1:]
    broadcast_shapes: Callable[..., torch.Size] = torch.broadcast_shapes
    shape = broadcast_shapes(axis.shape, vectors.shape)
    dtype = torch.promote_types(axis.dtype, vectors.dtype)
    axis, vectors = axis.expand(shape).to(dtype), vectors.expand(shape).to(dtype)
    across: Tensor = 2 * torch.linalg.cross(axis, vectors)
    rotated: Tensor = vectors + quaternion[..., :1] * across + torch.linalg.cross(axis, across)
    return rotated
