"""The world in a mirror: an augmentation after which everything still fits together.

Mirrored images with features mirrored back (``flip_images``) and a mirrored map of them
(``flip_x``, ``flip_y``) leave what features say of headings as it was in the world that was not
mirrored: a car that looks left in the pixels has to be told as one that looks right. Here cameras,
poses, motion and true boxes are mirrored together, left to right of the vehicle, and no such
contradiction is left.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bevstack.config import AugmentationConfig
from bevstack.types import Annotations, Boxes3D, CameraAnnotations, Clip, Frame


def draw_mirror(config: AugmentationConfig, seed: int, epoch: int, index: int) -> bool:
    """Whether one sample is mirrored in one epoch, from a stream of its own."""
    if not config.mirror_scene:
        return False
    key = (zlib.crc32(b"mirror_scene"),)
    entropy = np.random.SeedSequence((seed, epoch, index), spawn_key=key)
    return bool(np.random.default_rng(entropy).uniform() < 0.5)


def mirror_clip(clip: Clip) -> Clip:
    """The clip in a world where left and right of the vehicle have changed places."""
    return Clip(tuple(frame and mirror_frame(frame) for frame in clip.frames), clip.offsets)


def mirror_frame(frame: Frame) -> Frame:
    """The frame of the mirrored rig: y -> -y in ego, bev and world frames, columns reversed.

    Cameras keep their order and get the roles of their mirror images: what CAM_FRONT_LEFT took is
    now seen by CAM_FRONT_RIGHT. Intrinsics stay those of a real camera, with a positive focal
    length. The bev frame must be the mirror image of itself about the ego frame's x axis, as the
    ego frame is and LIDAR_TOP, which looks to the right, is not.

    Raises:
        ValueError: the bev frame is another one.
    """
    widths = [image.shape[1] if image is not None else 0 for image in frame.images]
    return replace(
        frame,
        images=[
            image if image is None else np.ascontiguousarray(image[:, ::-1])
            for image in frame.images
        ],
        intrinsics=_mirror_intrinsics(frame.intrinsics, torch.tensor(widths)),
        ego_from_cam=_LEFT_RIGHT @ frame.ego_from_cam @ _COLUMNS,
        camera_names=tuple(_other_side(name) for name in frame.camera_names),
        world_from_ego=_mirror_pose(frame.world_from_ego),
        world_from_ego_at_camera=_mirror_pose(frame.world_from_ego_at_camera),
        bev_from_ego=_mirror_bev(frame.bev_from_ego),
        annotations=frame.annotations and _mirror_annotations(frame.annotations),
        camera_annotations=frame.camera_annotations
        and tuple(
            _mirror_seen(boxes, width)
            for boxes, width in zip(frame.camera_annotations, widths, strict=True)
        ),
    )


def mirror_boxes(boxes: Boxes3D) -> Boxes3D:
    """Boxes of a frame whose x axis is the axis of symmetry, as they are in the mirrored one."""
    center, velocity = boxes.center.clone(), boxes.velocity.clone()
    center[..., 1], velocity[..., 1] = -center[..., 1], -velocity[..., 1]
    return Boxes3D(center, boxes.size, -boxes.yaw, velocity)


_LEFT_RIGHT = torch.diag(torch.tensor((1.0, -1.0, 1.0, 1.0), dtype=torch.float64))  # y -> -y
_COLUMNS = torch.diag(torch.tensor((-1.0, 1.0, 1.0, 1.0), dtype=torch.float64))  # a camera's x


def _mirror_pose(pose: Tensor | None) -> Tensor | None:  # (..., 4, 4)
    return None if pose is None else _LEFT_RIGHT @ pose @ _LEFT_RIGHT


def _mirror_bev(bev_from_ego: Tensor | None) -> Tensor | None:  # (4, 4)
    mirrored = _mirror_pose(bev_from_ego)
    if bev_from_ego is not None and not torch.allclose(mirrored, bev_from_ego, rtol=0, atol=1e-9):
        raise ValueError(
            "bev_from_ego must keep the ego frame's x axis as its axis of symmetry where scenes "
            f"are mirrored; got {bev_from_ego.tolist()}: use the bev frame 'ego'"
        )
    return bev_from_ego


def _mirror_intrinsics(
    intrinsics: Tensor,  # (N, 3, 3)
    widths: Tensor,  # (N,) pixels
) -> Tensor:  # (N, 3, 3)
    """Those of the mirrored image: u' = W - u, of a ray whose x has changed its sign too."""
    mirrored = intrinsics.clone()
    mirrored[:, 0, 1] = -intrinsics[:, 0, 1]  # skew
    mirrored[:, 0, 2] = widths - intrinsics[:, 0, 2]
    return mirrored


def _other_side(name: str) -> str:
    """The role of a camera's mirror image."""
    swapped = {"LEFT": "RIGHT", "RIGHT": "LEFT", "left": "right", "right": "left"}
    return "_".join(swapped.get(part, part) for part in name.split("_"))


def _mirror_annotations(annotations: Annotations) -> Annotations:
    return Annotations(mirror_boxes(annotations.boxes), annotations.labels, annotations.num_points)


def _mirror_seen(boxes: CameraAnnotations, width: int) -> CameraAnnotations:
    """Boxes in the mirrored camera's frame: its x and the object's y have changed their signs."""
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
