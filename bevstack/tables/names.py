"""Names and ranges of the nuScenes format: sensors, categories, visibility levels, tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LIDAR_CHANNEL = "LIDAR_TOP"

RADAR_CHANNELS: tuple[str, ...] = (
    "RADAR_FRONT",
    "RADAR_FRONT_LEFT",
    "RADAR_FRONT_RIGHT",
    "RADAR_BACK_LEFT",
    "RADAR_BACK_RIGHT",
)


# Ground truth and predictions farther from the ego vehicle than this (in x, y) are not scored
# (nuScenes detection_cvpr_2019).
DETECTION_RANGE_M: Mapping[str, float] = MappingProxyType(
    {
        "barrier": 30.0,
        "bicycle": 40.0,
        "bus": 50.0,
        "car": 50.0,
        "construction_vehicle": 50.0,
        "motorcycle": 40.0,
        "pedestrian": 40.0,
        "traffic_cone": 30.0,
        "trailer": 50.0,
        "truck": 50.0,
    }
)

# nuScenes category -> detection class; categories without an entry are never scored.
CATEGORY_TO_CLASS: Mapping[str, str] = MappingProxyType(
    {
        "movable_object.barrier": "barrier",
        "vehicle.bicycle": "bicycle",
        "vehicle.bus.bendy": "bus",
        "vehicle.bus.rigid": "bus",
        "vehicle.car": "car",
        "vehicle.construction": "construction_vehicle",
        "vehicle.motorcycle": "motorcycle",
        "human.pedestrian.adult": "pedestrian",
        "human.pedestrian.child": "pedestrian",
        "human.pedestrian.construction_worker": "pedestrian",
        "human.pedestrian.police_officer": "pedestrian",
        "movable_object.trafficcone": "traffic_cone",
        "vehicle.trailer": "trailer",
        "vehicle.truck": "truck",
    }
)

BICYCLE_RACK_CATEGORY = "static_object.bicycle_rack"

# All 23 categories, in the order of the official v1.0 category table.
CATEGORIES: tuple[str, ...] = (
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.wheelchair",
    "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
    "animal",
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.trailer",
    "movable_object.barrier",
    "movable_object.trafficcone",
    "movable_object.pushable_pullable",
    "movable_object.debris",
    BICYCLE_RACK_CATEGORY,
)


VISIBILITY_LEVELS: tuple[str, ...] = ("v0-40", "v40-60", "v60-80", "v80-100")

TABLES: tuple[str, ...] = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
)

# Additional tables, not in nuScenes: traffic lights and signs, and the lanes that they govern.
TRAFFIC_ELEMENT_TABLE, LANE_TABLE = "traffic_element", "lane"
# Additional tables of the preset `lights`: the ego's lane in each sample, and states of lights.
EGO_LANE_TABLE, TRAFFIC_STATE_TABLE = "ego_lane", "traffic_state"
# Additional table of worlds with dense labels: depth and semantics of each image.
DENSE_LABEL_TABLE = "dense_label"
