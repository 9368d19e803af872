"""ASAM OpenLABEL 1.0.0, a JSON file of one drive.

Cuboids stand in the coordinate system "ego", whose parent is "world"; every frame holds the
transform from ego to world. A cuboid is (x, y, z, qx, qy, qz, qw, length, width, height). Objects
and cues are keyed by UUID. Each frame's ``frame_properties`` has the key ``EXTENSION_KEY`` with
what the format cannot hold, which the schema permits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.export.planning.extension import extension_entry
from bevstack.export.planning.scene import PlanningFrame, check_one_drive
from bevstack.files import write_text_atomically
from bevstack.types.cues import TrafficCue

EXTENSION_KEY = "bevstack"
CUE_TYPES = {"light": "traffic_light", "sign": "traffic_sign"}
# Of the matrix "predicted_path", one row a moment.
PATH_COLUMNS = ("time_s", "x_m", "y_m", "yaw_rad", "var_x_m2", "cov_xy_m2", "var_y_m2")

_Data = dict[str, list[dict[str, Any]]]


def write_openlabel(path: Path, frames: Sequence[PlanningFrame]) -> None:
    """Write the frames of one drive, in order of time; frame 0 is the first.

    Raises:
        OSError: the file cannot be written.
        ValueError: the frames are of several drives or not in order, or a value is not finite.
    """
    check_one_drive(frames)
    text = json.dumps({"openlabel": openlabel_content(frames)}, allow_nan=False)
    write_text_atomically(path, text + "\n")


def openlabel_content(frames: Sequence[PlanningFrame]) -> dict[str, Any]:
    """Return the value of the key "openlabel"."""
    kinds: dict[str, tuple[str, str]] = {}  # of an object: its name and type
    present: dict[str, list[int]] = {}  # the frames with an object
    frame_values: dict[str, Any] = {}
    cameras: set[str] = set()
    for number, frame in enumerate(frames):
        objects: dict[str, Any] = {}
        for key, name, kind, data in [*_objects(frame), *map(_cue, frame.cues)]:
            kinds.setdefault(key, (name, kind))
            present.setdefault(key, []).append(number)
            objects[key] = {"object_data": data}
        cameras |= {cue.camera for cue in frame.cues if cue.camera is not None}
        frame_values[str(number)] = {
            "frame_properties": _frame_properties(frame),
            "objects": objects,
        }
    return {
        "metadata": {"schema_version": "1.0.0", "comment": "written by bevstack"},
        "coordinate_systems": {
            "world": {"type": "scene_cs", "parent": "", "children": ["ego"]},
            "ego": {"type": "local_cs", "parent": "world", "children": []},
        },
        "streams": {camera: {"type": "camera"} for camera in sorted(cameras)},
        "frame_intervals": _intervals(list(range(len(frames)))),
        "frames": frame_values,
        "objects": {
            key: {
                "name": name,
                "type": kind,
                "coordinate_system": "ego",
                "object_data": {},
                "frame_intervals": _intervals(present[key]),
            }
            for key, (name, kind) in kinds.items()
        },
    }


def _frame_properties(frame: PlanningFrame) -> dict[str, Any]:
    return {
        "timestamp": f"{frame.seconds}.{frame.nanoseconds // 1000:06d}",  # a float errs at 0.2 us
        "transforms": {
            "ego_to_world": {
                "src": "ego",
                "dst": "world",
                "transform_src_to_dst": {"matrix4x4": frame.world_from_ego.ravel().tolist()},
            }
        },
        EXTENSION_KEY: extension_entry(frame),
    }


def _objects(frame: PlanningFrame) -> list[tuple[str, str, str, _Data]]:
    """Return key, name, type and data of each object."""
    objects, found = frame.objects, []
    for row, key in enumerate(frame.object_ids()):
        yaw = float(objects.yaw[row])
        quaternion = [0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]
        value = [*objects.center[row].tolist(), *quaternion, *objects.size[row].tolist()]
        data: _Data = {
            "cuboid": [{"name": "box", "val": value, "coordinate_system": "ego"}],
            "num": [{"name": "score", "val": float(objects.scores[row])}],
            "vec": [],
        }
        name = f"{objects.class_names[row]} {key}"
        if objects.identity is not None:
            number = int(objects.identity[row])
            data["num"].append({"name": "track", "val": number})
            name = f"{objects.class_names[row]} {number}"
        if np.isfinite(objects.velocity[row]).all():
            data["vec"].append(_vector("velocity", objects.velocity[row].tolist()))
        if objects.covariance is not None:
            covariance = objects.covariance[row]
            data["vec"] += [
                _vector("position_covariance", covariance[:2, :2].ravel().tolist()),
                _vector("velocity_covariance", covariance[2:, 2:].ravel().tolist()),
            ]
        if objects.uncertainty is not None:
            entry = objects.uncertainty[row : row + 1].to_entries()[0]
            data["vec"].append(_vector("size_variance_m2", entry["size_variance_m2"]))
            data["num"] += [
                {"name": name, "val": entry[name]}
                for name in (
                    "existence_probability",
                    "elevation_variance_m2",
                    "yaw_variance_rad2",
                    "flip_probability",
                )
            ]
        if frame.paths is not None:
            data["mat"] = [_path(frame, row)]
        found.append((str(key), name, objects.class_names[row], data))
    return found


def _path(frame: PlanningFrame, row: int) -> dict[str, Any]:
    paths = frame.paths
    assert paths is not None  # checked by the caller
    spread = paths.covariance[row, :, [0, 0, 1], [0, 1, 1]]  # (3, T)
    columns = (paths.times_s, *paths.position[row].T, paths.yaw[row], *spread)
    return {
        "name": "predicted_path",
        "val": np.stack(columns, -1).ravel().tolist(),
        "channels": 1,
        "width": len(PATH_COLUMNS),
        "height": len(paths.times_s),
        "data_type": "float",
        "coordinate_system": "ego",
    }


def _cue(cue: TrafficCue) -> tuple[str, str, str, _Data]:
    """Return key, name, type and data of a light or sign."""
    data: _Data = {
        "point3d": [{"name": "position", "val": list(cue.position_m), "coordinate_system": "ego"}],
        "vec": [_vector("position_covariance", cue.position_cov_m2.ravel().tolist())],
        "num": [
            {"name": "score", "val": cue.confidence},
            {"name": "yaw", "val": cue.yaw_rad},
            {"name": "relevance", "val": cue.applies_to_ego},
            {"name": "last_seen_s", "val": cue.last_seen_s},
        ],
        "text": [{"name": "applies_to", "val": " ".join(cue.applies_to)}],
        "boolean": [{"name": "visible", "val": cue.visible_now}],
    }
    if cue.kind == "light":
        data["text"].append({"name": "state", "val": cue.state_name})
        data["num"].append({"name": "state_probability", "val": cue.state_probability})
    else:
        data["text"].append({"name": "meaning", "val": cue.meaning or "other"})
        if cue.speed_limit_mps is not None:
            data["num"].append({"name": "speed_limit_mps", "val": cue.speed_limit_mps})
    if cue.map_id is not None:
        data["text"].append({"name": "map_id", "val": cue.map_id})
    if cue.box_px is not None and cue.camera is not None:
        left, top, right, bottom = cue.box_px
        value = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        stream = {"text": [{"name": "stream", "val": cue.camera}]}
        data["bbox"] = [{"name": f"box_{cue.camera}", "val": value, "attributes": stream}]
    return cue.id, f"{CUE_TYPES[cue.kind]} {cue.id}", CUE_TYPES[cue.kind], data


def _vector(name: str, value: list[float]) -> dict[str, Any]:
    return {"name": name, "val": value, "coordinate_system": "ego"}


def _intervals(numbers: list[int]) -> list[dict[str, int]]:
    """Return the runs of ascending numbers."""
    runs: list[dict[str, int]] = []
    for number in numbers:
        if runs and runs[-1]["frame_end"] == number - 1:
            runs[-1]["frame_end"] = number
        else:
            runs.append({"frame_start": number, "frame_end": number})
    return runs
