"""Small batches of the traffic view with different rigs and image sizes."""

from __future__ import annotations

import math

import numpy as np
import torch

from bevstack.config import ImageConfig
from bevstack.config.traffic import TrafficConfig
from bevstack.datasets.traffic_view.front_view import FrontCamera
from bevstack.datasets.traffic_view.labels import ElementIndex
from bevstack.datasets.traffic_view.samples import prepare_sample, stack_samples
from bevstack.types.traffic import EgoLane, Lamp, LaneCenterline, TrafficElement

IMAGES = ImageConfig()
CONFIG = TrafficConfig(
    rows=(0.0, 1.0), channels=16, num_convs=1, roi_channels=24, max_candidates=5, scale=(1.0, 1.0)
)


def camera(size=(64, 96), *, focal=80.0, yaw=0.0, place=(1.5, 0.0, 1.6), name="CAM_FRONT"):
    """Return a front camera with an image of noise; ``yaw`` in radians, left is positive."""
    pixels = np.random.default_rng(size[1]).integers(0, 256, (*size, 3), np.uint8)
    c, s = math.cos(yaw), math.sin(yaw)
    # columns: the camera's x (right), y (down), z (ahead) in the ego frame
    rotation = np.array([[s, 0, c], [-c, 0, s], [0, -1, 0]])
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.from_numpy(rotation)
    pose[:3, 3] = torch.tensor(place, dtype=torch.float64)
    intrinsics = torch.tensor(
        [[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]], dtype=torch.float64
    )
    return FrontCamera(pixels, intrinsics, pose, 0, name)


def project(view, point):
    """Return pixel and depth of a point (3,) of the ego frame, by the definition of a pinhole."""
    pose = view.ego_from_cam.numpy()
    local = pose[:3, :3].T @ (np.asarray(point) - pose[:3, 3])
    u, v, w = view.intrinsics.numpy() @ local
    return np.array([u / w, v / w]), local[2]


def element(view, point, *, size=(0.4, 1.05), yaw=math.pi, token="e", **fields):
    """Return a light around a point of the ego frame, which is also the world."""
    (u, v), depth = project(view, point)
    focal = float(view.intrinsics[0, 0])
    width, height = focal * size[0] / depth, focal * size[1] / depth
    defaults = {
        "category": 1,
        "attribute": 1,
        "box_px": (u - width / 2, v - height / 2, u + width / 2, v + height / 2),
        "position_m": tuple(float(x) for x in point),
        "yaw_rad": yaw,
        "sample_token": "s0",
        "camera": view.name,
        "lamps": (Lamp("red"),),
    }
    return TrafficElement(token=token, **{**defaults, **fields})


def sample(
    view, elements, *, token="s0", augmentation=None, config=CONFIG, ego_lanes=(), lanes=None
):
    """Return one prepared sample whose world is the ego frame."""
    index = ElementIndex.build(elements, lanes, ego_lanes)
    return prepare_sample(
        [view],
        config,
        IMAGES,
        token=token,
        ego_motion=torch.tensor([8.0, 0.01, 1.0]),
        augmentation=augmentation,
        labels=(index, torch.eye(4, dtype=torch.float64)),
    )


def two_rigs(config=CONFIG):
    """Return a batch of two samples with other sizes, cameras and numbers of elements."""
    first, second = camera(), camera((48, 128), focal=110.0, yaw=0.2, place=(1.0, 0.3, 1.4))
    near = element(first, (9.0, 0.5, 2.6))
    sign = element(
        first, (8.0, -2.0, 2.0), size=(0.8, 0.8), category=2, attribute=5, lamps=None, token="f"
    )
    tiny = element(first, (60.0, 3.0, 3.0), token="g")
    lane = LaneCenterline("l0", "scene", np.zeros((2, 2)), manoeuvres=("straight", "left"))
    near = TrafficElement(**{**vars(near), "lane_token": "l0"})
    ego = EgoLane("s0", "l0", "straight")
    left = sample(first, [near, sign, tiny], ego_lanes=[ego], lanes={"l0": lane}, config=config)
    right = sample(second, [], token="s1", config=config)
    return stack_samples([left, right])
