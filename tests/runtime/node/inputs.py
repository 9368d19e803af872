"""Messages of a small rig for tests of the node, and a detector that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from bevstack.config import Config
from bevstack.runtime.node.core import NodeCore
from bevstack.runtime.node.inputs import CameraInfo, FileImage, Odometry, PixelImage, Transform
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.stream_protocol import StreamState
from bevstack.tracking import Tracks
from bevstack.types import Boxes3D, Clip, Detections, Frame, Reset
from tests.small_world import CONFIG
from tests.tables.tiny_root import SIX, camera_rotation

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK")
START_US = 1_600_000_000_000_000
PERIOD_US = 100_000
OFFSETS_US = dict(zip(CAMERAS, (0, 7_000, 14_000, 21_000), strict=True))
SIZE = (24, 40)
YAWS = dict(SIX)


@dataclass
class FakeStream:
    """Stream that returns one box for each working camera, and refuses what it is asked to."""

    uses_history: bool = True
    reset: Reset = Reset.START
    frames: list[Frame] = field(default_factory=list)
    refuse: bool = False

    @property
    def tracks(self) -> Tracks:
        return Tracks.empty()

    @property
    def state(self) -> StreamState:
        return StreamState(reset=self.reset)

    def step(self, frame: Frame) -> Detections:
        if self.refuse:
            raise ValueError("frame must be usable; got one to refuse")
        if frame.world_from_ego is None and self.uses_history:
            raise ValueError("world_from_ego must be given; got none")
        self.reset = Reset.START if not self.frames else Reset.NONE
        self.frames.append(frame)
        return boxes_for(frame)


@dataclass
class FakeDetector:
    """Detector whose streams are ``FakeStream``; they are kept in the order of their making."""

    streams: list[FakeStream] = field(default_factory=list)
    config: Config = CONFIG
    class_names: tuple[str, ...] = CONFIG.class_names
    mode: str = "fake"
    singles: list[Frame] = field(default_factory=list)

    def fingerprint(self) -> str:
        return "0123456789abcdef" * 4

    def predict(self, frame: Frame) -> Detections:
        self.singles.append(frame)
        return boxes_for(frame)

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        return [self.predict(frame) for frame in frames]

    def predict_clip(self, clip: Clip) -> Detections:
        return self.predict(clip.current)

    def stream(self) -> FakeStream:
        self.streams.append(FakeStream())
        return self.streams[-1]

    def step_together(
        self, streams: Sequence[FakeStream], frames: Sequence[Frame]
    ) -> list[Detections]:
        return [s.step(f) for s, f in zip(streams, frames, strict=True)]

    @property
    def frames(self) -> list[Frame]:
        """Return the frames of all streams in order."""
        return [frame for stream in self.streams for frame in stream.frames]


def boxes_for(frame: Frame) -> Detections:
    """Return a box 10 m in front of each working camera."""
    assert frame.camera_mask is not None
    poses = frame.ego_from_cam[frame.camera_mask]
    count = len(poses)
    boxes = Boxes3D(
        center=(poses[:, :3, 3] + 10 * poses[:, :3, 2]).float(),
        size=torch.tensor([4.0, 2.0, 1.5]).expand(count, 3),
        yaw=torch.zeros(count),
        velocity=torch.tensor([1.0, 0.0]).expand(count, 2),
    )
    scores = torch.linspace(0.9, 0.5, count)
    return Detections(boxes, scores, torch.zeros(count, dtype=torch.long), CONFIG.class_names)


def picture(seed: int = 0) -> np.ndarray:
    """Return smooth random pixels, RGB."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (6, 10, 3), dtype=np.uint8)
    return cv2.resize(noise, SIZE[::-1])


def jpeg(seed: int = 0) -> bytes:
    """Return a picture as JPEG."""
    return cv2.imencode(".jpg", picture(seed)[..., ::-1])[1].tobytes()


JPEGS = [jpeg(seed) for seed in range(4)]


def file_image(camera: str, stamp_us: int, data: bytes | None = None) -> FileImage:
    """Return a compressed image."""
    data = JPEGS[stamp_us // PERIOD_US % len(JPEGS)] if data is None else data
    name = f"{camera.lower()}_optical_frame"
    return FileImage(timestamp_us=stamp_us, frame_id=name, format="jpeg", data=data)


def pixel_image(stamp_us: int = START_US, **changes: object) -> PixelImage:
    """Return a raw image of rgb8 with changed fields."""
    values: dict[str, object] = {
        "timestamp_us": stamp_us,
        "frame_id": "cam_front_optical_frame",
        "size": SIZE,
        "encoding": "rgb8",
        "is_bigendian": False,
        "step": 3 * SIZE[1],
        "data": picture().reshape(-1),
    }
    return PixelImage(**{**values, **changes})  # type: ignore[arg-type]


def info(camera: str, stamp_us: int = START_US, **changes: object) -> CameraInfo:
    """Return the calibration of a camera with changed fields."""
    k = np.array([[30.0, 0.0, 20.5], [0.0, 30.0, 11.5], [0.0, 0.0, 1.0]])
    p = np.concatenate((k, np.zeros((3, 1))), 1)
    values: dict[str, object] = {
        "timestamp_us": stamp_us,
        "frame_id": f"{camera.lower()}_optical_frame",
        "size": SIZE,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": k,
        "r": np.eye(3),
        "p": p,
    }
    return CameraInfo(**{**values, **changes})  # type: ignore[arg-type]


def mounted(camera: str) -> Transform:
    """Return the place of a camera on the vehicle."""
    yaw_deg = YAWS[camera]
    angle = np.radians(yaw_deg)
    return Transform(
        timestamp_us=START_US,
        parent="base_link",
        child=f"{camera.lower()}_optical_frame",
        translation_m=np.array((1.2 * np.cos(angle), 0.6 * np.sin(angle), 1.6)),
        rotation_wxyz=np.array(camera_rotation(yaw_deg)),
        is_static=True,
    )


def odometry(stamp_us: int, **changes: object) -> Odometry:
    """Return the pose of a vehicle that drives along x with 5 m/s."""
    values: dict[str, object] = {
        "timestamp_us": stamp_us,
        "parent": "odom",
        "child": "base_link",
        "translation_m": np.array((5e-6 * (stamp_us - START_US), 0.0, 0.0)),
        "rotation_wxyz": np.array((1.0, 0.0, 0.0, 0.0)),
    }
    return Odometry(**{**values, **changes})  # type: ignore[arg-type]


def make_core(**settings: object) -> tuple[NodeCore, FakeDetector]:
    """Return a node of four cameras that knows its calibration, and its detector."""
    detector = FakeDetector()
    # No step is slow: the processors of a test are shared.
    parameters = Parameters({"cameras": CAMERAS, "max_processing_time_ms": 60_000, **settings})
    parameters.configured()
    core = NodeCore(detector, parameters)
    for camera in CAMERAS:
        core.add_transform(mounted(camera))
        core.add_info(camera, info(camera), START_US - PERIOD_US)
    return core, detector
