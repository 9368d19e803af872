"""Traffic lights, signs and lanes, with the categories and attributes of OpenLane-V2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class TrafficElement:
    """A traffic light or sign in the image of one camera at one keyframe."""

    token: str
    instance_token: str  # the same in all images of a scene
    sample_token: str
    sample_data_token: str  # of the image
    camera: str  # channel
    category: int  # TRAFFIC_LIGHT or ROAD_SIGN
    attribute: int  # index into TRAFFIC_ELEMENT_ATTRIBUTES, at the image's capture time
    box_px: tuple[float, float, float, float]  # left, top, right, bottom, within the image
    position_m: tuple[float, float, float]  # centre, in the world frame
    size_m: tuple[float, float, float]  # depth, width, height
    yaw_rad: float  # direction that it faces, in the world frame
    visibility: float  # 0..1, share of its pixels that are not occluded
    lane_token: str  # of the lane it governs


@dataclass(frozen=True)
class LaneCenterline:
    """The centre line of a lane."""

    token: str
    scene_token: str
    points_m: NDArray[np.float64]  # (K, 2) in driving direction, in the world frame
