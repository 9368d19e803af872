"""Drives of the synthetic world with all cameras, kept as JPEG in one file a scene.

A camera-hour at 12 Hz holds 43,200 pictures. Two successive pictures of 12 Hz, twice a second, are
a third of them and hold the same evidence: the checks compare successive pictures of one camera
about twice a second at any rate.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.synthetic.population.traffic import sample_tracks
from bevstack.synthetic.recording.camera import freeze, take_picture
from bevstack.synthetic.recording.labels import ego_pose_at
from bevstack.synthetic.recording.readings import sensor_readings
from bevstack.synthetic.recording.recording import SWEEPS_BETWEEN, SensorDraws
from bevstack.synthetic.rig import quaternion_to_matrix
from bevstack.synthetic.scene import Scene, build_scene
from bevstack.synthetic.spec import WorldSpec
from bevstack.types import Frame


@dataclass(frozen=True)
class Drive:
    """Pictures of one scene in order of time, with poses.

    Letters: F moments, N cameras.
    """

    name: str
    description: str
    camera_names: tuple[str, ...]  # N
    intrinsics: NDArray[np.float64]  # (N, 3, 3) pixels
    ego_from_cam: NDArray[np.float64]  # (N, 4, 4)
    time_us: NDArray[np.int64]  # (F,)
    camera_time_us: NDArray[np.int64]  # (F, N)
    world_from_ego: NDArray[np.float64]  # (F, 4, 4)
    world_from_ego_at_camera: NDArray[np.float64]  # (F, N, 4, 4)
    speed_mps: NDArray[np.float64]  # (F,)
    jpegs: tuple[tuple[bytes, ...], ...]  # F of N

    def __len__(self) -> int:
        """Return F."""
        return len(self.time_us)

    def frame(self, index: int, cameras: Sequence[int] | None = None) -> Frame:
        """Decode the pictures of one moment, of some cameras or all."""
        rows = list(range(len(self.camera_names))) if cameras is None else list(cameras)
        return Frame(
            images=[decode(self.jpegs[index][row]) for row in rows],
            intrinsics=torch.from_numpy(self.intrinsics[rows]),
            ego_from_cam=torch.from_numpy(self.ego_from_cam[rows]),
            camera_names=tuple(self.camera_names[row] for row in rows),
            timestamp_us=int(self.time_us[index]),
            camera_timestamp_us=tuple(self.camera_time_us[index, rows].tolist()),
            world_from_ego=torch.from_numpy(self.world_from_ego[index]),
            world_from_ego_at_camera=torch.from_numpy(self.world_from_ego_at_camera[index, rows]),
            scene_token=self.name,
            rig_checked=True,
        )


def decode(jpeg: bytes) -> NDArray[np.uint8]:  # (H, W, 3) RGB
    """Decode one picture."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None  # encoded by ``render_drive``
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def open_drive(spec: WorldSpec, split: str, name: str, folder: Path | None) -> Drive:
    """Return a drive of a split, rendered once and then read from ``folder`` if given.

    With ``spec.sweeps`` it has all pictures at 12 Hz, else two successive ones every 0.5 s.
    """
    path = None if folder is None else folder / f"{name}_{fingerprint(spec, split)}.npz"
    if path is not None and path.is_file():
        return read_drive(path)
    drive = render_drive(spec, name)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_drive(drive, path)
    return drive


def fingerprint(spec: WorldSpec, split: str) -> str:
    """Return a text that names the settings of a split's pictures.

    The number of its scenes is one of them: it decides which scene shows which rare class.
    """
    height, width = spec.image_size
    rate = "all" if spec.sweeps else "pairs"
    count = len(spec.split_scenes[split])
    return f"{spec.seed}_{width}x{height}_{spec.samples_per_scene}_{spec.weather}_{rate}_{count}"


def render_drive(spec: WorldSpec, name: str) -> Drive:
    """Render a scene of a world."""
    scene = build_scene(spec, name)
    draws = SensorDraws(spec, scene)
    readings = sensor_readings(scene.samples, SWEEPS_BETWEEN)
    if not spec.sweeps:
        after = [*readings[1:], readings[-1]]
        readings = [
            one
            for one, following in zip(readings, after, strict=True)
            if one.is_key or following.is_key
        ]
    cameras = scene.rig.cameras
    offsets_us = np.array([camera.time_offset_us for camera in cameras])
    since_us = np.array([reading.since_start_us for reading in readings])
    jpegs = []
    for time_us in since_us:
        row = []
        for number, camera in enumerate(cameras):
            moment = freeze(scene, float(time_us + offsets_us[number]) * 1e-6)
            picture = take_picture(scene, moment, camera, draws.sensor(number))
            quality = [cv2.IMWRITE_JPEG_QUALITY, spec.jpeg_quality]
            row.append(cv2.imencode(".jpg", picture.image, quality)[1].tobytes())
        jpegs.append(tuple(row))
    poses = np.repeat(np.eye(4)[None], len(cameras), 0)
    for pose, camera in zip(poses, cameras, strict=True):
        pose[:3, :3] = camera.ego_from_cam_rotation
        pose[:3, 3] = camera.ego_from_cam_translation_m
    speed = scene.ego.speed_mps[None, :, None]
    return Drive(
        name=name,
        description=scene.description,
        camera_names=tuple(camera.channel for camera in cameras),
        intrinsics=np.stack([camera.intrinsics for camera in cameras]),
        ego_from_cam=poses,
        time_us=scene.start_us + since_us,
        camera_time_us=scene.start_us + since_us[:, None] + offsets_us,
        world_from_ego=np.stack([_pose(scene, time * 1e-6) for time in since_us]),
        world_from_ego_at_camera=np.stack(
            [[_pose(scene, (t + offset) * 1e-6) for offset in offsets_us] for t in since_us]
        ),
        speed_mps=np.array([float(sample_tracks(speed, t * 1e-6)[0, 0]) for t in since_us]),
        jpegs=tuple(jpegs),
    )


def _pose(scene: Scene, time_s: float) -> NDArray[np.float64]:  # (4, 4) world_from_ego
    translation, quaternion = ego_pose_at(scene, float(time_s))
    pose = np.eye(4)
    pose[:3, :3] = quaternion_to_matrix(tuple(quaternion))
    pose[:3, 3] = translation
    return pose


_ARRAYS = (
    "intrinsics",
    "ego_from_cam",
    "time_us",
    "camera_time_us",
    "world_from_ego",
    "world_from_ego_at_camera",
    "speed_mps",
)


def write_drive(drive: Drive, path: Path) -> None:
    """Write a drive to one file."""
    data = [jpeg for row in drive.jpegs for jpeg in row]
    texts = {
        "name": drive.name,
        "description": drive.description,
        "cameras": list(drive.camera_names),
    }
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        texts=np.frombuffer(json.dumps(texts).encode(), np.uint8),
        lengths=np.array([len(jpeg) for jpeg in data]),
        jpegs=np.frombuffer(b"".join(data), np.uint8),
        **{name: getattr(drive, name) for name in _ARRAYS},
    )
    partial.replace(path)


def read_drive(path: Path) -> Drive:
    """Read a drive that ``write_drive`` wrote."""
    with np.load(path) as file:
        values = {name: file[name] for name in _ARRAYS}
        texts = json.loads(file["texts"].tobytes())
        ends = np.cumsum(file["lengths"])
        content = file["jpegs"].tobytes()
    starts = np.concatenate(([0], ends[:-1]))
    data = [content[start:end] for start, end in zip(starts, ends, strict=True)]
    count = len(texts["cameras"])
    rows = tuple(tuple(data[i : i + count]) for i in range(0, len(data), count))
    return Drive(
        name=texts["name"],
        description=texts["description"],
        camera_names=tuple(texts["cameras"]),
        jpegs=rows,
        **values,
    )


__all__ = ["Drive", "decode", "open_drive", "read_drive", "render_drive", "write_drive"]
