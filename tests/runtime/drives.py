"""Drives with a user's own cameras: scenes of the small world as rig file, pictures and table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types import Frame


def pose_entry(translation: NDArray[np.float64], rotation: NDArray[np.float64]) -> dict[str, Any]:
    """Return a pose as rig files and tables of frames hold it."""
    return {"rotation_wxyz": rotation.tolist(), "translation_m": translation.tolist()}


def scene_rows(data: NuScenesDataset, scene: str) -> list[dict[str, int]]:
    """Return the key-frame rows of each sample of a scene by camera."""
    sensors = data.tables.calibrated_sensors
    names = sensors.channel[data.tables.keyframes.sensor]
    samples = [data.tables.sample_row(data.sample_token(i)) for i in data.scene_indices()[scene]]
    return [
        {str(names[r]): int(r) for r in data.tables.keyframes_of(s) if "CAM" in str(names[r])}
        for s in samples
    ]


def write_rig(data: NuScenesDataset, scene: str, path: Path) -> Path:
    """Write the calibration of a scene's cameras as a rig file."""
    tables = data.tables
    frame = data.frame(data.scene_indices()[scene][0])
    rows = scene_rows(data, scene)[0]
    cameras = []
    for name, image in zip(frame.camera_names, frame.images, strict=True):
        sensor = tables.keyframes.sensor[rows[name]]
        sensors = tables.calibrated_sensors
        assert image is not None
        cameras.append(
            {
                "name": name,
                "width": image.shape[1],
                "height": image.shape[0],
                "intrinsics": sensors.intrinsics[sensor].tolist(),
                "ego_from_cam": pose_entry(sensors.translation[sensor], sensors.rotation[sensor]),
            }
        )
    path.write_text(json.dumps({"format": "bevstack-rig-1", "cameras": cameras}))
    return path


def export_scene(data: NuScenesDataset, scene: str, folder: Path) -> Path:
    """Write a scene as a drive: its JPEG files, and a table with times and poses of all cameras."""
    tables = data.tables
    folder.mkdir(parents=True)
    write_rig(data, scene, folder / "rig.json")
    frames = []
    for index, rows in zip(data.scene_indices()[scene], scene_rows(data, scene), strict=True):
        frame = data.frame(index, load_images=False)
        cameras = {}
        for name, row in rows.items():
            keyframes = tables.keyframes
            time_us = int(keyframes.timestamp_us[row])
            target = folder / name / f"{time_us}.jpg"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(tables.file_path(str(keyframes.filename[row])), target)
            cameras[name] = {
                "image": f"{name}/{target.name}",
                "timestamp_us": time_us,
                "world_from_ego": pose_entry(keyframes.translation[row], keyframes.rotation[row]),
            }
        assert frame.world_from_ego is not None
        frames.append(
            {
                "timestamp_us": frame.timestamp_us,
                "world_from_ego": frame.world_from_ego.tolist(),
                "cameras": cameras,
            }
        )
    write_table(folder, frames)
    return folder


def write_table(folder: Path, frames: Any, **more: Any) -> Path:
    """Write a table of frames; None leaves them out."""
    path = folder / "frames.json"
    listed = {} if frames is None else {"frames": frames}
    path.write_text(json.dumps({"format": "bevstack-frames-1", **listed, **more}))
    return path


def read_table(folder: Path) -> Any:
    """Return the content of a drive's table."""
    return json.loads((folder / "frames.json").read_text())


def write_video(
    path: Path, pictures: Sequence[NDArray[np.uint8]], fps: float, codec: str = "mp4v"
) -> Path:
    """Write RGB pictures as a video."""
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    """Return all RGB pictures of a video."""
    capture = cv2.VideoCapture(str(path))
    pictures = []
    while True:
        is_whole, picture = capture.read()
        if not is_whole:
            return pictures
        pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def same_frames(got: Frame, wanted: Frame) -> bool:
    """Return True if the images and cameras of two frames are equal, bit for bit."""
    pairs = zip(got.images, wanted.images, strict=True)
    return all(
        (a is None) == (b is None) and (a is None or b is None or np.array_equal(a, b))
        for a, b in pairs
    )
