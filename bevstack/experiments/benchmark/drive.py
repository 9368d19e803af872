"""Frames of noise from a nuScenes-like rig that drives straight ahead.

Letters: B batch, T frames, N cameras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from bevstack.config import Config
from bevstack.geometry import CameraRig, invert_se3
from bevstack.synthetic.rig import make_rig
from bevstack.types import Batch

WIDTH = 1600  # pixels of the rig below
HEIGHT = 640  # the sky is cropped, as in the published configurations
SPEED_MPS = 10.0
STEP_S = 0.5


def nuscenes_rig(back_m: float) -> CameraRig:  # leading axes (1,)
    """Return six nuScenes-like cameras, images 640x1600, of a vehicle ``back_m`` metres behind."""
    full_height = WIDTH * 9 // 16
    poses, intrinsics = [], []
    for mount in make_rig("n015", (full_height, WIDTH), None).cameras:
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.from_numpy(mount.ego_from_cam_rotation)
        pose[:3, 3] = torch.from_numpy(mount.ego_from_cam_translation_m)
        pose[0, 3] -= back_m
        poses.append(pose)
        matrix = torch.from_numpy(mount.intrinsics).clone()
        matrix[1, 2] -= full_height - HEIGHT
        intrinsics.append(matrix)
    count = len(poses)
    return CameraRig(
        torch.stack(intrinsics)[None],
        torch.stack(poses)[None],
        torch.tensor((HEIGHT, WIDTH)).expand(1, count, 2),
        torch.ones(1, count, dtype=torch.bool),
    )


def driving_clip(config: Config, frames: Sequence[int]) -> Batch:
    """Return a clip of noise images of a straight drive.

    Args:
        config: its images' size is used.
        frames: offsets of the frames in steps of half a second, the current one 0.
    """
    height, width = config.images.size
    multiple = config.images.pad_to
    padded = tuple(-(-size // multiple) * multiple for size in (height, width))
    rig = nuscenes_rig(0.0).resized((height, width))  # (1,)
    count, cameras = len(frames), rig.num_cameras
    step_s = config.temporal.frame_interval_s if config.temporal else STEP_S
    offsets = torch.tensor(frames)
    poses = torch.eye(4, dtype=torch.float64).repeat(1, count, 1, 1)
    poses[0, :, 0, 3] = offsets * SPEED_MPS * step_s
    current_from_each = invert_se3(poses[:, list(frames).index(0), None]) @ poses
    images = torch.zeros(1, count, cameras, 3, *padded)
    images[..., :height, :width] = torch.randn(1, count, cameras, 3, height, width)
    return Batch(
        images=images,
        rig=CameraRig.stack([rig] * count, dim=1).moved(current_from_each),
        frame_valid=torch.ones(1, count, dtype=torch.bool),
        camera_slots=torch.arange(cameras)[None] % config.encoder.num_camera_embeddings,
        world_from_bev=poses,
        timestamp_us=(offsets * round(step_s * 1e6) + 10**15)[None],
        sample_tokens=("sample",),
        scene_tokens=("scene",),
    )


def single_frame(clip: Batch, slot: int) -> Batch:
    """Return one frame of a clip, whose last frame is the current one, as a step of a stream."""
    part = slice(slot, slot + 1 or None)
    slot_from_current = invert_se3(clip.world_from_bev[:, slot]) @ clip.world_from_bev[:, -1]
    return replace(
        clip,
        images=clip.images[:, part],
        rig=clip.rig[:, part].moved(slot_from_current[:, None]),
        frame_valid=clip.frame_valid[:, part],
        world_from_bev=clip.world_from_bev[:, part],
        timestamp_us=clip.timestamp_us[:, part],
    )
