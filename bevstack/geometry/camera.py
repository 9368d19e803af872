"""A rig of pinhole cameras in the ``bev`` frame, batched over any leading axes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bevstack.geometry.se3 import check_rigid, invert_se3
from bevstack.shapes import expect_shape

MIN_DEPTH_M = 1e-5  # closer points count as behind the camera, as in the published code


@dataclass(frozen=True)
class CameraRig:
    """Cameras of one frame, or of a batch of frames that may each have a different rig.

    Pixel coordinates are continuous: the pixel in column j covers u in [j, j + 1). Resizing
    therefore multiplies coordinates, cropping subtracts from them, and mirroring is u' = W - u.
    Camera axes are x right, y down, z forward. Leading axes ``...`` are free, for example (B, T).

    Raises:
        ValueError: shapes that do not agree.
    """

    intrinsics: Tensor  # (..., N, 3, 3) float64, pixels
    bev_from_cam: Tensor  # (..., N, 4, 4) float64, metres
    image_size: Tensor  # (..., N, 2) int64 (H, W) of the image content, without padding
    camera_mask: Tensor  # (..., N) bool, False for a lost camera

    def __post_init__(self) -> None:
        sizes = expect_shape("intrinsics", self.intrinsics, ("...", "N", 3, 3))
        expect_shape("bev_from_cam", self.bev_from_cam, ("...", "N", 4, 4), sizes)
        expect_shape("image_size", self.image_size, ("...", "N", 2), sizes)
        expect_shape("camera_mask", self.camera_mask, ("...", "N"), sizes)

    @property
    def num_cameras(self) -> int:
        """Return N, lost cameras included."""
        return int(self.camera_mask.shape[-1])

    @property
    def mirrored(self) -> Tensor:  # (..., N) bool
        """Return True for images that are mirrored left to right: their focal length is < 0."""
        return self.intrinsics[..., 0, 0] < 0

    @property
    def image_from_bev(self) -> Tensor:  # (..., N, 4, 4) float64
        """Return the homogeneous projection: (x, y, z, 1) to (u * depth, v * depth, depth, 1)."""
        image_from_cam = torch.zeros_like(self.bev_from_cam)
        image_from_cam[..., :3, :3] = self.intrinsics
        image_from_cam[..., 3, 3].fill_(1.0)  # assigned numbers are copied from the host
        return image_from_cam @ invert_se3(self.bev_from_cam)

    def project(
        self,
        points_bev: Tensor,  # (..., P, 3) metres in the bev frame, the same points for all cameras
    ) -> tuple[Tensor, Tensor]:
        """Return the pixels (..., N, P, 2) and depths (..., N, P) of points in every camera.

        Depth is along the optical axis in metres. Pixel coordinates have no meaning for points at
        or behind the camera. All values are computed in float64.

        Raises:
            ValueError: the last axis of ``points_bev`` is not 3.
        """
        expect_shape("points_bev", points_bev, ("...", "P", 3))
        matrix = self.image_from_bev
        points = points_bev.to(matrix.dtype).unsqueeze(-3)
        projected = points @ matrix[..., :3, :3].transpose(-1, -2) + matrix[..., None, :3, 3]
        depth = projected[..., 2]
        return projected[..., :2] / depth.clamp(min=MIN_DEPTH_M)[..., None], depth

    def visible(
        self,
        uv: Tensor,  # (..., N, P, 2) pixels
        depth: Tensor,  # (..., N, P) metres
    ) -> Tensor:  # (..., N, P) bool
        """Return True for projected points in front of a working camera and inside its image."""
        height, width = self.image_size.to(uv.dtype).unsqueeze(-2).unbind(-1)
        u, v = uv.unbind(-1)
        inside = (u > 0) & (u < width) & (v > 0) & (v < height)
        return inside & (depth > MIN_DEPTH_M) & self.camera_mask[..., None]

    def resized(
        self,
        size: tuple[int, int] | Tensor,  # (H, W), or (..., N, 2)
    ) -> CameraRig:
        """Return the rig after every image is resized to ``size``, each axis by its own factor."""
        size = torch.as_tensor(size, device=self.image_size.device).expand_as(self.image_size)
        factor = size.to(self.intrinsics.dtype) / self.image_size.to(self.intrinsics.dtype)
        scale = torch.stack((factor[..., 1], factor[..., 0], torch.ones_like(factor[..., 0])), -1)
        return replace(self, intrinsics=scale[..., None] * self.intrinsics, image_size=size)

    def cropped(self, left: int, top: int, size: tuple[int, int]) -> CameraRig:
        """Return the rig after every image is cropped to (H, W) = ``size``.

        The crop starts at column ``left`` and row ``top``. Negative values pad instead.
        """
        shift = self.intrinsics.new_tensor((left, top, 0.0))
        intrinsics = self.intrinsics - shift[:, None] * self.intrinsics[..., 2:3, :]
        image_size = torch.as_tensor(size, device=self.image_size.device)
        return replace(
            self, intrinsics=intrinsics, image_size=image_size.expand_as(self.image_size)
        )

    def flipped(self) -> CameraRig:
        """Return the rig after every image is mirrored left to right: u' = W - u."""
        width = self.image_size[..., 1].to(self.intrinsics.dtype)
        intrinsics = self.intrinsics.clone()
        intrinsics[..., 0, :] = width[..., None] * intrinsics[..., 2, :] - intrinsics[..., 0, :]
        return replace(self, intrinsics=intrinsics)

    def moved(
        self,
        new_from_bev: Tensor,  # (..., 4, 4)
    ) -> CameraRig:
        """Return the same cameras relative to another frame: ``new_from_bev @ bev_from_cam``."""
        moved = new_from_bev.to(self.bev_from_cam.dtype).unsqueeze(-3) @ self.bev_from_cam
        return replace(self, bev_from_cam=moved)

    def to(self, device: torch.device | str) -> CameraRig:
        """Return the rig on a device."""
        return CameraRig(
            self.intrinsics.to(device),
            self.bev_from_cam.to(device),
            self.image_size.to(device),
            self.camera_mask.to(device),
        )

    def __getitem__(self, index: int | slice | tuple[int | slice | Tensor, ...]) -> CameraRig:
        """Select along the leading axes."""
        return CameraRig(
            self.intrinsics[index],
            self.bev_from_cam[index],
            self.image_size[index],
            self.camera_mask[index],
        )

    @staticmethod
    def stack(rigs: list[CameraRig], dim: int = 0) -> CameraRig:
        """Stack rigs of equal camera count along a new leading axis."""
        return CameraRig(
            torch.stack([rig.intrinsics for rig in rigs], dim),
            torch.stack([rig.bev_from_cam for rig in rigs], dim),
            torch.stack([rig.image_size for rig in rigs], dim),
            torch.stack([rig.camera_mask for rig in rigs], dim),
        )


def check_intrinsics(
    name: str,
    intrinsics: Tensor,  # (..., 3, 3) pixels
) -> None:
    """Check that every matrix is finite and [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0.

    Args:
        name: the name of the argument, for the message.
        intrinsics: the matrices.

    Raises:
        ValueError: a matrix breaks the rule; the message gives its index and value.
    """
    expect_shape(name, intrinsics, ("...", 3, 3))
    if not bool(torch.isfinite(intrinsics).all()):
        index = (~torch.isfinite(intrinsics)).nonzero()[0].tolist()
        raise ValueError(f"{name} must be finite; got a non-finite value at {index}")
    focal = intrinsics[..., (0, 1), (0, 1)]
    last_row = intrinsics[..., 2, :] - intrinsics.new_tensor((0.0, 0.0, 1.0))
    good = (focal > 0).all(-1) & (last_row.abs().amax(-1) < 1e-9) & (intrinsics[..., 1, 0] == 0)
    if not bool(good.all()):
        index = (~good).nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be an invertible pinhole matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]] "
            f"with positive focal lengths in pixels; entry {index} is "
            f"{intrinsics[tuple(index)].tolist()}: check the calibration"
        )


__all__ = ["MIN_DEPTH_M", "CameraRig", "check_intrinsics", "check_rigid"]
