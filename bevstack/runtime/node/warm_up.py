"""Preparations of a node, so that neither the first frame of a drive nor a later one is slow."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch

from bevstack.geometry import se3_from_parts
from bevstack.runtime.stream_protocol import FrameDetector
from bevstack.types import Frame

_HEIGHT_M = 1.5
# x right, y down, z forward of a camera that looks along x forward of the vehicle
_LOOKING_AHEAD = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))


def warm_up(detector: FrameDetector, cameras: Sequence[str]) -> None:
    """Predict black images of cameras that look around the vehicle; the result is dropped.

    Raises:
        ValueError: the detector refuses the frame.
    """
    height, width = detector.config.images.size
    count = len(cameras)
    poses = []
    for number in range(count):
        yaw = 2 * math.pi * number / count
        turn = torch.eye(3, dtype=torch.float64)
        turn[0, :2] = torch.tensor((math.cos(yaw), -math.sin(yaw)), dtype=torch.float64)
        turn[1, :2] = torch.tensor((math.sin(yaw), math.cos(yaw)), dtype=torch.float64)
        rotation = turn @ torch.tensor(_LOOKING_AHEAD, dtype=torch.float64)
        poses.append(
            se3_from_parts(rotation, torch.tensor((0.0, 0.0, _HEIGHT_M), dtype=torch.float64))
        )
    matrix = [[width / 2, 0.0, width / 2], [0.0, width / 2, height / 2], [0.0, 0.0, 1.0]]
    black = np.zeros((height, width, 3), dtype=np.uint8)
    frame = Frame(
        images=[black] * count,
        intrinsics=torch.tensor([matrix] * count, dtype=torch.float64),
        ego_from_cam=torch.stack(poses),
        camera_names=tuple(cameras),
        rig_checked=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.predict(frame)


def exclude_existing_from_collection() -> None:
    """Keep all objects that exist by now out of later garbage collections of this process.

    Making the messages of a few hundred tracks sets off collections, and each full one would search
    the modules and the model again.
    """
    gc.collect()
    gc.freeze()
