"""Mirroring of a whole scene: an augmentation that keeps pixels and labels consistent.

``flip_images`` mirrors images and mirrors their features back; ``flip_x`` and ``flip_y`` mirror the
BEV map. Neither changes the headings that the features encode: a car that points left in the pixels
has to be predicted as one that points right. Here cameras, poses, motion and true boxes are
mirrored together, left to right of the vehicle, so that no such contradiction arises.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from bevstack.config import AugmentationConfig
from bevstack.types import Annotations, Boxes3D, CameraAnnotations, Clip, Frame


def draw_mirror(config: AugmentationConfig, seed: int, epoch: int, index: int) -> bool:
    """Return True, with probability 1/2, if one sample is to be mirrored in one epoch.

    The draw has an independent random stream. Without ``config.mirror_scene``, return False.
    """
    if not config.mirror_scene:
        return False
    key = (zlib.crc32(b"mirror_scene"),)
    entropy = np.random.SeedSequence((seed, epoch, index), spawn_key=key)
    return bool(np.random.default_rng(entropy).uniform() < 0.5)


def mirror_clip(clip: Clip) -> Clip:
    """Mirror every frame of a clip, left to right of the vehicle."""
    frames = (None if frame is None else mirror_frame(frame) for frame in clip.frames)
    return Clip(tuple(frames), clip.offsets)


def mirror_frame(frame: Frame) -> Frame:
    """Mirror a frame: y -> -y in the ego, bev and world frames, image columns reversed.

    Cameras keep their order and take the roles of their mirror images: the mirrored image of
    CAM_FRONT_LEFT becomes that of CAM_FRONT_RIGHT. Intrinsics stay those of a real camera, with a
    positive focal length. The bev frame must be symmetric about the ego frame's x axis. The ego
    frame is; LIDAR_TOP, whose x axis points to the right, is not.

    Raises:
        ValueError: the bev frame is not symmetric about the ego frame's x axis.
    """
    widths = [image.shape[1] if image is not None else 0 for image in frame.images]
    annotations, camera_boxes = frame.annotations, frame.camera_annotations
    return replace(
        frame,
        images=[
            image if image is None else np.ascontiguousarray(image[:, ::-1])
            for image in frame.images
        ],
        intrinsics=_mirror_intrinsics(frame.intrinsics, torch.tensor(widths)),
        ego_from_cam=_LEFT_RIGHT @ frame.ego_from_cam @ _COLUMNS,
        camera_names=tuple(_mirrored_role(name) for name in frame.camera_names),
        rejected_cameras=tuple(_mirrored_role(name) for name in frame.rejected_cameras),
        rig_checked=True,  # the rig itself is checked, not its mirror image
        manoeuvre=_SWAPPED.get(frame.manoeuvre, frame.manoeuvre),
        world_from_ego=_mirror_pose(frame.world_from_ego),
        world_from_ego_at_camera=_mirror_pose(frame.world_from_ego_at_camera),
        bev_from_ego=_mirror_bev(frame.bev_from_ego),
        annotations=None if annotations is None else _mirror_annotations(annotations),
        camera_annotations=None
        if camera_boxes is None
        else tuple(
            _mirror_camera_annotations(boxes, width)
            for boxes, width in zip(camera_boxes, widths, strict=True)
        ),
    )


def mirror_boxes(boxes: Boxes3D) -> Boxes3D:
    """Mirror boxes about the x axis of their frame: y -> -y, yaw -> -yaw."""
    center, velocity = boxes.center.clone(), boxes.velocity.clone()
    center[..., 1], velocity[..., 1] = -center[..., 1], -velocity[..., 1]
    return Boxes3D(center, boxes.size, -boxes.yaw, velocity)


_SWAPPED = MappingProxyType({"LEFT": "RIGHT", "RIGHT": "LEFT", "left": "right", "right": "left"})
_LEFT_RIGHT = torch.diag(torch.tensor((1.0, -1.0, 1.0, 1.0), dtype=torch.float64))  # y -> -y
_COLUMNS = torch.diag(torch.tensor((-1.0, 1.0, 1.0, 1.0), dtype=torch.float64))  # a camera's x


def _mirror_pose(pose: Tensor | None) -> Tensor | None:  # (..., 4, 4)
    return None if pose is None else _LEFT_RIGHT @ pose @ _LEFT_RIGHT


def _mirror_bev(bev_from_ego: Tensor | None) -> Tensor | None:  # (4, 4)
    if bev_from_ego is None:
        return None
    mirrored = _LEFT_RIGHT @ bev_from_ego @ _LEFT_RIGHT
    if not torch.allclose(mirrored, bev_from_ego, rtol=0, atol=1e-9):
        raise ValueError(
            "bev_from_ego must be symmetric about the ego frame's x axis to mirror scenes; got "
            f"{bev_from_ego.tolist()}: use the bev frame 'ego'"
        )
    return bev_from_ego


def _mirror_intrinsics(
    intrinsics: Tensor,  # (N, 3, 3)
    widths: Tensor,  # (N,) pixels
) -> Tensor:  # (N, 3, 3)
    """Return the intrinsics of the mirrored image: u' = W - u for a ray with x' = -x."""
    mirrored = intrinsics.clone()
    mirrored[:, 0, 1] = -intrinsics[:, 0, 1]  # skew
    mirrored[:, 0, 2] = widths - intrinsics[:, 0, 2]
    return mirrored


def _mirrored_role(name: str) -> str:
    """Return the role of a camera's mirror image."""
    return "_".join(_SWAPPED.get(part, part) for part in name.split("_"))


def _mirror_annotations(annotations: Annotations) -> Annotations:
    return Annotations(mirror_boxes(annotations.boxes), annotations.labels, annotations.num_points)


def _mirror_camera_annotations(boxes: CameraAnnotations, width: int) -> CameraAnnotations:
    """Convert boxes to the mirrored camera's frame: negate its x axis and the object's y axis."""
    left, top, right, bottom = boxes.boxes_px.unbind(-1)
    center, quaternion = boxes.center_m.clone(), boxes.quaternion.clone()
    center[:, 0] = -center[:, 0]
    # diag(-1, 1, 1) R diag(1, -1, 1) is (w, x, y, z) -> (-z, y, x, -w) of R's quaternion
    w, x, y, z = quaternion.unbind(-1)
    return replace(
        boxes,
        boxes_px=torch.stack((width - right, top, width - left, bottom), -1),
        center_m=center,
        quaternion=torch.stack((-z, y, x, -w), -1),
    )
