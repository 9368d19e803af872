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


# Semantic classes of the synthetic worlds' pixels, in label order.
SEMANTIC_CLASSES: tuple[str, ...] = (
    "sky",
    "road",
    "sidewalk",
    "terrain",
    "vehicle",
    "person",
    "two_wheeler",
    "other_object",
    "building",
    "vegetation",
    "pole",
    "traffic_light",
    "traffic_sign",
)
IGNORED_LABEL = 255  # of a pixel without a label, in label maps of 8 bits

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

# Classes of COCO in label order, with the numbers that its files give them (arXiv 1405.0312; the
# 80 of 91 numbers that the data set of 2017 uses).
COCO_CLASSES: tuple[tuple[int, str], ...] = (
    (1, "person"),
    (2, "bicycle"),
    (3, "car"),
    (4, "motorcycle"),
    (5, "airplane"),
    (6, "bus"),
    (7, "train"),
    (8, "truck"),
    (9, "boat"),
    (10, "traffic light"),
    (11, "fire hydrant"),
    (13, "stop sign"),
    (14, "parking meter"),
    (15, "bench"),
    (16, "bird"),
    (17, "cat"),
    (18, "dog"),
    (19, "horse"),
    (20, "sheep"),
    (21, "cow"),
    (22, "elephant"),
    (23, "bear"),
    (24, "zebra"),
    (25, "giraffe"),
    (27, "backpack"),
    (28, "umbrella"),
    (31, "handbag"),
    (32, "tie"),
    (33, "suitcase"),
    (34, "frisbee"),
    (35, "skis"),
    (36, "snowboard"),
    (37, "sports ball"),
    (38, "kite"),
    (39, "baseball bat"),
    (40, "baseball glove"),
    (41, "skateboard"),
    (42, "surfboard"),
    (43, "tennis racket"),
    (44, "bottle"),
    (46, "wine glass"),
    (47, "cup"),
    (48, "fork"),
    (49, "knife"),
    (50, "spoon"),
    (51, "bowl"),
    (52, "banana"),
    (53, "apple"),
    (54, "sandwich"),
    (55, "orange"),
    (56, "broccoli"),
    (57, "carrot"),
    (58, "hot dog"),
    (59, "pizza"),
    (60, "donut"),
    (61, "cake"),
    (62, "chair"),
    (63, "couch"),
    (64, "potted plant"),
    (65, "bed"),
    (67, "dining table"),
    (70, "toilet"),
    (72, "tv"),
    (73, "laptop"),
    (74, "mouse"),
    (75, "remote"),
    (76, "keyboard"),
    (77, "cell phone"),
    (78, "microwave"),
    (79, "oven"),
    (80, "toaster"),
    (81, "sink"),
    (82, "refrigerator"),
    (84, "book"),
    (85, "clock"),
    (86, "vase"),
    (87, "scissors"),
    (88, "teddy bear"),
    (89, "hair drier"),
    (90, "toothbrush"),
)
