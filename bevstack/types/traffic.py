"""Traffic lights, signs and lanes as data; categories and attributes are OpenLane-V2's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class TrafficElement:
    """A light or a sign as one camera sees it in one keyframe."""

    token: str
    instance_token: str  # the same in all images of a scene
    sample_token: str
    sample_data_token: str  # of the image
    camera: str  # channel
    category: int  # TRAFFIC_LIGHT or ROAD_SIGN
    attribute: int  # index into TRAFFIC_ELEMENT_ATTRIBUTES, at the image's own time
    box_px: tuple[float, float, float, float]  # left, top, right, bottom, within the image
    position_m: tuple[float, float, float]  # centre, in the world's frame
    size_m: tuple[float, float, float]  # depth, width, height
    yaw_rad: float  # towards which it looks, in the world's frame
    visibility: float  # 0..1, share of its pixels that nothing hides
    lane_token: str  # of the lane it governs


@dataclass(frozen=True)
class LaneCenterline:
    """A lane."""

    token: str
    scene_token: str
    points_m: np.ndarray  # (K, 2) in driving direction, in the world's frame
