"""Frames and clips: images, calibration and pose at one moment, and at several in a row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.geometry.camera import CameraRig, check_intrinsics, check_rigid
from bevstack.geometry.se3 import invert_se3
from bevstack.times import (
    MAX_CAMERA_AGE_S,
    StaleCameraWarning,
    camera_ages_s,
    check_one_unit,
    describe_age,
    whole_microseconds,
)
from bevstack.types.detections import Annotations
from bevstack.types.frame_checks import (
    check_camera_times,
    check_images,
    check_limit,
    check_manoeuvre,
    check_names,
    check_rejected,
    check_text,
    float_tensor,
    mask_tensor,
)
from bevstack.types.moments import Moment, check_unit
from bevstack.types.perspective import CameraAnnotations

# Fields of a frame that are matrices, with the shape of one; those of the first three, one a camera
_MATRICES = MappingProxyType(
    {
        "intrinsics": (3, 3),
        "ego_from_cam": (4, 4),
        "world_from_ego_at_camera": (4, 4),
        "world_from_ego": (4, 4),
        "bev_from_ego": (4, 4),
    }
)
_PER_CAMERA = ("intrinsics", "ego_from_cam", "world_from_ego_at_camera")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The images of one rig at one moment, with their calibration and poses.

    Only ``images``, ``intrinsics`` and ``ego_from_cam`` are required. A rig has one camera or more,
    and image sizes may differ. Calibrations and poses may be any array-like; they are stored as
    float64 tensors. Images must be rectified pinhole images; the readers of data sets and rigs
    undistort them on load.

    A camera counts as lost if its own time differs from the frame's by more than
    ``max_camera_age_s``; a ``StaleCameraWarning`` names it and its age. A time of 0 is unknown.
    Without a reference time, ages count from the newest image.

    Raises:
        ValueError: shapes that do not agree, an image that is not uint8 RGB, a calibration that is
            not finite and invertible, poses at the cameras' times without ``world_from_ego``, a
            time that is not a whole number of microseconds, or times of different units.
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
    # a camera whose own time differs more from the reference time counts as lost
    max_camera_age_s: float = MAX_CAMERA_AGE_S
    rig_checked: bool = False  # True if its source has warned of an implausible rig
    # Cameras whose picture was refused: it has another encoding or size than the calibration.
    rejected_cameras: tuple[str, ...] = ()
    manoeuvre: str = ""  # that the navigation commands, of vocabulary.MANOEUVRES; "": unknown

    def __post_init__(self) -> None:
        count = check_images(self.images)
        for name, shape in _MATRICES.items():
            if getattr(self, name) is None and name not in ("intrinsics", "ego_from_cam"):
                continue
            full = (count, *shape) if name in _PER_CAMERA else shape
            object.__setattr__(self, name, float_tensor(name, getattr(self, name), full))
        check_intrinsics("intrinsics", self.intrinsics)
        for name in ("ego_from_cam", "world_from_ego", "world_from_ego_at_camera", "bev_from_ego"):
            if getattr(self, name) is not None:
                check_rigid(name, getattr(self, name))
        if self.world_from_ego_at_camera is not None and self.world_from_ego is None:
            raise ValueError("world_from_ego must be given with world_from_ego_at_camera; got none")
        self._check_names_and_times(count)
        self._check_annotations(count)
        self._set_mask(count)

    def _check_names_and_times(self, count: int) -> None:
        object.__setattr__(self, "camera_names", check_names(self.camera_names))
        time_us = whole_microseconds("timestamp_us", self.timestamp_us)
        object.__setattr__(self, "timestamp_us", time_us)
        camera_times = check_camera_times(self.camera_timestamp_us)
        object.__setattr__(self, "camera_timestamp_us", camera_times)
        for name in ("camera_names", "camera_timestamp_us"):
            if len(getattr(self, name)) not in (0, count):
                raise ValueError(
                    f"{name} must hold one entry for each of the {count} cameras, or none; "
                    f"got {len(getattr(self, name))}"
                )
        check_text("sample_token", self.sample_token)
        check_text("scene_token", self.scene_token)
        check_manoeuvre(self.manoeuvre)
        check_limit("max_camera_age_s", self.max_camera_age_s)
        if camera_times:
            check_one_unit(time_us, camera_times, self.camera_labels())

    def _check_annotations(self, count: int) -> None:
        if not isinstance(self.annotations, (Annotations, type(None))):
            raise ValueError(
                f"annotations must be Annotations or None; got {type(self.annotations).__name__}"
            )
        boxes = self.camera_annotations
        if boxes is None:
            return
        if isinstance(boxes, CameraAnnotations) or len(boxes) != count:
            raise ValueError(
                f"camera_annotations must hold one entry a camera ({count}); got {len(boxes)}"
            )

    def _set_mask(self, count: int) -> None:
        has_image = torch.tensor([image is not None for image in self.images])
        mask = has_image if self.camera_mask is None else mask_tensor(self.camera_mask, count)
        rejected = check_rejected(self.rejected_cameras, self.camera_labels())
        object.__setattr__(self, "rejected_cameras", rejected)
        mask = mask & torch.tensor([name not in rejected for name in self.camera_labels()])
        if bool((mask & ~has_image).any()):
            index = int((mask & ~has_image).nonzero()[0])
            raise ValueError(
                f"images[{index}] must be an image where camera_mask is true; got None"
            )
        stale = torch.tensor([abs(age) > self.max_camera_age_s for age in self.camera_ages_s()])
        for index in (mask & stale).nonzero().flatten().tolist():
            warnings.warn(
                f"{self.camera_labels()[index]} counts as lost: its image is "
                f"{describe_age(self.camera_ages_s()[index])} (limit {self.max_camera_age_s:g} s)",
                StaleCameraWarning,
                stacklevel=4,  # the caller of the generated constructor
            )
        object.__setattr__(self, "camera_mask", mask & ~stale)

    def camera_labels(self) -> list[str]:
        """Return a name for each camera: its role, or "camera 0" and so on without one."""
        names = self.camera_names or [""] * len(self.images)
        return [name or f"camera {index}" for index, name in enumerate(names)]

    def camera_ages_s(self) -> list[float]:  # N
        """Return the seconds from each camera's image to the frame; 0 where a time is unknown."""
        if not self.camera_timestamp_us:
            return [0.0] * self.num_cameras
        return camera_ages_s(self.timestamp_us, self.camera_timestamp_us)

    def describe_age(self, camera: str) -> str:
        """Describe the age of a camera's image, such as "5 s older than its frame"."""
        return describe_age(self.camera_ages_s()[self.camera_labels().index(camera)])

    def stale_cameras(self) -> tuple[str, ...]:
        """Return the cameras whose image is older than the limit, and which count as lost."""
        return tuple(
            name
            for name, age in zip(self.camera_labels(), self.camera_ages_s(), strict=True)
            if abs(age) > self.max_camera_age_s
        )

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
            differs from the number of offsets, frames of different scenes, or times that are not in
            microseconds.
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
        check_unit([Moment.from_frame(frame) for frame in self.frames if frame is not None])

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
