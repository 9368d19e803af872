"""Frames of rigs that see known angles, and models of sectors with known recalls."""

from __future__ import annotations

import math

import numpy as np
import torch

from bevstack.types import Frame
from bevstack.uncertainty.sectors import SectorModel

SIZE = (48, 80)  # (H, W)
NAMES = ("CAM_FRONT", "CAM_LEFT", "CAM_BACK", "CAM_RIGHT")
HEIGHT_M = 1.6


def ring_frame(
    *,
    yaws_deg: tuple[float, ...] = (0.0, 90.0, 180.0, 270.0),
    half_fov_deg: float = 40.0,
    lost: tuple[str, ...] = (),
    time_us: int = 1_600_000_000_000_000,
    x_m: float = 0.0,
    yaw_deg: float = 0.0,
    scene: str = "a",
    posed: bool = True,
) -> Frame:
    """Return a frame of cameras at the vehicle's origin that look level in some directions."""
    focal = SIZE[1] / 2 / math.tan(math.radians(half_fov_deg))
    intrinsics = np.array([[focal, 0, SIZE[1] / 2], [0, focal, SIZE[0] / 2], [0, 0, 1]])
    poses = []
    for yaw in np.radians(yaws_deg):
        pose = np.eye(4)
        forward, left = (math.cos(yaw), math.sin(yaw), 0), (-math.sin(yaw), math.cos(yaw), 0)
        pose[:3, :3] = np.stack((np.negative(left), (0, 0, -1), forward), -1)
        pose[2, 3] = HEIGHT_M
        poses.append(pose)
    turn = math.radians(yaw_deg)
    world = np.eye(4)
    world[:2, :2] = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    world[0, 3] = x_m
    names = NAMES[: len(yaws_deg)]
    picture = np.full((*SIZE, 3), 90, np.uint8)
    return Frame(
        images=[None if name in lost else picture for name in names],
        intrinsics=torch.from_numpy(np.stack([intrinsics] * len(names))),
        ego_from_cam=torch.from_numpy(np.stack(poses)),
        camera_names=names,
        timestamp_us=time_us,
        world_from_ego=torch.from_numpy(world) if posed else None,
        scene_token=scene,
        rig_checked=True,
    )


def odd_sector_model(memory_s: float = 1.75) -> SectorModel:
    """Return a model with another recall for every kind of view."""
    return SectorModel(
        offset=np.array([2.0, 0.5, -0.3, -1.0, -4.0]),
        slope=np.array([-1.0, -1.5, -0.7, -0.4, 0.0]),
        min_score=0.3,
        memory_s=memory_s,
        fitted_on={"split": "none"},
    )
