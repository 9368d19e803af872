"""A drive of six small cameras at 10 Hz as a bag, and a detector that watches its pictures.

The detector judges the pictures as every stream does, and returns a box for each usable camera in
place of a model's, so that many drives run in a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.sensors import (
    StampedPose,
    make_camera_info,
    make_compressed_image,
    make_image,
    make_odometry,
    make_transforms,
)
from bevstack.export.messages.store import MessageStore
from bevstack.geometry import se3_from_parts
from bevstack.runtime.health import HealthMonitor
from bevstack.runtime.stream_protocol import StreamState
from bevstack.types import Detections, Frame, Reset
from bevstack.vocabulary import CAMERA_CHANNELS
from tests.runtime.node.inputs import (
    PERIOD_US,
    START_US,
    FakeDetector,
    FakeStream,
    boxes_for,
    mounted,
)

CAMERAS = CAMERA_CHANNELS
OFFSETS_US = {camera: 7_000 * number for number, camera in enumerate(CAMERAS)}
SIZE = (40, 64)
SPEED_MPS = 5.0
_K = np.array([[48.0, 0.0, 32.5], [0.0, 48.0, 19.5], [0.0, 0.0, 1.0]])


@dataclass
class WatchingStream(FakeStream):
    """Stream that judges its cameras, and returns a box for each usable one."""

    monitor: HealthMonitor = field(default_factory=HealthMonitor)

    @property
    def state(self) -> StreamState:
        return StreamState(reset=self.reset, health=self.monitor.states)

    def step(self, frame: Frame) -> Detections:
        admitted = self.monitor.admit(frame)
        self.frames.append(admitted)
        if not bool(admitted.camera_mask.any()):
            raise ValueError("frame must have a usable camera; got none")
        self.reset = Reset.NONE
        return boxes_for(admitted)


@dataclass
class WatchingDetector(FakeDetector):
    """Detector whose streams judge their cameras; ``frames`` are masked by what they found."""

    def stream(self) -> FakeStream:
        self.streams.append(WatchingStream())
        return self.streams[-1]


def frame_id(camera: str) -> str:
    """Return the optical frame of a camera."""
    return f"{camera.lower()}_optical_frame"


def picture(camera: int, number: int) -> NDArray[np.uint8]:  # (H, W, 3)
    """Return sharp random blocks, RGB; smooth ones would be those of a blurred camera."""
    rng = np.random.default_rng((camera, number))
    blocks = rng.integers(0, 255, (10, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(blocks, SIZE[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return a picture as JPEG."""
    return cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()


def places(store: MessageStore) -> Any:
    """Return the message of /tf_static."""
    poses = []
    for camera in CAMERAS:
        place = mounted(camera)
        rotation, translation = map(torch.from_numpy, (place.rotation_wxyz, place.translation_m))
        matrix = se3_from_parts(rotation, translation).numpy()
        poses.append(StampedPose(START_US, matrix, "base_link", place.child))
    return make_transforms(store, poses)


def odometry(store: MessageStore, time_us: int) -> Any:
    """Return the pose of a vehicle that drives along x."""
    matrix = np.eye(4)
    matrix[0, 3] = SPEED_MPS * 1e-6 * (time_us - START_US)
    pose = StampedPose(time_us, matrix, "odom", "base_link")
    return make_odometry(store, pose, np.array((SPEED_MPS, 0.0, 0.0)), np.zeros(3))


def cycle(
    store: MessageStore, number: int, *, raw: bool = False, start_us: int = START_US
) -> Iterator[Publication]:
    """Yield the messages of 0.1 s: poses at 50 Hz, an image a camera, each second calibrations."""
    from_us = start_us + number * PERIOD_US
    for time_us in range(from_us, from_us + PERIOD_US, PERIOD_US // 5):
        yield Publication("/odom", time_us, odometry(store, time_us))
    for index, camera in enumerate(CAMERAS):
        time_us = from_us + OFFSETS_US[camera]
        if number % 10 == 0:
            info = make_camera_info(store, time_us, frame_id(camera), SIZE, (_K, None))
            yield Publication(f"/{camera}/camera_info", time_us, info)
        pixels, topic = picture(index, number), f"/{camera}/image_raw"
        if raw:
            image = make_image(store, time_us, frame_id(camera), pixels)
            yield Publication(topic, time_us, image)
        else:
            image = make_compressed_image(store, time_us, frame_id(camera), jpeg(pixels))
            yield Publication(f"{topic}/compressed", time_us, image)


def drive(store: MessageStore, cycles: int, *, raw: bool = False) -> list[Publication]:
    """Return the messages of a drive in the order of time."""
    found = [Publication("/tf_static", START_US, places(store))]
    for number in range(cycles):
        found += cycle(store, number, raw=raw)
    return sorted(found, key=lambda publication: publication.timestamp_us)


def write_drive(path: Path, store: MessageStore, cycles: int, *, raw: bool = False) -> Path:
    """Write a drive as a bag."""
    write_bag(path, drive(store, cycles, raw=raw), store)
    return path
