"""Detection with tracking: a stream's boxes are filtered with those of earlier frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bevstack.config.tracking import TrackingConfig
from bevstack.geometry import invert_se3
from bevstack.runtime.stream_clock import StreamClock
from bevstack.runtime.stream_protocol import (
    CalibratedDetector,
    FrameDetector,
    Stream,
    StreamState,
    admit,
    ignore_health,
)
from bevstack.runtime.with_cues import add_cues, without_cues
from bevstack.runtime.wrapped import WrappedDetector
from bevstack.tracking import TrackedScene, Tracks, update_tracks
from bevstack.types import Detections, Frame, Reset
from bevstack.types.health import CameraState
from bevstack.types.sectors import SectorTrust
from bevstack.types.uncertainty import BoxUncertainty
from bevstack.uncertainty import BoxCalibration

# After these resets the tracked objects are not around the vehicle any more.
RESTARTS = (Reset.START, Reset.SCENE, Reset.TIME, Reset.JUMP)


class TrackedDetector(WrappedDetector):
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
        super().__init__(detector)
        self.tracking = tracking or TrackingConfig()

    @property
    def mode(self) -> str:
        """Return the inference mode, with that of the inner detector and the tracking section."""
        return f"TrackedDetector({self.detector.mode}, {self.tracking})"

    def stream(self) -> Stream:
        """Return a new stream that tracks, and gives cues if the inner detector does."""
        return add_cues(TrackedStream(self), self)


def calibration_of_tracks(
    detector: FrameDetector, tracking: TrackingConfig
) -> BoxCalibration | None:
    """Return the calibration of the tracks of a detector's boxes; None: they have no uncertainty.

    A calibration holds for the boxes of the weights alone, not for those of a ``MirroredDetector``,
    and for the settings of tracking that it was fitted with.
    """
    found = detector.calibration if isinstance(detector, CalibratedDetector) else None
    return found if found is not None and found.tracking == tracking else None


class FrameTracker:
    """Tracker of the boxes of one vehicle's frames, from any detector.

    All tracks end when the scene changes or time goes back.

    Args:
        tracking: noise, association distances, and how fast old measurements lose weight.
        calibration: of the tracks' uncertainty; None: tracks have none.
    """

    def __init__(
        self, tracking: TrackingConfig, *, calibration: BoxCalibration | None = None
    ) -> None:
        self.tracking = tracking
        self._calibration = calibration
        self._uncertainty: BoxUncertainty | None = None  # of the tracks after the last step
        self._scene: TrackedScene | None = None
        self._scene_token = ""
        self._clock = StreamClock()

    @property
    def tracks(self) -> Tracks:
        """Return all tracks after the last step, highest score first, in the world frame."""
        if self._scene is None:
            return Tracks.empty()
        return replace(self._scene.tracks, uncertainty=self._uncertainty)

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
        ego_position = frame.world_from_ego[:2, 3]
        self._scene = update_tracks(
            None if restart or self._is_elsewhere(frame) else self._scene,
            exact.transformed(world_from_bev),
            ego_position=ego_position,
            timestamp_us=frame.timestamp_us,
            config=self.tracking,
        )
        self._scene_token, self._clock = frame.scene_token, clock
        if self._calibration is not None:
            tracks = self._scene.tracks
            self._uncertainty = self._calibration.track_uncertainty(
                replace(tracks.detections(), class_names=detections.class_names),
                tracks.covariance,
                seen=tracks.last_seen_us == frame.timestamp_us,
                ego_position=ego_position,
            )
        tracked = self.tracks.detections().transformed(invert_se3(world_from_bev))
        return replace(
            tracked,
            boxes=tracked.boxes.to(torch.float32),
            scores=tracked.scores.to(torch.float32),
            class_names=detections.class_names,
        )

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
        calibration = calibration_of_tracks(detector.detector, detector.tracking)
        self._tracker = FrameTracker(detector.tracking, calibration=calibration)

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

    @property
    def health(self) -> Mapping[str, CameraState]:
        """Return the state of each camera in the last frame, also if it was refused."""
        return self._stream.state.health

    @property
    def sectors(self) -> SectorTrust | None:
        """Return the trust in the sectors around the vehicle; None: it is not known."""
        return self.state.sectors

    def admit(self, frame: Frame) -> Frame:
        """Judge the cameras of the next frame; return it with unusable cameras masked."""
        return admit(self._stream, frame)

    def ignore_health(self) -> None:
        """Judge no camera from now on."""
        ignore_health(self._stream)

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
