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

# Names of traffic lights and signs that no published set has all of; `unknown` comes first.
LAMP_COLORS: tuple[str, ...] = ("unknown", "red", "yellow", "green", "white")
LAMP_SHAPES: tuple[str, ...] = (
    "unknown",
    "circle",
    "straight",
    "left",
    "right",
    "slight_left",
    "slight_right",
    "u_turn",
    "pedestrian",
    "bicycle",
    "tram",
)
LAMP_STATUSES: tuple[str, ...] = ("unknown", "on", "off", "flashing")

# Colours of a whole light in one image: a light is `off` if no lamp is lit.
LIGHT_COLORS: tuple[str, ...] = ("off", "red", "yellow", "green", "red_yellow")

# Meanings of signs: OpenLane-V2's nine, and three that it puts together as `unknown`.
SIGN_MEANINGS: tuple[str, ...] = (
    "other",
    "go_straight",
    "turn_left",
    "turn_right",
    "no_left_turn",
    "no_right_turn",
    "u_turn",
    "no_u_turn",
    "slight_left",
    "slight_right",
    "stop",
    "speed_limit",
)

# Turns of the own vehicle at the next junction.
MANOEUVRES: tuple[str, ...] = ("straight", "left", "right", "u_turn")
