"""Rows of one scene in the 13 tables of nuScenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.population.population import Role
from bevstack.synthetic.population.traffic import sample_tracks
from bevstack.synthetic.recording.readings import SensorReading, sensor_readings
from bevstack.synthetic.rig import RADAR_MOUNTS, yaw_to_quaternion
from bevstack.synthetic.scene import SAMPLE_PERIOD_S, Scene
from bevstack.tables.names import (
    CATEGORIES,
    LIDAR_CHANNEL,
    RADAR_CHANNELS,
    TABLES,
    VISIBILITY_LEVELS,
)
from bevstack.tables.writer import make_token
from bevstack.vocabulary import ATTRIBUTES, CAMERA_CHANNELS

Row = dict[str, object]
Rows = dict[str, list[Row]]

_ANNOTATED_M = 75.0  # greatest distance of an annotation from the ego
_VISIBLE_PX = 4  # least number of visible pixels of an object that is noticed
_MOVING_MPS = 0.2  # speed above which an object counts as moving


@dataclass(frozen=True)
class Sighting:
    """Lidar points and pixels of every object in one sample."""

    hits: NDArray[np.int64]  # (objects,) lidar points
    visible_px: NDArray[np.int64]  # (objects,) pixels in all cameras
    unoccluded_px: NDArray[np.int64]  # (objects,) the same with nothing in front


def empty_tables() -> Rows:
    """Return the 13 tables without rows."""
    return {name: [] for name in TABLES}


def fixed_rows() -> Rows:
    """Return the rows that all scenes share: categories, attributes, visibility, sensors."""
    tables = empty_tables()
    for index, name in enumerate(CATEGORIES):
        token = make_token("category", name)
        tables["category"].append(
            {"token": token, "name": name, "description": "", "index": index + 1}
        )
    for name in ATTRIBUTES:
        token = make_token("attribute", name)
        tables["attribute"].append({"token": token, "name": name, "description": ""})
    for index, level in enumerate(VISIBILITY_LEVELS):
        low, high = level[1:].split("-")
        text = f"visibility of whole object is between {low} and {high}%"
        tables["visibility"].append({"token": str(index + 1), "level": level, "description": text})
    channels = [(c, "camera") for c in CAMERA_CHANNELS]
    channels += [(LIDAR_CHANNEL, "lidar")] + [(c, "radar") for c in RADAR_CHANNELS]
    for channel, modality in channels:
        token = make_token("sensor", channel)
        tables["sensor"].append({"token": token, "channel": channel, "modality": modality})
    return tables


def logfile(scene: Scene) -> str:
    """Return the name of the log of a scene; each scene has a separate log."""
    return f"{scene.rig.vehicle}-synth-{scene.name}"


def data_filename(scene: Scene, channel: str, timestamp_us: int, is_key: bool = True) -> str:
    """Return the path of a sensor's file below the root."""
    folder = "samples" if is_key else "sweeps"
    suffix = "pcd.bin" if channel == LIDAR_CHANNEL else "jpg"
    return f"{folder}/{channel}/{logfile(scene)}__{channel}__{timestamp_us}.{suffix}"


def sample_time_us(scene: Scene, index: int) -> int:
    """Return the timestamp of a sample, which is that of its lidar keyframe."""
    return scene.start_us + int(index * SAMPLE_PERIOD_S * 1e6)


def scene_rows(
    scene: Scene,
    sightings: list[Sighting],
    between: Mapping[str, int] = MappingProxyType({}),
    lidar_between: int = 0,
) -> Rows:
    """Return all rows of one scene.

    Args:
        scene: the scene.
        sightings: one per sample.
        between: images between two keyframes, by channel; 0 for an absent one.
        lidar_between: revolutions of the lidar between two keyframes.
    """
    tables = empty_tables()
    key = make_token("scene", scene.name)
    tokens = [make_token("sample", scene.name, i) for i in range(scene.samples)]
    _add_log_and_scene(tables, scene, key, tokens)
    for index, token in enumerate(tokens):
        tables["sample"].append(
            {
                "token": token,
                "timestamp": sample_time_us(scene, index),
                "prev": tokens[index - 1] if index else "",
                "next": tokens[index + 1] if index + 1 < len(tokens) else "",
                "scene_token": key,
            }
        )
    _add_calibration(tables, scene)
    _add_sensor_data(tables, scene, tokens, between, lidar_between)
    _add_annotations(tables, scene, tokens, sightings)
    return tables


def _add_log_and_scene(tables: Rows, scene: Scene, key: str, tokens: list[str]) -> None:
    log = make_token("log", scene.name)
    tables["log"].append(
        {
            "token": log,
            "logfile": logfile(scene),
            "vehicle": scene.rig.vehicle,
            "date_captured": "2018-07-01",
            "location": "synth-keeps-right" if scene.layout.hand > 0 else "synth-keeps-left",
        }
    )
    tables["scene"].append(
        {
            "token": key,
            "log_token": log,
            "nbr_samples": len(tokens),
            "first_sample_token": tokens[0],
            "last_sample_token": tokens[-1],
            "name": scene.name,
            "description": scene.description,
        }
    )


def _calibration_token(scene: Scene, channel: str) -> str:
    return make_token("calibrated_sensor", scene.name, channel)


def _add_calibration(tables: Rows, scene: Scene) -> None:
    """Add the rows of all sensors to `calibrated_sensor`; only cameras have intrinsics."""
    lidar = scene.rig.lidar
    mounts: list[tuple[str, object, object, object]] = [
        (
            camera.channel,
            camera.ego_from_cam_translation_m.tolist(),
            list(camera.quaternion_wxyz),
            camera.intrinsics.tolist(),
        )
        for camera in scene.rig.cameras
    ]
    translation = lidar.ego_from_lidar_translation_m.tolist()
    mounts.append((LIDAR_CHANNEL, translation, list(lidar.quaternion_wxyz), []))
    for channel, (radar_translation, radar_quaternion) in RADAR_MOUNTS.items():
        mounts.append((channel, list(radar_translation), list(radar_quaternion), []))
    for channel, position, rotation, intrinsics in mounts:
        tables["calibrated_sensor"].append(
            {
                "token": _calibration_token(scene, channel),
                "sensor_token": make_token("sensor", channel),
                "translation": position,
                "rotation": rotation,
                "camera_intrinsic": intrinsics,
            }
        )


def ego_pose_at(scene: Scene, time_s: float) -> tuple[list[float], list[float]]:
    """Return world translation and quaternion wxyz of the ego."""
    x, y, yaw = sample_tracks(scene.ego.pose[None], time_s)[0]
    world_x, world_y = scene.placement.to_world(float(x), float(y))
    rotation = yaw_to_quaternion(float(yaw) + scene.placement.yaw_rad)
    return [float(world_x), float(world_y), 0.0], list(rotation)


def _add_sensor_data(
    tables: Rows,
    scene: Scene,
    tokens: list[str],
    between: Mapping[str, int],
    lidar_between: int,
) -> None:
    for camera in scene.rig.cameras:
        readings = sensor_readings(len(tokens), between.get(camera.channel, 0))
        _add_channel(tables, scene, tokens, camera.channel, camera.time_offset_us, readings)
    readings = sensor_readings(len(tokens), lidar_between)
    _add_channel(tables, scene, tokens, LIDAR_CHANNEL, 0, readings)


def data_token(scene: Scene, channel: str, reading: SensorReading) -> str:
    """Return the token in `sample_data` of what a sensor measured at one time."""
    time = () if reading.is_key else (reading.since_start_us,)
    return make_token("sample_data", scene.name, channel, reading.sample, *time)


def _add_channel(
    tables: Rows,
    scene: Scene,
    tokens: list[str],
    channel: str,
    offset_us: int,
    readings: list[SensorReading],
) -> None:
    """Add the rows of one sensor to `ego_pose` and `sample_data`."""
    is_lidar = channel == LIDAR_CHANNEL
    height, width = (0, 0) if is_lidar else scene.rig.image_size
    keys = [data_token(scene, channel, reading) for reading in readings]
    for place, (reading, key) in enumerate(zip(readings, keys, strict=True)):
        elapsed = reading.since_start_us + offset_us
        translation, rotation = ego_pose_at(scene, elapsed * 1e-6)
        timestamp = scene.start_us + elapsed
        tables["ego_pose"].append(
            {
                "token": key,
                "timestamp": timestamp,
                "rotation": rotation,
                "translation": translation,
            }
        )
        tables["sample_data"].append(
            {
                "token": key,
                "sample_token": tokens[reading.sample],
                "ego_pose_token": key,
                "calibrated_sensor_token": _calibration_token(scene, channel),
                "timestamp": timestamp,
                "fileformat": "pcd" if is_lidar else "jpg",
                "is_key_frame": reading.is_key,
                "height": height,
                "width": width,
                "filename": data_filename(scene, channel, timestamp, reading.is_key),
                "prev": keys[place - 1] if place else "",
                "next": keys[place + 1] if place + 1 < len(keys) else "",
            }
        )


def _annotated_samples(scene: Scene, sightings: list[Sighting]) -> NDArray[np.bool_]:
    """Return a mask (objects, samples) of the annotated samples of each object.

    They reach from the first to the last sample in which the object is noticed.
    """
    times = [index * SAMPLE_PERIOD_S for index in range(scene.samples)]
    ego = np.stack([sample_tracks(scene.ego.pose[None], t)[0] for t in times])
    poses = np.stack([sample_tracks(scene.poses, t) for t in times], axis=1)
    alive = np.stack([sample_tracks(scene.alive.astype(float), t) > 0.999 for t in times], axis=1)
    near = np.hypot(poses[..., 0] - ego[:, 0], poses[..., 1] - ego[:, 1]) < _ANNOTATED_M
    noticed = np.stack([(s.hits > 0) | (s.visible_px >= _VISIBLE_PX) for s in sightings], axis=1)
    noticed &= alive & near
    noticed_before = np.maximum.accumulate(noticed, axis=1)
    noticed_after = np.maximum.accumulate(noticed[:, ::-1], axis=1)[:, ::-1]
    annotated: NDArray[np.bool_] = noticed_before & noticed_after & alive & near
    return annotated


def _attribute(scene: Scene, index: int, time_s: float) -> list[str]:
    """Return the attribute token of an object at a time, or an empty list."""
    item = scene.objects[index]
    speed = float(sample_tracks(item.track.speed_mps[None], time_s)[0])
    name = {
        Role.TRAFFIC: "vehicle.moving" if speed > _MOVING_MPS else "vehicle.stopped",
        Role.PARKED: "vehicle.parked",
        Role.RIDDEN: "cycle.with_rider",
        Role.UNRIDDEN: "cycle.without_rider",
        Role.PERSON: "pedestrian.moving" if speed > _MOVING_MPS else "pedestrian.standing",
        Role.THING: "",
    }[item.role]
    return [make_token("attribute", name)] if name else []


def _visibility(sighting: Sighting, index: int) -> str:
    """Return the visibility token of an object: "1" for up to 40 %, "4" for more than 80 %."""
    unoccluded = int(sighting.unoccluded_px[index])
    share = int(sighting.visible_px[index]) / unoccluded if unoccluded else 0.0
    return "1" if share <= 0.4 else "2" if share <= 0.6 else "3" if share <= 0.8 else "4"


def _add_annotations(
    tables: Rows, scene: Scene, tokens: list[str], sightings: list[Sighting]
) -> None:
    annotated = _annotated_samples(scene, sightings)
    per_sample: list[list[dict[str, object]]] = [[] for _ in tokens]
    for index, item in enumerate(scene.objects):
        frames = np.nonzero(annotated[index])[0].tolist()
        if not frames:
            continue
        instance = make_token("instance", scene.name, index)
        keys = [make_token("sample_annotation", scene.name, index, i) for i in frames]
        tables["instance"].append(
            {
                "token": instance,
                "category_token": make_token("category", item.model.category),
                "nbr_annotations": len(frames),
                "first_annotation_token": keys[0],
                "last_annotation_token": keys[-1],
            }
        )
        length, width, height = item.model.size_m
        for place, frame in enumerate(frames):
            time_s = frame * SAMPLE_PERIOD_S
            x, y, yaw = sample_tracks(item.track.pose[None], time_s)[0]
            world_x, world_y = scene.placement.to_world(float(x), float(y))
            centre = [float(world_x), float(world_y), height / 2]
            per_sample[frame].append(
                {
                    "token": keys[place],
                    "sample_token": tokens[frame],
                    "instance_token": instance,
                    "visibility_token": _visibility(sightings[frame], index),
                    "attribute_tokens": _attribute(scene, index, time_s),
                    "translation": [round(v, 3) for v in centre],
                    "size": [width, length, height],
                    "rotation": list(yaw_to_quaternion(float(yaw) + scene.placement.yaw_rad)),
                    "prev": keys[place - 1] if place else "",
                    "next": keys[place + 1] if place + 1 < len(keys) else "",
                    "num_lidar_pts": int(sightings[frame].hits[index]),
                    "num_radar_pts": 0,
                }
            )
    for rows in per_sample:
        tables["sample_annotation"] += rows
