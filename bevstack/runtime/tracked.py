"""Detection with tracking: a stream's boxes are filtered with those of earlier frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.config.tracking import TrackingConfig
from bevstack.geometry import invert_se3
from bevstack.runtime.stream_clock import StreamClock
from bevstack.runtime.stream_protocol import FrameDetector, Stream, StreamState, step_each
from bevstack.runtime.with_cues import add_cues, without_cues
from bevstack.tracking import TrackedScene, Tracks, update_tracks
from bevstack.types import Clip, Detections, Frame, Reset

# After these resets the tracked objects are not around the vehicle any more.
RESTARTS = (Reset.START, Reset.SCENE, Reset.TIME, Reset.JUMP)


class TrackedDetector:
    """Detector whose streams return tracks instead of each frame's own boxes.

    Positions, velocities, sizes, headings and scores are those of ``bevstack.tracking``. Several
    frames determine an object better than one, and an object that is hidden for a moment is kept.
    Calls without a stream have no earlier frames and return the detector's own boxes.

    Args:
        detector: the detector of the boxes in a frame; a ``MirroredDetector`` works too.
        tracking: noise, association distances, and how fast old measurements lose weight.

    Raises:
        ValueError: the model uses future frames, so that it has no streams.

    Example:
        >>> stream = TrackedDetector(bevstack.load("tiny_cpu_t4")).stream()
        >>> detections = stream.step(frame)
        >>> identities = stream.tracks.identity[: len(detections)]
    """

    def __init__(self, detector: FrameDetector, tracking: TrackingConfig | None = None) -> None:
        detector.stream()  # raises if the model has no streams
        self.detector = detector
        self.tracking = tracking or TrackingConfig()

    def __repr__(self) -> str:
        """Return the inner detector in brackets."""
        return f"TrackedDetector({self.detector!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Return ``class_names``."""
        return self.class_names

    @property
    def config(self) -> Config:
        """Return the inner detector's configuration."""
        return self.detector.config

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the class names; ``Detections.labels`` index them."""
        return self.detector.class_names

    @property
    def mode(self) -> str:
        """Return the inference mode, with that of the inner detector and the tracking section."""
        return f"TrackedDetector({self.detector.mode}, {self.tracking})"

    def fingerprint(self) -> str:
        """Return the inner detector's digest."""
        return self.detector.fingerprint()

    def predict(self, frame: Frame) -> Detections:
        """Detect objects in one frame, without history; no tracking takes place.

        Raises:
            ValueError: the inner detector refuses the frame.
        """
        return self.detector.predict(frame)

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """Detect objects in several frames, each without history; no tracking takes place.

        Raises:
            ValueError: the inner detector refuses the frames.
        """
        return self.detector.predict_batch(frames)

    def predict_clip(self, clip: Clip) -> Detections:
        """Detect objects in a clip's current frame; no tracking takes place.

        Raises:
            ValueError: the inner detector refuses the clip.
        """
        return self.detector.predict_clip(clip)

    def stream(self) -> Stream:
        """Return a new stream that tracks, and gives cues if the inner detector does."""
        return add_cues(TrackedStream(self), self)

    def step_together(self, streams: Sequence[Stream], frames: Sequence[Frame]) -> list[Detections]:
        """Run one step of several streams, one after the other.

        Raises:
            ValueError: the number of frames differs, or a stream refuses its frame.
        """
        return step_each(streams, frames)


class FrameTracker:
    """Tracker of the boxes of one vehicle's frames, from any detector.

    All tracks end when the scene changes or time goes back.

    Args:
        tracking: noise, association distances, and how fast old measurements lose weight.
    """

    def __init__(self, tracking: TrackingConfig) -> None:
        self.tracking = tracking
        self._scene: TrackedScene | None = None
        self._scene_token = ""
        self._clock = StreamClock()

    @property
    def tracks(self) -> Tracks:
        """Return all tracks after the last step, highest score first, in the world frame."""
        return Tracks.empty() if self._scene is None else self._scene.tracks

    def step(self, frame: Frame, detections: Detections, *, restart: bool = False) -> Detections:
        """Update the tracks with a frame; return them as boxes in its bev frame, in their order.

        Args:
            frame: the next frame.
            detections: the boxes detected in it, in its bev frame.
            restart: True to drop all earlier tracks.

        Raises:
            ValueError: the frame has no pose, or the times are not in microseconds. The tracks are
                then unchanged.
        """
        world_from_bev = require_pose(frame)
        clock = self._clock.advanced(frame)
        exact = Detections(detections.boxes.to(torch.float64), detections.scores, detections.labels)
        assert frame.world_from_ego is not None  # require_pose checks it
        self._scene = update_tracks(
            None if restart or self._is_elsewhere(frame) else self._scene,
            exact.transformed(world_from_bev),
            ego_position=frame.world_from_ego[:2, 3],
            timestamp_us=frame.timestamp_us,
            config=self.tracking,
        )
        self._scene_token, self._clock = frame.scene_token, clock
        tracked = self.tracks.detections().transformed(invert_se3(world_from_bev))
        boxes, scores = tracked.boxes.to(torch.float32), tracked.scores.to(torch.float32)
        return Detections(boxes, scores, tracked.labels, detections.class_names)

    def _is_elsewhere(self, frame: Frame) -> bool:
        return self._scene is not None and (
            frame.scene_token != self._scene_token or frame.timestamp_us < self._scene.timestamp_us
        )


def require_pose(frame: Frame) -> Tensor:  # (4, 4) world_from_bev
    """Return the pose of a frame's bev frame in the world.

    Raises:
        ValueError: the frame has no pose.
    """
    world_from_bev = frame.world_from_bev()
    if world_from_bev is None:
        raise ValueError(
            "world_from_ego must be given for every frame that is tracked; got none in frame "
            f"{frame.sample_token!r}"
        )
    return world_from_bev


class TrackedStream:
    """Stream of one vehicle's frames that tracks; create it with ``TrackedDetector.stream``.

    All tracks end when the scene changes, time goes back or the pose jumps. They continue through a
    gap and through a change of the rig.

    Args:
        detector: the detector and its tracking section.
    """

    def __init__(self, detector: TrackedDetector) -> None:
        self.detector = detector
        self._stream = without_cues(detector.detector.stream())
        self._tracker = FrameTracker(detector.tracking)

    @property
    def uses_history(self) -> bool:
        """Return True: earlier frames always affect the tracks."""
        return True

    @property
    def reset(self) -> Reset:
        """Return the reason why the model used no history in the last step, or ``Reset.NONE``."""
        return self._stream.reset

    @property
    def tracks(self) -> Tracks:
        """Return all tracks after the last step, highest score first, in the world frame.

        The first ones are the boxes that the step returned.
        """
        return self._tracker.tracks

    @property
    def state(self) -> StreamState:
        """Return all that the stream knows after the last step."""
        return replace(self._stream.state, tracks=self.tracks)

    def step(self, frame: Frame) -> Detections:
        """Track the objects in the next frame; boxes are as for ``DetectorStream.step``.

        Raises:
            ValueError: the frame has no pose, or ``DetectorStream.step`` refuses it. The stream is
                then unchanged.
        """
        require_pose(frame)
        detections = self._stream.step(frame)
        # A model without history never reports a reset: the tracker checks the frames itself.
        tracked = self._tracker.step(frame, detections, restart=self.reset in RESTARTS)
        return tracked[: self.detector.config.decoder.max_detections]
