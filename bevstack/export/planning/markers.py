"""Boxes as visualization_msgs/MarkerArray, for RViz and Foxglove."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from bevstack.export.messages.parts import make_header, make_pose, make_vector
from bevstack.export.messages.store import MessageStore, make_blank
from bevstack.export.planning.scene import PlanningFrame

_ARROW, _CUBE, _TEXT, _ADD, _DELETE_ALL = 0, 1, 9, 0, 3
_MOVING_MPS = 0.5  # slower objects have no arrow
_LIFETIME_S = 1  # so that no box stays when the node stops
_COLORS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "car": (1.0, 0.6, 0.0),
        "truck": (1.0, 0.4, 0.3),
        "bus": (1.0, 0.5, 0.3),
        "trailer": (1.0, 0.55, 0.0),
        "construction_vehicle": (0.9, 0.6, 0.3),
        "motorcycle": (1.0, 0.25, 0.4),
        "bicycle": (0.9, 0.1, 0.25),
        "pedestrian": (0.1, 0.3, 0.9),
        "traffic_cone": (0.2, 0.3, 0.3),
        "barrier": (0.45, 0.5, 0.55),
    }
)


def make_markers(frame: PlanningFrame, store: MessageStore, frame_id: str) -> Any:
    """Return a cube and a text for each object, and an arrow of one second for each moving one.

    The first marker deletes all earlier ones.
    """
    first = _first_marker(frame, store, frame_id)
    delete = _copied(first, 0)
    delete.action = _DELETE_ALL
    markers = [delete]
    objects, ids = frame.objects, frame.object_ids()
    for row, name in enumerate(objects.class_names):
        center, yaw = objects.center[row], float(objects.yaw[row])
        red, green, blue = _COLORS[name]
        color = store["std_msgs/ColorRGBA"](r=red, g=green, b=blue, a=0.6)
        cube = _copied(first, row)
        cube.ns, cube.type, cube.color = "boxes", _CUBE, color
        cube.pose, cube.scale = make_pose(store, center, yaw), make_vector(store, objects.size[row])
        markers.append(cube)
        text = _copied(first, row)
        top = center + np.array((0.0, 0.0, objects.size[row, 2] / 2 + 0.5))
        text.ns, text.type, text.color = "texts", _TEXT, color
        text.pose, text.scale = make_pose(store, top, 0.0), make_vector(store, np.full(3, 0.6))
        key = "" if objects.identity is None else f" {str(ids[row])[:4]}"
        text.text = f"{name}{key} {objects.scores[row]:.2f}"
        markers.append(text)
        speed = float(np.hypot(*np.nan_to_num(objects.velocity[row])))
        if speed > _MOVING_MPS:
            arrow = _copied(first, row)
            course = float(np.arctan2(objects.velocity[row, 1], objects.velocity[row, 0]))
            arrow.ns, arrow.type, arrow.color = "velocities", _ARROW, color
            arrow.pose = make_pose(store, center, course)
            arrow.scale = make_vector(store, np.array((speed, 0.15, 0.15)))
            markers.append(arrow)
    return store["visualization_msgs/MarkerArray"](markers=markers)


def _first_marker(frame: PlanningFrame, store: MessageStore, frame_id: str) -> Any:
    marker = make_blank(store, "visualization_msgs/Marker")
    marker.header = make_header(store, frame.timestamp_us, frame_id)
    marker.action = _ADD
    marker.lifetime.sec = _LIFETIME_S
    marker.pose = make_pose(store, np.zeros(3), 0.0)
    return marker


def _copied(first: Any, number: int) -> Any:
    """Return a marker with the fields of the first one, which is faster than a new one."""
    marker = copy.copy(first)
    marker.id = number
    return marker
