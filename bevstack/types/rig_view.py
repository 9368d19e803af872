"""Cameras and pose of a frame, without its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.types.frame import Frame

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RigView:
    """Cameras and pose of one rig at one moment: where an element may be seen.

    Raises:
        ValueError: a shape does not fit ``intrinsics``.
    """

    timestamp_us: int
    world_from_ego: Floats  # (4, 4) at the reference time
    intrinsics: Floats  # (N, 3, 3) pixels of the image as given
    ego_from_cam: Floats  # (N, 4, 4) at the reference time, with the motion since the image
    image_sizes: NDArray[np.int64]  # (N, 2) height, width; of a lost camera of no use
    camera_mask: NDArray[np.bool_]  # (N,) False for a lost camera
    camera_names: tuple[str, ...]  # N
    scene_token: str = ""
    sample_token: str = ""

    def __post_init__(self) -> None:
        count = len(self.intrinsics)
        shapes: dict[str, tuple[int, ...]] = {
            "world_from_ego": (4, 4),
            "intrinsics": (count, 3, 3),
            "ego_from_cam": (count, 4, 4),
            "image_sizes": (count, 2),
            "camera_mask": (count,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"RigView.{name} must have shape {shape}; got {getattr(self, name).shape}"
                )
        if len(self.camera_names) != count:
            raise ValueError(
                f"RigView.camera_names must hold {count} names; got {len(self.camera_names)}"
            )

    @classmethod
    def from_frame(cls, frame: Frame) -> RigView:
        """Return the cameras and pose of a frame.

        Raises:
            ValueError: the frame has no pose.
        """
        if frame.world_from_ego is None:
            raise ValueError(
                "world_from_ego must be given for every frame that gives cues; got none in frame "
                f"{frame.sample_token!r}"
            )
        assert frame.camera_mask is not None  # set in Frame.__post_init__
        world_from_ego = frame.world_from_ego.numpy()
        ego_from_cam = frame.ego_from_cam.numpy()
        if frame.world_from_ego_at_camera is not None:
            at_camera = frame.world_from_ego_at_camera.numpy()
            ego_from_cam = np.linalg.inv(world_from_ego) @ at_camera @ ego_from_cam
        sizes = [(1, 1) if image is None else image.shape[:2] for image in frame.images]
        names = frame.camera_names or ("",) * frame.num_cameras
        return cls(
            timestamp_us=frame.timestamp_us,
            world_from_ego=world_from_ego,
            intrinsics=frame.intrinsics.numpy(),
            ego_from_cam=ego_from_cam,
            image_sizes=np.array(sizes, np.int64),
            camera_mask=frame.camera_mask.numpy(),
            camera_names=tuple(name or f"camera {row}" for row, name in enumerate(names)),
            scene_token=frame.scene_token,
            sample_token=frame.sample_token,
        )

    def ego_from_world(self) -> Floats:  # (4, 4)
        """Return the inverse of the pose."""
        return np.asarray(np.linalg.inv(self.world_from_ego))

    def project(
        self,
        points_m: Floats,  # (E, 3) in the ego frame
    ) -> tuple[Floats, Floats]:  # (E, N, 2) pixels, (E, N) metres along the optical axis
        """Project points into every camera; pixels behind a camera are of no use."""
        cam_from_ego = np.linalg.inv(self.ego_from_cam)  # (N, 4, 4)
        in_cam = np.einsum("nij,ej->eni", cam_from_ego[:, :3, :3], points_m)
        in_cam = in_cam + cam_from_ego[:, :3, 3]
        depth = in_cam[..., 2]
        safe = np.where(depth > 1e-3, depth, 1.0)
        image = np.einsum("nij,enj->eni", self.intrinsics, in_cam)
        return image[..., :2] / safe[..., None], depth

    def front_cameras(self, half_angle_rad: float) -> NDArray[np.bool_]:  # (N,)
        """Return the cameras whose optical axis lies within an angle of straight ahead."""
        axis = self.ego_from_cam[:, :2, 2]
        return np.asarray(np.abs(np.arctan2(axis[:, 1], axis[:, 0])) <= half_angle_rad)
