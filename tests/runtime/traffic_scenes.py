"""A street with a traffic light, a predictor that knows it, and a detector without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch

from bevstack.runtime.stream_protocol import Stream, StreamState, step_each
from bevstack.tracking import Tracks
from bevstack.types import Boxes3D, Detections, Frame, Reset
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import (
    LAMP_SHAPES,
    LIGHT_COLORS,
    MANOEUVRES,
    SIGN_MEANINGS,
    TRAFFIC_LIGHT,
)
from tests.render.scenes import pose_of_camera
from tests.runtime.health.frames import texture
from tests.small_world import CONFIG

SIZE = (90, 160)  # of the images
SPEED_MPS = 8.0
LIGHT_M = np.array([60.0, 0.0, 5.0])  # in the world: over the own lane
START_US = 1_700_000_000_000_000
INTRINSICS = np.array([[160.0, 0, 80.0], [0, 160.0, 45.0], [0, 0, 1.0]])
NAMES = ("CAM_FRONT", "CAM_BACK")


def street_frame(
    time_s: float,
    *,
    scene: str = "street",
    lost: Sequence[str] = (),
    pose: bool = True,
    manoeuvre: str = "",
) -> Frame:
    """Return the frame at a time of a drive at constant speed towards the light."""
    world_from_ego = torch.eye(4, dtype=torch.float64)
    world_from_ego[0, 3] = SPEED_MPS * time_s
    poses = [pose_of_camera(yaw, (1.5, 0.0, 1.5)) for yaw in (0, 180)]
    image = texture(round(10 * time_s), SIZE)
    return Frame(
        images=[None if name in lost else image for name in NAMES],
        intrinsics=np.stack([INTRINSICS] * len(NAMES)),
        ego_from_cam=torch.stack(poses),
        camera_names=NAMES,
        timestamp_us=START_US + round(time_s * 1e6),
        world_from_ego=world_from_ego if pose else None,
        scene_token=scene,
        sample_token=f"{scene} {time_s:.2f}",
        manoeuvre=manoeuvre,
    )


def seen_light(frame: Frame, color: str, shape: str = "circle") -> TrafficDetections:
    """Return the light as a good head would detect it in the front camera of a frame."""
    ego_m = LIGHT_M.copy()
    ego_m[0] -= 0.0 if frame.world_from_ego is None else float(frame.world_from_ego[0, 3])
    depth = ego_m[0] - 1.5
    column = 80.0 - 160.0 * ego_m[1] / depth
    row = 45.0 - 160.0 * (ego_m[2] - 1.5) / depth
    half_width, half_height = 160.0 * 0.15 / depth, 160.0 * 0.5 / depth
    box = [column - half_width, row - half_height, column + half_width, row + half_height]
    return TrafficDetections(
        camera=np.zeros(1, np.int64),
        boxes_px=np.array([box]),
        scores=np.array([0.95]),
        category=np.array([TRAFFIC_LIGHT]),
        color=_peak(LIGHT_COLORS, color),
        shape=_peak(LAMP_SHAPES, shape),
        meaning=_peak(SIGN_MEANINGS, "other"),
        position_m=ego_m[None],
        position_cov_m2=np.diag([4.0, 0.05, 0.05])[None],
        heading_rad=np.array([np.pi]),
        heading_std_rad=np.array([0.2]),
        relevance=np.array([[2.0 if shape in ("circle", m) else -2.0 for m in MANOEUVRES]]),
    )


class KnowingPredictor:
    """A predictor that knows the light's colour by time; it counts its frames."""

    def __init__(
        self, color: str = "red", *, shape: str = "circle", changes: dict[float, str] | None = None
    ) -> None:
        self.color, self.shape, self.changes = color, shape, changes or {}
        self.frames: list[int] = []
        self.previous_us: list[int | None] = []

    def predict(self, frame: Frame, previous: Frame | None = None) -> TrafficDetections:
        self.frames.append(frame.timestamp_us)
        self.previous_us.append(None if previous is None else previous.timestamp_us)
        if frame.images[0] is None:
            return TrafficDetections.empty()
        time_s = (frame.timestamp_us - START_US) * 1e-6
        color = self.color
        for start_s, later in sorted(self.changes.items()):
            color = later if time_s >= start_s - 1e-6 else color
        return seen_light(frame, color, self.shape)

    def camera_indices(self, frame: Frame) -> list[int]:
        return [frame.camera_names.index("CAM_FRONT")]

    def fingerprint(self) -> str:
        return json.dumps([self.color, self.shape, sorted(self.changes.items())])


class BoxStream:
    """A stream of one box; it refuses the frames of the scene "refused"."""

    uses_history = False
    tracks = Tracks.empty()
    reset = Reset.NONE

    def __init__(self, detector: BoxDetector) -> None:
        self.detector = detector
        self.steps = 0

    @property
    def state(self) -> StreamState:
        return StreamState(reset=self.reset)

    def step(self, frame: Frame) -> Detections:
        if frame.scene_token == "refused":
            raise ValueError("scene_token must not be refused")
        self.steps += 1
        return self.detector.predict(frame)


class BoxDetector:
    """A detector of one car, without a model."""

    config = CONFIG
    class_names = CONFIG.class_names
    mode = "one box"

    def fingerprint(self) -> str:
        return "one box"

    def predict(self, frame: Frame) -> Detections:
        boxes = Boxes3D(
            torch.tensor([[12.0, 3.0, 0.8]]),
            torch.tensor([[4.0, 1.8, 1.5]]),
            torch.zeros(1),
            torch.zeros(1, 2),
        )
        return Detections(boxes, torch.tensor([0.9]), torch.tensor([3]))

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        return [self.predict(frame) for frame in frames]

    def predict_clip(self, clip) -> Detections:
        return self.predict(clip.current)

    def stream(self) -> Stream:
        return BoxStream(self)

    def step_together(self, streams, frames) -> list[Detections]:
        return step_each(streams, frames)


def _peak(names: Sequence[str], name: str) -> np.ndarray:  # (1, len(names))
    probabilities = np.full((1, len(names)), 0.03 / (len(names) - 1))
    probabilities[0, names.index(name)] = 0.97
    return probabilities
