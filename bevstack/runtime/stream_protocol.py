"""Interfaces of detectors and of the streams that they return; any runtime can implement them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from bevstack.config import Config
from bevstack.tracking import Tracks
from bevstack.types import Clip, Detections, Frame, Reset
from bevstack.types.cues import EgoCue, TrafficCue
from bevstack.types.health import CameraState
from bevstack.types.sectors import SectorTrust
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.uncertainty import BoxCalibration

NO_HEALTH: Mapping[str, CameraState] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """Knowledge of a stream after a step, besides the boxes.

    Fields that only some streams fill have a default, so that a new one changes no other stream.
    """

    reset: Reset  # the reason why the step used no history, or Reset.NONE
    tracks: Tracks = field(default_factory=Tracks.empty)  # highest score first, in the world frame
    stale_cameras: tuple[str, ...] = ()  # lost in this step, since their images are too old
    # State of each camera in this frame; empty if the stream does not watch the cameras.
    health: Mapping[str, CameraState] = field(default_factory=dict)
    # Trust around the vehicle; None: the weights have no calibration of sectors that holds here.
    sectors: SectorTrust | None = None
    # Lights and signs, if the detector has the task "traffic" (``with_cues``).
    cues: tuple[TrafficCue, ...] = ()  # nearest first, signs in force last
    ego_cues: tuple[EgoCue, ...] = ()  # one for each of vocabulary.MANOEUVRES, in that order
    cue_reset: Reset = Reset.NONE  # the reason why the cues used no history, or NONE
    elements: TrafficDetections | None = None  # of this frame alone; None: no such task


class Stream(Protocol):
    """Stream of one vehicle's frames in order of time."""

    @property
    def uses_history(self) -> bool:
        """Return True if earlier frames affect the result."""
        ...

    @property
    def reset(self) -> Reset:
        """Return the reason why the last step used no history, or ``Reset.NONE``."""
        ...

    @property
    def tracks(self) -> Tracks:
        """Return all tracks after the last step; none if the stream does not track."""
        ...

    @property
    def state(self) -> StreamState:
        """Return all that the stream knows after the last step."""
        ...

    def step(self, frame: Frame) -> Detections:
        """Detect objects in the next frame; boxes are in its bev frame, best first.

        Raises:
            ValueError: the stream cannot use the frame. The stream is then unchanged.
        """
        ...


@runtime_checkable
class WatchingStream(Protocol):
    """Stream that judges its cameras, and masks those that are not usable."""

    @property
    def health(self) -> Mapping[str, CameraState]:
        """Return the state of each camera in the last frame, also if it was refused."""
        ...

    def admit(self, frame: Frame) -> Frame:
        """Judge the cameras of the next frame; return it with unusable cameras masked."""
        ...

    def ignore_health(self) -> None:
        """Judge no camera from now on; recorded data is then used as it is."""
        ...


def admit(stream: object, frame: Frame) -> Frame:
    """Return the next frame of a stream, with unusable cameras masked if it watches them."""
    return stream.admit(frame) if isinstance(stream, WatchingStream) else frame


def ignore_health(stream: Stream) -> Stream:
    """Return the stream, which judges no camera from now on."""
    if isinstance(stream, WatchingStream):
        stream.ignore_health()
    return stream


class FrameDetector(Protocol):
    """Detector of objects in frames, whatever computes the boxes.

    ``Detector`` runs a torch model. ``TrackedDetector`` and ``MirroredDetector`` hold another
    detector and add to its result.
    """

    @property
    def config(self) -> Config:
        """Return the configuration: classes, frames, image preparation, limits of the boxes."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the class names; ``Detections.labels`` index them."""
        ...

    @property
    def mode(self) -> str:
        """Return the inference mode; detectors of different modes give different results."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of the weights and the configuration."""
        ...

    def predict(self, frame: Frame) -> Detections:
        """Detect objects in one frame; boxes come best first, in its bev frame.

        Raises:
            ValueError: the detector cannot use the frame.
        """
        ...

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """Detect objects in several frames at once, each without history.

        Raises:
            ValueError: there is no frame, or the detector cannot use one.
        """
        ...

    def predict_clip(self, clip: Clip) -> Detections:
        """Detect objects in a clip's current frame, with the frames around it.

        Raises:
            ValueError: the detector cannot use the clip.
        """
        ...

    def stream(self) -> Stream:
        """Return a new stream for the frames of one vehicle.

        Raises:
            ValueError: the model uses future frames.
        """
        ...

    def step_together(self, streams: Sequence[Stream], frames: Sequence[Frame]) -> list[Detections]:
        """Run one step of several streams of this detector, at once where that is faster.

        Raises:
            ValueError: a stream refuses its frame. A detector that runs them at once leaves all
                streams unchanged then.
        """
        ...


@runtime_checkable
class CalibratedDetector(Protocol):
    """Detector whose boxes have an uncertainty that is fitted for it and for its tracks."""

    @property
    def calibration(self) -> BoxCalibration | None:
        """Return the calibration; None: the boxes have no uncertainty."""
        ...


@runtime_checkable
class SectorDetector(Protocol):
    """Detector that may have a calibration of the trust in sectors."""

    def sector_trust(self, frame: Frame) -> SectorTrust | None:
        """Return the trust in the sectors of a single frame; None: there is no calibration."""
        ...


@runtime_checkable
class CameraLimitedDetector(Protocol):
    """Detector that takes no more than a certain number of cameras."""

    @property
    def max_cameras(self) -> int:
        """Return the largest number of cameras of a frame."""
        ...


def sector_trust(detector: FrameDetector, frame: Frame) -> SectorTrust | None:
    """Return the trust in the sectors of a frame that a detector predicts without a stream.

    None: the weights have no calibration of sectors, or it does not hold for the detector's boxes.
    """
    return detector.sector_trust(frame) if isinstance(detector, SectorDetector) else None


def step_each(streams: Sequence[Stream], frames: Sequence[Frame]) -> list[Detections]:
    """Run one step of several streams one after the other.

    Raises:
        ValueError: the number of frames differs, or a stream refuses its frame.
    """
    return [stream.step(frame) for stream, frame in zip(streams, frames, strict=True)]
