"""Apollo's PerceptionObstacles, TrafficLightDetection and PredictionObstacles, as protobuf text.

World frame (x east, y north where the poses are so). An obstacle's position is the centre of its
box on the ground, as the definition of ``anchor_point`` states. A drive is a folder with one file a
message and frame, in the form that Apollo's own tools read. Signs, advice and trust have no
message: they stand in ``extension.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bevstack.export.planning.extension import extension_document
from bevstack.export.planning.scene import PlanningFrame, check_one_drive
from bevstack.files import naming, replacing_folder
from bevstack.types.cues import TrafficCue
from bevstack.types.uncertainty import BoxUncertainty

MODULE = "bevstack"
EXTENSION_NAME = "extension.json"
_FILE_NAME = re.compile(r"(obstacles|lights|prediction)_\d{6,}\.pb\.txt|extension\.json")
_MAX_ID = (1 << 31) - 1  # of an int32
# PerceptionObstacle.Type and SubType.
TYPES = MappingProxyType(
    {
        "car": ("VEHICLE", "ST_CAR"),
        "truck": ("VEHICLE", "ST_TRUCK"),
        "bus": ("VEHICLE", "ST_BUS"),
        "trailer": ("VEHICLE", "ST_TRUCK"),
        "construction_vehicle": ("VEHICLE", "ST_TRUCK"),
        "motorcycle": ("BICYCLE", "ST_MOTORCYCLIST"),
        "bicycle": ("BICYCLE", "ST_CYCLIST"),
        "pedestrian": ("PEDESTRIAN", "ST_PEDESTRIAN"),
        "traffic_cone": ("UNKNOWN_UNMOVABLE", "ST_TRAFFICCONE"),
        "barrier": ("UNKNOWN_UNMOVABLE", "ST_UNKNOWN_UNMOVABLE"),
    }
)
# TrafficLight.Color; of several lamps the one that forbids most counts.
COLORS = MappingProxyType({"red": "RED", "yellow": "YELLOW", "green": "GREEN"})


class Name(NamedTuple):
    """A name of an enumeration, which stands without quotes in protobuf text."""

    text: str


def write_apollo(path: Path, frames: Sequence[PlanningFrame]) -> int:
    """Write the frames of one drive into a folder, and return the number of messages.

    Detections get ids that count up over the drive, so that none is used twice. A folder that an
    earlier export wrote is replaced.

    Raises:
        OSError: the folder cannot be written.
        ValueError: the frames are not of one drive in order of time, an id is too large, or the
            folder holds files that are not of this format.
    """
    check_one_drive(frames)
    _check_folder(path)
    count, next_id = 0, 0
    with replacing_folder(path, replaces_full=True) as folder:
        for number, frame in enumerate(frames):
            ids = obstacle_ids(frame, next_id)
            next_id += len(ids)
            for kind, fields in (
                ("obstacles", obstacles(frame, ids, number + 1)),
                ("lights", lights(frame, number + 1)),
                ("prediction", prediction(frame, ids, number + 1)),
            ):
                if fields is not None:
                    text = "".join(_lines(fields, 0))
                    _write(folder / f"{kind}_{number:06d}.pb.txt", text)
                    count += 1
        _write(folder / EXTENSION_NAME, extension_document(frames))
    return count


def _check_folder(path: Path) -> None:
    """Check that nothing but an earlier export would be replaced."""
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    foreign = [name for name in names if not _FILE_NAME.fullmatch(name)]
    if foreign:
        raise ValueError(
            f"a folder for Apollo messages must be new, empty or an earlier export; got {path}, "
            f"which holds {foreign[0]!r}: give another folder"
        )


def _write(path: Path, text: str) -> None:
    with naming(path):
        path.write_text(text, encoding="utf-8")


def obstacle_ids(frame: PlanningFrame, first: int = 0) -> list[int]:
    """Return the identities of tracks, or for detections numbers from ``first`` on.

    Raises:
        ValueError: a number has over 31 bits.
    """
    identity = frame.objects.identity
    ids = list(range(first, first + len(frame.objects))) if identity is None else identity.tolist()
    if ids and max(ids) > _MAX_ID:
        raise ValueError(f"ids for Apollo must be at most {_MAX_ID}; got {max(ids)}")
    return ids


def obstacles(frame: PlanningFrame, ids: Sequence[int], sequence: int) -> dict[str, Any]:
    """Return the fields of PerceptionObstacles."""
    found = [_obstacle(frame, row, number) for row, number in enumerate(ids)]
    return {"perception_obstacle": found, "header": _header(frame, sequence)}


def lights(frame: PlanningFrame, sequence: int) -> dict[str, Any] | None:
    """Return the fields of TrafficLightDetection: the lights with an id of a map; None if none."""
    found = [_light(cue) for cue in frame.cues if cue.kind == "light" and cue.map_id is not None]
    if not found:
        return None
    return {
        "traffic_light": found,
        "header": _header(frame, sequence),
        "contain_lights": True,
    }


def prediction(frame: PlanningFrame, ids: Sequence[int], sequence: int) -> dict[str, Any] | None:
    """Return the fields of PredictionObstacles; None without paths."""
    paths = frame.paths
    if paths is None:
        return None
    found = [
        {
            "perception_obstacle": _obstacle(frame, row, number),
            "timestamp": _seconds(frame),
            "predicted_period": float(paths.times_s[-1]),
            "trajectory": [{"probability": 1.0, "trajectory_point": _points(frame, row)}],
        }
        for row, number in enumerate(ids)
    ]
    start = _seconds(frame)
    return {
        "header": _header(frame, sequence),
        "prediction_obstacle": found,
        "start_timestamp": start,
        "end_timestamp": start + float(paths.times_s[-1]),
    }


def _header(frame: PlanningFrame, sequence: int) -> dict[str, Any]:
    return {
        "timestamp_sec": _seconds(frame),
        "module_name": MODULE,
        "sequence_num": sequence,
        "camera_timestamp": 1000 * frame.timestamp_us,
        "frame_id": "world",
    }


def _seconds(frame: PlanningFrame) -> float:
    return frame.timestamp_us / 1e6  # a double errs by 0.2 us


def _obstacle(frame: PlanningFrame, row: int, number: int) -> dict[str, Any]:
    objects = frame.objects
    length, width, height = objects.size[row].tolist()
    ground = frame.world_center[row] - (0, 0, height / 2)
    yaw = float(frame.world_yaw[row])
    kind, sub_kind = TYPES[objects.class_names[row]]
    fields: dict[str, Any] = {"id": number, "position": _point(ground), "theta": yaw}
    velocity = frame.world_velocity[row]
    if np.isfinite(velocity).all():
        fields["velocity"] = _point(np.array((*velocity, 0.0)))
    fields |= {"length": length, "width": width, "height": height}
    ahead = np.array((np.cos(yaw), np.sin(yaw), 0.0)) * length / 2
    left = np.array((-np.sin(yaw), np.cos(yaw), 0.0)) * width / 2
    corners = (ahead + left, left - ahead, -ahead - left, ahead - left)  # counter-clockwise
    fields |= {
        "polygon_point": [_point(ground + corner) for corner in corners],
        "type": Name(kind),
        "timestamp": _seconds(frame),
        "confidence": float(objects.scores[row]),
        "sub_type": Name(sub_kind),
    }
    covariance = frame.world_covariance
    if covariance is not None:
        for name, block in (
            ("position_covariance", covariance[row, :2, :2]),
            ("velocity_covariance", covariance[row, 2:, 2:]),
        ):
            solid = np.zeros((3, 3))
            solid[:2, :2] = block
            if objects.uncertainty is not None and name == "position_covariance":
                solid[2, 2] = _ground_variance(objects.uncertainty, row)
            fields[name] = solid.ravel().tolist()
    return fields


def _ground_variance(uncertainty: BoxUncertainty, row: int) -> float:
    """Return the variance of the height of a box's lower face, which is Apollo's position."""
    return float(uncertainty.elevation_m2[row] + uncertainty.size_m2[row, 2] / 4)


def _points(frame: PlanningFrame, row: int) -> list[dict[str, Any]]:
    """Return the trajectory of an object in the world frame; it stays at the object's height."""
    paths = frame.paths
    assert paths is not None  # checked by ``prediction``
    pose, turn = frame.world_from_ego, frame.world_from_ego[:2, :2]
    height = frame.objects.center[row, 2]
    points = []
    for moment, time in enumerate(paths.times_s.tolist()):
        place = pose[:3, :3] @ (*paths.position[row, moment], height) + pose[:3, 3]
        yaw = paths.yaw[row, moment]
        heading = turn @ (np.cos(yaw), np.sin(yaw))
        spread = turn @ paths.covariance[row, moment, :2, :2] @ turn.T
        sigmas = np.sqrt(np.diagonal(spread))
        x, y, z = (place - (0, 0, frame.objects.size[row, 2] / 2)).tolist()
        theta = float(np.arctan2(heading[1], heading[0]))
        points.append(
            {
                "path_point": {"x": x, "y": y, "z": z, "theta": theta},
                "v": float(np.hypot(*paths.velocity[row, moment])),
                "relative_time": time,
                "gaussian_info": {
                    "sigma_x": float(sigmas[0]),
                    "sigma_y": float(sigmas[1]),
                    "correlation": float(spread[0, 1] / max(sigmas.prod(), 1e-12)),
                },
            }
        )
    return points


def _light(cue: TrafficCue) -> dict[str, Any]:
    shown = {belief.lamp.color: belief for belief in reversed(cue.state)}
    color, blinks = "BLACK" if cue.state_name == "off" else "UNKNOWN", False
    for name, found in COLORS.items():
        if name in shown:
            color, blinks = found, shown[name].lamp.status == "flashing"
            break
    return {
        "color": Name(color),
        "id": cue.map_id,
        "confidence": cue.state_probability,
        "blink": blinks,
    }


def _point(values: np.ndarray[Any, Any]) -> dict[str, float]:
    x, y, z = values.tolist()
    return {"x": x, "y": y, "z": z}


def _lines(fields: Mapping[str, Any], depth: int) -> list[str]:
    """Return the protobuf text of fields; a list is a repeated field."""
    indent, lines = "  " * depth, []
    for name, value in fields.items():
        for single in value if isinstance(value, list) else [value]:
            if isinstance(single, Mapping):
                lines += [f"{indent}{name} {{\n", *_lines(single, depth + 1), f"{indent}}}\n"]
            else:
                lines.append(f"{indent}{name}: {_scalar(single)}\n")
    return lines


def _scalar(value: object) -> str:
    if isinstance(value, Name):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
