"""The traffic view: whole images of the front cameras, at their own scale, cropped at the bottom.

The view of the boxes cuts off the sky, where the lights are, and shrinks what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config import ImageConfig
from bevstack.config.traffic import TrafficConfig

FRONT = "CAM_FRONT"
MAX_YAW_DEG = 75.0  # a camera that looks farther aside is no front camera


@dataclass(frozen=True)
class FrontCamera:
    """The image of a front camera with its calibration."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    intrinsics: Tensor  # (3, 3) float64
    ego_from_cam: Tensor  # (4, 4) float64, in the ego frame at the sample's reference time
    camera: int  # index in the frame
    name: str = ""  # role


@dataclass(frozen=True)
class Crop:
    """The part of an image that the view shows, and its scale."""

    left: int  # pixels of the image
    top: int
    right: int
    bottom: int
    size: tuple[int, int]  # (H, W) of the view

    @property
    def scale(self) -> tuple[float, float]:
        """Return pixels of the view a pixel of the image, across and down."""
        return (
            self.size[1] / (self.right - self.left),
            self.size[0] / (self.bottom - self.top),
        )

    def move_boxes(
        self,
        boxes_px: NDArray[np.float64],  # (E, 4) in the image
    ) -> NDArray[np.float64]:  # (E, 4) in the view, not clipped
        """Return boxes in pixels of the view."""
        x, y = self.scale
        shifted = boxes_px - np.array([self.left, self.top, self.left, self.top])
        return np.asarray(shifted * np.array([x, y, x, y]))

    def move_intrinsics(self, intrinsics: Tensor) -> Tensor:  # (3, 3) both
        """Return the intrinsics of the view."""
        x, y = self.scale
        moved = intrinsics.clone()
        moved[0, 2] -= self.left
        moved[1, 2] -= self.top
        moved[0] *= x
        moved[1] *= y
        return moved

    def image_from_view(self) -> Tensor:  # (4,) float32
        """Return the inverse map, as ``TrafficViews`` holds it."""
        x, y = self.scale
        return torch.tensor([1 / x, 1 / y, float(self.left), float(self.top)])

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:  # (H, W, 3)
        """Return the view of an image."""
        part = image[self.top : self.bottom, self.left : self.right]
        if part.shape[:2] == self.size:
            return np.ascontiguousarray(part)
        shrinks = self.size[0] < part.shape[0]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(
            cv2.resize(part, (self.size[1], self.size[0]), interpolation=method), np.uint8
        )


def choose_front_cameras(
    names: Sequence[str],
    ego_from_cam: Tensor,  # (N, 4, 4)
    count: int,
) -> list[int]:
    """Return up to ``count`` front cameras: CAM_FRONT, then those nearest to straight ahead.

    A camera that looks more than 75 degrees aside is none, whatever its name.
    """
    axis = ego_from_cam[:, :2, 2]
    yaw_deg = torch.rad2deg(torch.atan2(axis[:, 1], axis[:, 0]).abs()).tolist()
    ahead = [camera for camera, yaw in enumerate(yaw_deg) if yaw <= MAX_YAW_DEG]
    roles = list(names) or [""] * len(yaw_deg)
    ordered = sorted(ahead, key=lambda camera: (roles[camera] != FRONT, yaw_deg[camera]))
    return ordered[:count]


def whole_crop(
    size: tuple[int, int],  # (H, W) of the image
    config: TrafficConfig,
) -> Crop:
    """Return the crop without augmentation: the configured rows, at most ``max_width_px`` wide."""
    height, width = size
    top = round(height * config.rows[0])
    bottom = max(round(height * config.rows[1]), top + 1)
    scale = min(1.0, config.max_width_px / width)
    target = (max(1, round((bottom - top) * scale)), max(1, round(width * scale)))
    return Crop(0, top, width, bottom, target)


def normalise(
    image: NDArray[np.uint8],  # (H, W, 3) RGB
    config: ImageConfig,
) -> Tensor:  # (3, H, W) float32
    """Normalise an image as the boxes' images are, which the shared backbone expects."""
    ordered = image if config.channel_order == "rgb" else image[..., ::-1]
    values = np.asarray(ordered, np.float32)
    values = (values - np.array(config.mean, np.float32)) / np.array(config.std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def path_of_motion(
    before_from_world: Tensor,  # (4, 4) float64
    world_from_now: Tensor,  # (4, 4) float64
    elapsed_s: float,
) -> Tensor:  # (3,) float32
    """Return speed, curvature and 1 from two poses of the ego; zeros if no time has passed.

    A vehicle that has moved by less than half a metre has no known curvature: it counts as 0.
    """
    if elapsed_s <= 0:
        return torch.zeros(3)
    motion = before_from_world @ world_from_now
    distance = float(torch.linalg.vector_norm(motion[:2, 3]))
    turn = float(torch.atan2(motion[1, 0], motion[0, 0]))
    curvature = turn / distance if distance > 0.5 else 0.0
    return torch.tensor([distance / elapsed_s, curvature, 1.0])
