"""Frames of a small rig for tests of camera health: textured pictures, poses, times."""

from __future__ import annotations

import math

import numpy as np
import torch

from bevstack.types import Frame

NAMES = ("CAM_FRONT", "CAM_BACK")
STEP_US = 83_334  # twelve of them are a full second
HEIGHT, WIDTH = 72, 128
START_US = 1_700_000_000_000_000


def texture(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Return a picture of clear edges, shifted by the seed, with the noise of a sensor."""
    height, width = size
    rng = np.random.default_rng(7)
    rows = np.repeat(rng.integers(30, 220, (height // 8 + 1, width // 8 + 1)), 8, 0)
    blocks = np.roll(np.repeat(rows, 8, 1), 3 * seed, 1)[:height, :width]
    picture = blocks[..., None].repeat(3, 2).astype(float)
    noise = np.random.default_rng(seed).normal(0, 2, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def pose(x_m: float) -> torch.Tensor:
    """Return a pose at a place on the x axis."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[0, 3] = x_m
    return matrix


def ego_from_cam(yaw_rad: float) -> np.ndarray:
    """Return the pose of a camera 1.5 m above the ground that looks along a direction."""
    cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[sin, 0, cos], [-cos, 0, sin], [0, -1, 0]])
    matrix[2, 3] = 1.5
    return matrix


def frame(number: int, speed_mps: float = 10.0, **changes) -> Frame:
    """Return the frame of a number in a drive at 12 Hz along the x axis."""
    size = (HEIGHT, WIDTH)
    time_us = START_US + number * STEP_US
    values = {
        "images": [texture(10 * number + camera, size) for camera in range(len(NAMES))],
        "intrinsics": np.repeat([[[100.0, 0, 64], [0, 100.0, 36], [0, 0, 1]]], len(NAMES), 0),
        "ego_from_cam": np.stack([ego_from_cam(0.0), ego_from_cam(math.pi)]),
        "camera_names": NAMES,
        "timestamp_us": time_us,
        "camera_timestamp_us": (time_us,) * len(NAMES),
        "world_from_ego": pose(speed_mps * number * STEP_US * 1e-6),
        "scene_token": "drive",
    }
    return Frame(**(values | changes))
