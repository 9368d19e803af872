"""Drives of a data set in nuScenes' format as bags of sensor messages, to try a node with.

Topics, with the names of the cameras in place of ``CAMERA``:

* ``/CAMERA/image_raw/compressed`` (or ``/CAMERA/image_raw``) and ``/CAMERA/camera_info``
* ``/odom`` and ``/tf``: ``base_link``, the ego frame, in ``odom`` at the time of every sensor
* ``/tf_static``: each camera in ``base_link``, and ``odom`` in ``map``, which are one frame here
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bevstack.datasets.images import MAX_FILE_BYTES, read_image, read_size
from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.parts import Floats
from bevstack.export.messages.sensors import (
    StampedPose,
    make_camera_info,
    make_compressed_image,
    make_image,
    make_odometry,
    make_transforms,
)
from bevstack.export.messages.store import MessageStore
from bevstack.file_bytes import read_bytes
from bevstack.tables.calibration import (
    check_calibrations,
    ego_from_sensor,
    lens_of_sensor,
    world_from_ego_at,
)
from bevstack.tables.reader import Tables
from bevstack.tables.records import SensorReadings

BASE_LINK, ODOM, MAP = "base_link", "odom", "map"
ODOMETRY_TOPIC = "/odom"
_MAX_GAP_S = 0.5  # between two poses that give a speed


@dataclass(frozen=True)
class DriveSummary:
    """Numbers of a written bag."""

    num_messages: int
    num_pictures: int
    cameras: tuple[str, ...]
    rate_hz: float  # pictures of a camera a second; 0 for a single one


def image_topic(camera: str) -> str:
    """Return the topic of a camera's raw images."""
    return f"/{camera}/image_raw"


def info_topic(camera: str) -> str:
    """Return the topic of a camera's calibration."""
    return f"/{camera}/camera_info"


def optical_frame(camera: str) -> str:
    """Return the frame of a camera: x right, y down, z forward."""
    return f"{camera.lower()}_optical_frame"


def write_drive_bag(
    path: Path, tables: Tables, scene: str, store: MessageStore, *, raw: bool = False
) -> DriveSummary:
    """Write the pictures, calibrations and motion of a scene as a bag, in order of time.

    Pictures between the key frames are written where the data set has them. The time of recording
    of a message is its stamp. Equal input gives equal bytes.

    Args:
        path: the bag.
        tables: the data set.
        scene: name of the scene.
        store: the types of the messages.
        raw: decode the pictures; else the files' bytes are written as they are.

    Raises:
        FileNotFoundError: a picture does not exist.
        ModuleNotFoundError: mcap or rosbags is not installed (the extra ``ros``).
        OSError: the bag cannot be written.
        ValueError: the scene is unknown or has no picture, a calibration or picture is damaged, or
            the path's suffix does not fit the distribution.
    """
    drive = _read_drive(tables, scene)
    count = write_bag(path, _publications(drive, store, raw=raw), store)
    times = [p.timestamp_us for p in drive.pictures if p.channel == drive.pictures[0].channel]
    spacing_us = float(np.median(np.diff(times))) if len(times) > 1 else np.inf
    return DriveSummary(count, len(drive.pictures), drive.channels, 1e6 / spacing_us)


@dataclass(frozen=True)
class _Picture:
    timestamp_us: int
    channel: str
    sensor: int
    path: Path
    size: tuple[int, int]  # (H, W); (0, 0) if the table does not hold it


@dataclass(frozen=True)
class _Drive:
    """Readings of a scene in order of time."""

    tables: Tables
    pictures: Sequence[_Picture]
    channels: tuple[str, ...]
    sensors: tuple[int, ...]  # one a channel
    times_us: NDArray[np.int64]  # (P,) of the poses, ascending
    world_from_ego: NDArray[np.float64]  # (P, 4, 4)


def _read_drive(tables: Tables, scene: str) -> _Drive:
    samples = tables.samples_of_scene(int(tables.scene_rows([scene])[0]))
    rows = tables.calibrated_sensors
    pictures, times, poses = [], [], []
    for readings in (tables.keyframes, tables.sweeps):
        chosen = np.flatnonzero(np.isin(readings.sample, samples))
        times.append(readings.timestamp_us[chosen])
        poses.append(world_from_ego_at(tables, chosen, readings).numpy())
        for row in chosen[rows.is_camera[readings.sensor[chosen]]].tolist():
            pictures.append(_picture(tables, readings, row))
    if not pictures:
        raise ValueError(f"{scene} must have pictures of a camera; got none in {tables.root}")
    pictures.sort(key=lambda picture: (picture.timestamp_us, picture.channel))
    sensor_of = {picture.channel: picture.sensor for picture in pictures}
    check_calibrations(tables, np.array(sorted(sensor_of.values()), dtype=np.int32))
    all_times, first = np.unique(np.concatenate(times), return_index=True)
    channels = tuple(sorted(sensor_of))
    sensors = tuple(sensor_of[channel] for channel in channels)
    all_poses = np.concatenate(poses)[first]
    return _Drive(tables, pictures, channels, sensors, all_times, all_poses)


def _picture(tables: Tables, readings: SensorReadings, row: int) -> _Picture:
    sensor = int(readings.sensor[row])
    height, width = readings.size[row].tolist()
    return _Picture(
        timestamp_us=int(readings.timestamp_us[row]),
        channel=str(tables.calibrated_sensors.channel[sensor]),
        sensor=sensor,
        path=tables.file_path(str(readings.filename[row])),
        size=(height, width),
    )


def _publications(drive: _Drive, store: MessageStore, *, raw: bool) -> Iterator[Publication]:
    start_us = int(drive.times_us[0])
    yield Publication("/tf_static", start_us, _static_transforms(drive, store, start_us))
    velocities = _velocities(drive.times_us, drive.world_from_ego)
    pictures = iter(drive.pictures)
    picture = next(pictures, None)
    for row, time_us in enumerate(drive.times_us.tolist()):
        pose = StampedPose(time_us, drive.world_from_ego[row], ODOM, BASE_LINK)
        yield Publication("/tf", time_us, make_transforms(store, [pose]))
        linear, angular = velocities[row, :3], velocities[row, 3:]
        yield Publication(ODOMETRY_TOPIC, time_us, make_odometry(store, pose, linear, angular))
        while picture is not None and picture.timestamp_us == time_us:
            yield from _picture_messages(drive, picture, store, raw=raw)
            picture = next(pictures, None)


def _static_transforms(drive: _Drive, store: MessageStore, time_us: int) -> Any:
    mounted = ego_from_sensor(drive.tables, np.array(drive.sensors, dtype=np.int32)).numpy()
    poses = [
        StampedPose(time_us, pose, BASE_LINK, optical_frame(channel))
        for channel, pose in zip(drive.channels, mounted, strict=True)
    ]
    return make_transforms(store, [StampedPose(time_us, np.eye(4), MAP, ODOM), *poses])


def _picture_messages(
    drive: _Drive, picture: _Picture, store: MessageStore, *, raw: bool
) -> Iterator[Publication]:
    time_us, frame = picture.timestamp_us, optical_frame(picture.channel)
    size = picture.size if all(picture.size) else read_size(picture.path)
    lens = lens_of_sensor(drive.tables, picture.sensor)
    intrinsics = np.array(drive.tables.calibrated_sensors.intrinsics[picture.sensor])
    info = make_camera_info(store, time_us, frame, size, (intrinsics, lens))
    yield Publication(info_topic(picture.channel), time_us, info)
    topic = image_topic(picture.channel)
    if raw:
        image = read_image(picture.path, size)
        yield Publication(topic, time_us, make_image(store, time_us, frame, image))
    else:
        data = read_bytes(picture.path, "image", max_bytes=MAX_FILE_BYTES)
        message = make_compressed_image(store, time_us, frame, data)
        yield Publication(f"{topic}/compressed", time_us, message)


def _velocities(
    times_us: NDArray[np.int64],  # (P,) ascending
    world_from_ego: Floats,  # (P, 4, 4)
) -> Floats:  # (P, 6) metres and radians per second in the ego's axes
    """Return the motion between the poses before and after each; 0 across a gap."""
    count = len(times_us)
    before = np.maximum(np.arange(count) - 1, 0)
    after = np.minimum(np.arange(count) + 1, count - 1)
    elapsed_s = 1e-6 * (times_us[after] - times_us[before])
    known = (elapsed_s > 0) & (elapsed_s < 2 * _MAX_GAP_S)
    per_s = np.where(known, 1.0, 0.0) / np.where(known, elapsed_s, 1.0)
    rotation = world_from_ego[:, :3, :3]
    moved = world_from_ego[after, :3, 3] - world_from_ego[before, :3, 3]
    linear = np.einsum("pji,pj->pi", rotation, moved)
    turned = np.swapaxes(rotation[before], 1, 2) @ rotation[after]
    angular = Rotation.from_matrix(turned).as_rotvec()
    velocity: Floats = np.concatenate((linear, angular), 1) * per_s[:, None]
    return velocity
