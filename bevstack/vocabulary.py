"""Names of cameras, classes and attributes that the whole project shares.

This module imports nothing from the project. `DETECTION_CLASSES` is in label order (0..9).
`CAMERA_CHANNELS` is in the order of the camera axis of rigs that follow nuScenes.
"""

from __future__ import annotations

CAMERA_CHANNELS: tuple[str, ...] = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
)

# In label order (v2 specification, section 0).
DETECTION_CLASSES: tuple[str, ...] = (
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
)

ATTRIBUTES: tuple[str, ...] = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)


TRAFFIC_LIGHT, ROAD_SIGN = 1, 2  # OpenLane-V2's categories

# OpenLane-V2's attributes in the order of their indices: colours of lights, meanings of signs.
TRAFFIC_ELEMENT_ATTRIBUTES: tuple[str, ...] = (
    "unknown",
    "red",
    "green",
    "yellow",
    "go_straight",
    "turn_left",
    "turn_right",
    "no_left_turn",
    "no_right_turn",
    "u_turn",
    "no_u_turn",
    "slight_left",
    "slight_right",
)
