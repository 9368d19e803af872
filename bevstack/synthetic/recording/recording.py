"""Recording of one scene: images, lidar sweeps, map and CAN bus as files, and table rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.files import naming
from bevstack.synthetic.population.traffic import DT_S, sample_tracks
from bevstack.synthetic.recording.camera import Picture, Sensor, freeze, take_picture, take_sweep
from bevstack.synthetic.recording.dense import encode_labels, instance_classes, label_picture
from bevstack.synthetic.recording.labels import (
    Row,
    Rows,
    Sighting,
    data_filename,
    data_token,
    ego_pose_at,
    scene_rows,
)
from bevstack.synthetic.recording.readings import SensorReading, sensor_readings
from bevstack.synthetic.recording.traffic_element_labels import control_rows, lane_rows
from bevstack.synthetic.recording.traffic_tables import ego_lane_rows, state_rows
from bevstack.synthetic.renderer.weather import Drop, draw_drops, draw_rain_field
from bevstack.synthetic.rig import FRONT_CAMERA
from bevstack.synthetic.scene import SAMPLE_PERIOD_S, Scene, build_scene
from bevstack.synthetic.spec import WorldSpec
from bevstack.synthetic.streets.ground import ROAD, TEXELS_PER_M
from bevstack.tables.names import (
    DENSE_LABEL_TABLE,
    EGO_LANE_TABLE,
    LANE_TABLE,
    LIDAR_CHANNEL,
    TRAFFIC_ELEMENT_TABLE,
    TRAFFIC_STATE_TABLE,
)
from bevstack.tables.writer import make_token

_NOISE_LEVELS = 2.2  # standard deviation of the sensor noise, in units of 0..255
SWEEPS_BETWEEN = 5  # camera images between two keyframes: 12 Hz with the keyframes
LIDAR_SWEEPS_BETWEEN = 9  # revolutions of the lidar between two keyframes: 20 Hz with the keyframes
_CAN_PERIOD_S = 0.02  # 50 Hz


@dataclass(frozen=True)
class Recording:
    """Table rows of a scene and digests of its files."""

    rows: Rows  # of the 13 tables
    extra_rows: Rows  # of `traffic_element`, `lane` and further traffic tables
    digests: dict[str, str]  # path below the root -> SHA-256 of the bytes


class _Folder:
    """Writer of files below a root, with their digests and the rows of dense labels.

    Args:
        root: of the data set.
        semantics: class of each instance of the scene; None: write no dense labels.
    """

    def __init__(self, root: Path, semantics: NDArray[np.uint8] | None) -> None:
        self._root = root
        self._made: set[Path] = set()
        self.digests: dict[str, str] = {}
        self.semantics = semantics
        self.dense_rows: list[Row] = []

    def write(self, path: str, content: bytes) -> None:
        """Write a file and its missing folders, and store the digest."""
        target = self._root / path
        if target.parent not in self._made:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(target.parent)
        with naming(target):
            target.write_bytes(content)
        self.digests[path] = hashlib.sha256(content).hexdigest()


def sensor_noise(spec: WorldSpec) -> NDArray[np.float32]:
    """Return the field of sensor noise (512, 512) of a world; each image uses it from an offset."""
    rng = np.random.default_rng(spec.seed)
    return rng.normal(0.0, _NOISE_LEVELS, (512, 512)).astype(np.float32)


class SensorDraws:
    """Random properties of a scene's cameras: some for the whole scene, some for each image.

    Args:
        spec: of the world.
        scene: the scene.
    """

    def __init__(self, spec: WorldSpec, scene: Scene) -> None:
        digest = hashlib.sha256(f"sensors/{spec.seed}/{scene.name}".encode()).digest()
        self.rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
        light, cameras = scene.light, len(scene.rig.cameras)
        balance = 1.0 + self.rng.uniform(-0.02, 0.02, (cameras, 3))
        self._gains = light.exposure * self.rng.uniform(0.95, 1.05, (cameras, 1)) * balance
        self._noise = sensor_noise(spec) * np.float32(light.noise)
        self._drops: list[tuple[Drop, ...]] = [()] * cameras
        if light.is_wet:
            self._noise = self._noise + draw_rain_field(self.rng, spec.image_size[0])
            self._drops = [draw_drops(self.rng) for _ in range(cameras)]
        self._supersampling = spec.supersampling

    def sensor(self, camera: int) -> Sensor:
        """Draw the properties of a camera for its next image."""
        row, column = (int(v) for v in self.rng.integers(0, self._noise.shape[0], 2))
        return Sensor(
            supersampling=self._supersampling,
            gains=self._gains[camera],
            noise=self._noise,
            noise_at=(row, column),
            drops=self._drops[camera],
        )


def record_scene(spec: WorldSpec, name: str, root: Path) -> Recording:
    """Build a scene, render it and write its files below `root`.

    Raises:
        ValueError: the world has no scene of this name.
    """
    scene = build_scene(spec, name)
    folder = _Folder(root, instance_classes(scene) if spec.dense_labels else None)
    draws = SensorDraws(spec, scene)
    extra: Rows = {TRAFFIC_ELEMENT_TABLE: [], LANE_TABLE: lane_rows(scene)}
    if scene.lanes is not None:
        extra[EGO_LANE_TABLE] = ego_lane_rows(scene, scene.lanes)
        extra[TRAFFIC_STATE_TABLE] = state_rows(scene)
    sightings = [
        _record_sample(spec, scene, index, folder, draws, extra[TRAFFIC_ELEMENT_TABLE])
        for index in range(scene.samples)
    ]
    between = _images_between(spec, scene)
    for reading in sensor_readings(scene.samples, SWEEPS_BETWEEN):
        for number, camera in enumerate(scene.rig.cameras):
            if not reading.is_key and between[camera.channel]:
                _record_picture(spec, scene, number, reading, folder, draws)
    lidar_between = LIDAR_SWEEPS_BETWEEN if spec.sweeps else 0
    for reading in sensor_readings(scene.samples, lidar_between):
        if not reading.is_key:
            _record_sweep(spec, scene, reading, folder, draws)
    rows = scene_rows(scene, sightings, between, lidar_between)
    _record_map(scene, folder, rows)
    _record_can_bus(scene, folder)
    if spec.dense_labels:
        extra[DENSE_LABEL_TABLE] = folder.dense_rows
    return Recording(rows, extra, folder.digests)


def _images_between(spec: WorldSpec, scene: Scene) -> dict[str, int]:
    """Return the number of images of each camera between two keyframes."""
    front = spec.front_sweeps and spec.split_of(scene.name)[0] == "test"
    front |= spec.drives
    return {
        camera.channel: SWEEPS_BETWEEN
        if spec.sweeps or (front and camera.channel == FRONT_CAMERA)
        else 0
        for camera in scene.rig.cameras
    }


def _record_sample(
    spec: WorldSpec,
    scene: Scene,
    index: int,
    folder: _Folder,
    draws: SensorDraws,
    controls: list[Row],
) -> Sighting:
    """Record all sensors at a keyframe and append the rows of traffic lights and signs."""
    visible = np.zeros(len(scene.objects), np.int64)
    unoccluded = np.zeros(len(scene.objects), np.int64)
    per_pixel = spec.supersampling**2
    key = SensorReading(int(index * SAMPLE_PERIOD_S * 1e6), index, True)
    for number, camera in enumerate(scene.rig.cameras):
        picture = _record_picture(spec, scene, number, key, folder, draws)
        controls += control_rows(scene, index, camera, picture, per_pixel)
        visible += picture.visible_px
        unoccluded += picture.unoccluded_px
    hits = _record_sweep(spec, scene, key, folder, draws)
    return Sighting(hits, visible // per_pixel, unoccluded // per_pixel)


def _record_sweep(
    spec: WorldSpec, scene: Scene, reading: SensorReading, folder: _Folder, draws: SensorDraws
) -> NDArray[np.int64]:
    """Simulate and write a revolution of the lidar; return the points (objects,) on each object."""
    moment = freeze(scene, reading.since_start_us * 1e-6)
    sweep = take_sweep(scene, moment, spec.lidar_azimuths, draws.rng)
    time_us = scene.start_us + reading.since_start_us
    path = data_filename(scene, LIDAR_CHANNEL, time_us, reading.is_key)
    folder.write(path, sweep.points.astype("<f4").tobytes())
    return sweep.hits


def _record_picture(
    spec: WorldSpec,
    scene: Scene,
    number: int,
    reading: SensorReading,
    folder: _Folder,
    draws: SensorDraws,
) -> Picture:
    """Render and write an image at the exposure time of a camera."""
    camera = scene.rig.cameras[number]
    elapsed_us = reading.since_start_us + camera.time_offset_us
    moment = freeze(scene, elapsed_us * 1e-6)
    picture = take_picture(scene, moment, camera, draws.sensor(number))
    encoded = cv2.imencode(".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, spec.jpeg_quality])[1]
    path = data_filename(scene, camera.channel, scene.start_us + elapsed_us, reading.is_key)
    folder.write(path, encoded.tobytes())
    if folder.semantics is not None:
        labels = label_picture(scene, folder.semantics, moment, camera, picture)
        files, row = encode_labels(labels, path, data_token(scene, camera.channel, reading))
        for name, content in files.items():
            folder.write(name, content)
        folder.dense_rows.append(row)
    return picture


def _record_map(scene: Scene, folder: _Folder, rows: Rows) -> None:
    """Write the drivable area around the scene: 10 px/m, 255 = drivable, row 0 = highest y.

    nuScenes' maps start at the world's origin. This one covers the scene alone, and its table row
    has the world position of its lower left corner, `corner_m`.
    """
    ground = scene.ground
    mask = ((ground.surface == ROAD) * np.uint8(255)).astype(np.uint8)
    height, width = mask.shape
    corners = (
        ground.corner_m
        + np.array([[0, 0], [width, 0], [0, height], [width, height]]) / TEXELS_PER_M
    )
    x, y = scene.placement.to_world(corners[:, 0], corners[:, 1])
    low = np.array([np.floor(x.min()), np.floor(y.min())])
    size = np.ceil(np.array([x.max(), y.max()]) - low).astype(int) * int(TEXELS_PER_M)
    source = np.array([[0, 0], [width, 0], [0, height]], np.float32) - np.float32(0.5)
    target = np.stack([x[:3] - low[0], y[:3] - low[1]], axis=1) * TEXELS_PER_M
    target[:, 1] = size[1] - target[:, 1]
    affine = cv2.getAffineTransform(source, (target - 0.5).astype(np.float32))
    turned = cv2.warpAffine(mask, affine, (int(size[0]), int(size[1])), flags=cv2.INTER_NEAREST)
    token = make_token("map", scene.name)
    path = f"maps/{token}.png"
    folder.write(path, cv2.imencode(".png", turned, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())
    rows["map"].append(
        {
            "token": token,
            "category": "semantic_prior",
            "filename": path,
            "log_tokens": [rows["log"][0]["token"]],
            "corner_m": low.tolist(),
            "pixels_per_m": TEXELS_PER_M,
        }
    )


def _record_can_bus(scene: Scene, folder: _Folder) -> None:
    """Write the pose channel of the CAN bus at 50 Hz, in the format of nuScenes' expansion."""
    messages = []
    duration = (scene.samples - 1) * SAMPLE_PERIOD_S
    speeds = scene.ego.speed_mps
    accelerations = np.gradient(speeds, DT_S)
    yaw_rates = np.gradient(scene.ego.pose[:, 2], DT_S)
    signals = np.stack([speeds, accelerations, yaw_rates], axis=1)[None]
    for step in range(round(duration / _CAN_PERIOD_S) + 1):
        time_s = step * _CAN_PERIOD_S
        position, orientation = ego_pose_at(scene, time_s)
        speed, acceleration, yaw_rate = (float(v) for v in sample_tracks(signals, time_s)[0])
        messages.append(
            {
                "accel": [acceleration, speed * yaw_rate, 9.81],
                "orientation": orientation,
                "pos": position,
                "rotation_rate": [0.0, 0.0, yaw_rate],
                "utime": scene.start_us + round(time_s * 1e6),
                "vel": [speed, 0.0, 0.0],
            }
        )
    folder.write(f"can_bus/{scene.name}_pose.json", json.dumps(messages).encode())
    folder.write(f"can_bus/{scene.name}_meta.json", b"{}")
