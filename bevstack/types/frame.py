"""Frames and clips: images, calibration and pose at one moment, and at several in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bevstack.geometry.camera import CameraRig, check_intrinsics, check_rigid
from bevstack.geometry.se3 import invert_se3
from bevstack.shapes import expect_shape
from bevstack.types.detections import Annotations
from bevstack.types.perspective import CameraAnnotations


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The images of one rig at one moment, with their calibration and poses.

    Only ``images``, ``intrinsics`` and ``ego_from_cam`` are required. A rig has one camera or more,
    and image sizes may differ. Calibrations and poses may be any array-like; they are stored as
    float64 tensors. Images must be rectified pinhole images; ``bevstack.runtime.rig`` undistorts
    them on load.

    Raises:
        ValueError: shapes that do not agree, an image that is not uint8 RGB, a calibration that is
            not finite and invertible, or poses at the cameras' times without ``world_from_ego``.
    """

    images: Sequence[NDArray[np.uint8] | None]  # N of (H, W, 3) RGB, None for a lost camera
    intrinsics: Tensor  # (N, 3, 3) pixels of the image as given
    ego_from_cam: Tensor  # (N, 4, 4) metres
    camera_names: tuple[str, ...] = ()  # N roles such as "CAM_FRONT"; "" or none: nearest yaw
    camera_mask: Tensor | None = None  # (N,) bool, False for a lost camera; default: images given
    timestamp_us: int = 0  # reference time of the frame
    camera_timestamp_us: tuple[int, ...] = ()  # N, capture times; none: the reference time
    world_from_ego: Tensor | None = None  # (4, 4) at the reference time
    world_from_ego_at_camera: Tensor | None = None  # (N, 4, 4) at each camera's own time
    bev_from_ego: Tensor | None = None  # (4, 4) frame of the BEV grid; none: the ego frame
    sample_token: str = ""
    scene_token: str = ""
    annotations: Annotations | None = None  # in the bev frame
    # N, in pixels of the images as given, at the capture time of each camera
    camera_annotations: tuple[CameraAnnotations, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.images)
        if count < 1:
            raise ValueError("images must hold at least one camera; got none")
        self._convert("intrinsics", (count, 3, 3))
        self._convert("ego_from_cam", (count, 4, 4))
        self._convert("world_from_ego", (4, 4))
        self._convert("world_from_ego_at_camera", (count, 4, 4))
        self._convert("bev_from_ego", (4, 4))
        check_intrinsics("intrinsics", self.intrinsics)
        for name in ("ego_from_cam", "world_from_ego", "world_from_ego_at_camera", "bev_from_ego"):
            if getattr(self, name) is not None:
                check_rigid(name, getattr(self, name))
        if self.world_from_ego_at_camera is not None and self.world_from_ego is None:
            raise ValueError("world_from_ego must be given with world_from_ego_at_camera; got none")
        for name in ("camera_names", "camera_timestamp_us"):
            if len(getattr(self, name)) not in (0, count):
                raise ValueError(
                    f"{name} must hold one entry for each of the {count} cameras, or none; "
                    f"got {len(getattr(self, name))}"
                )
        if self.camera_annotations is not None and len(self.camera_annotations) != count:
            raise ValueError(
                f"camera_annotations must hold one entry a camera ({count}); "
                f"got {len(self.camera_annotations)}"
            )
        self._check_images()
        self._set_mask(count)

    def _convert(self, name: str, shape: tuple[int, ...]) -> None:
        value: ArrayLike | Tensor | None = getattr(self, name)
        if value is None:
            return
        tensor = torch.as_tensor(value if isinstance(value, Tensor) else np.asarray(value))
        tensor = tensor.to(torch.float64)
        expect_shape(name, tensor, shape)
        object.__setattr__(self, name, tensor)

    def _check_images(self) -> None:
        for index, image in enumerate(self.images):
            if image is None:
                continue
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(
                    f"images[{index}] must be uint8 RGB of shape (H, W, 3); "
                    f"got {image.dtype} {image.shape}"
                )

    def _set_mask(self, count: int) -> None:
        has_image = torch.tensor([image is not None for image in self.images])
        mask = has_image if self.camera_mask is None else torch.as_tensor(self.camera_mask).bool()
        expect_shape("camera_mask", mask, (count,))
        if bool((mask & ~has_image).any()):
            index = int((mask & ~has_image).nonzero()[0])
            raise ValueError(
                f"images[{index}] must be an image where camera_mask is true; got None"
            )
        object.__setattr__(self, "camera_mask", mask)

    @property
    def num_cameras(self) -> int:
        """Return N, lost cameras included."""
        return len(self.images)

    def bev_from_cam(self) -> Tensor:  # (N, 4, 4) float64
        """Return the camera poses in the bev frame at the reference time.

        If the ego pose at each camera's capture time is known, the motion between that time and the
        reference time is compensated: bev_from_ego @ ego_from_world @ world_from_ego(t_cam) @
        ego_from_cam. The published ``lidar2img`` matrices are built the same way.
        """
        pose = self.ego_from_cam
        if self.world_from_ego_at_camera is not None and self.world_from_ego is not None:
            pose = invert_se3(self.world_from_ego) @ self.world_from_ego_at_camera @ pose
        return pose if self.bev_from_ego is None else self.bev_from_ego @ pose

    def rig(self) -> CameraRig:
        """Return the cameras in the bev frame; a lost camera has an image size of one pixel."""
        sizes = [image.shape[:2] if image is not None else (1, 1) for image in self.images]
        assert self.camera_mask is not None  # set in __post_init__
        return CameraRig(
            self.intrinsics, self.bev_from_cam(), torch.tensor(sizes), self.camera_mask
        )

    def world_from_bev(self) -> Tensor | None:  # (4, 4) float64
        """Return the world pose of the bev frame at the reference time; None without a pose."""
        if self.world_from_ego is None or self.bev_from_ego is None:
            return self.world_from_ego
        return self.world_from_ego @ invert_se3(self.bev_from_ego)


@dataclass(frozen=True)
class Clip:
    """Frames of one stream at the offsets that a model needs, oldest first.

    The last frame is the current one unless the configuration uses future frames. A frame that does
    not exist (start of a scene, a dropped message) is None; the model fills it.

    Raises:
        ValueError: no frame at offset 0, offsets that do not ascend, a number of frames that
            differs from the number of offsets, or frames of different scenes.
    """

    frames: tuple[Frame | None, ...]  # T
    offsets: tuple[int, ...]  # T key-frame offsets, ascending, 0 among them

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.offsets):
            raise ValueError(
                f"frames must hold one entry an offset ({len(self.offsets)}); "
                f"got {len(self.frames)}"
            )
        if 0 not in self.offsets or list(self.offsets) != sorted(set(self.offsets)):
            raise ValueError(f"offsets must ascend and hold 0; got {self.offsets}")
        if self.frames[self.offsets.index(0)] is None:
            raise ValueError("the frame at offset 0 must exist; got None")
        self._check_scene()

    def _check_scene(self) -> None:
        scene = self.current.scene_token
        for frame, offset in zip(self.frames, self.offsets, strict=True):
            if frame is not None and frame.scene_token and scene not in ("", frame.scene_token):
                raise ValueError(
                    f"frames must be of one scene, {scene!r}; got a frame of "
                    f"{frame.scene_token!r} at offset {offset}: give None where the scene has no "
                    "frame"
                )

    @property
    def current(self) -> Frame:
        """Return the frame at offset 0."""
        frame = self.frames[self.offsets.index(0)]
        assert frame is not None  # checked in __post_init__
        return frame
