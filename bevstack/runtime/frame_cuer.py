"""Cues of one vehicle's frames in order of time, from any predictor of lights and signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch

from bevstack.config.cues import CueConfig
from bevstack.planning.stream import CueStream
from bevstack.runtime.stream_protocol import StreamState
from bevstack.types import Frame, Reset
from bevstack.types.cues import FrameCues
from bevstack.types.rig_view import RigView
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.types.traffic_map import TrafficMap

TRAFFIC = "traffic"  # name of the task
# The own motion follows from the pose this long before, as between the key frames of training
_MOTION_US = 500_000
_MIN_MOTION_US = _MOTION_US // 2  # over less, curvature is noise: the motion counts as unknown


@runtime_checkable
class ElementPredictor(Protocol):
    """Interface of a predictor of lights and signs in single frames, whatever computes them."""

    def predict(self, frame: Frame, previous: Frame | None = None) -> TrafficDetections:
        """Detect lights and signs in the frame's front cameras, best first; none if all are lost.

        Args:
            frame: the frame.
            previous: an earlier frame of the drive, whose pose gives the own motion; its images
                are not used.

        Raises:
            ValueError: the predictor cannot use the frame.
        """
        ...

    def camera_indices(self, frame: Frame) -> Sequence[int]:
        """Return the cameras of the frame that ``predict`` looks at, lost ones included."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of the weights and the configuration."""
        ...


@dataclass(frozen=True, kw_only=True)
class CueSource:
    """All that the cues of a stream come from; each stream has a state of its own."""

    predictor: ElementPredictor
    config: CueConfig = field(default_factory=CueConfig)
    traffic_map: TrafficMap | None = None  # lights and lanes, in the world frame

    @property
    def mode(self) -> str:
        """Return the parameters of the cues; sources of different modes give different cues."""
        return f"cues({self.config}, map={self.traffic_map is not None})"

    def new_cuer(self) -> FrameCuer:
        """Return the state of a new stream."""
        return FrameCuer(self)


class FrameCuer:
    """Cues of one vehicle's frames in order of time.

    The state is dropped, and ``FrameCues.reset`` gives the reason, if the scene changes, time goes
    back or jumps ahead, the pose jumps or the cameras change. A frame without a pose or without a
    time has no history: each is then the first of its stream, and nothing is remembered.

    Args:
        source: predictor, parameters and map.
    """

    def __init__(self, source: CueSource) -> None:
        self.source = source
        self._stream = self._new_stream()
        self._cues: FrameCues | None = None
        self._elements = TrafficDetections.empty()
        self._past: tuple[Frame, ...] = ()  # of the drive so far, oldest first, without images

    @property
    def cues(self) -> FrameCues | None:
        """Return the cues after the last step; None before the first."""
        return self._cues

    @property
    def elements(self) -> TrafficDetections:
        """Return the elements of the last frame."""
        return self._elements

    def detect(self, frame: Frame) -> TrafficDetections:
        """Detect the elements of a frame; the state stays.

        Raises:
            ValueError: the predictor cannot use the frame.
        """
        return self.source.predictor.predict(frame, self._previous(frame))

    def step(self, frame: Frame, elements: TrafficDetections | None = None) -> FrameCues:
        """Return the cues of the next frame.

        Args:
            frame: the frame; its ``manoeuvre`` is the one that the navigation commands.
            elements: of ``detect``, if they are computed already.

        Raises:
            ValueError: the predictor cannot use the frame. The state is then unchanged.
        """
        found = self.detect(frame) if elements is None else elements
        command = frame.manoeuvre or None
        if frame.world_from_ego is None or not frame.timestamp_us:
            self._stream, self._past = self._new_stream(), ()
            view = RigView.from_frame(_at_origin(frame))
            self._cues = self._new_stream().step(view, found, manoeuvre=command)
        else:
            self._cues = self._stream.step(frame, found, manoeuvre=command)
            self._remember(frame, self._cues.reset)
        self._elements = found
        return self._cues

    def state(self, boxes: StreamState) -> StreamState:
        """Return the knowledge of a stream of boxes with the cues of the last step."""
        if self._cues is None:
            return boxes
        return replace(
            boxes,
            cues=self._cues.elements,
            ego_cues=self._cues.ego,
            cue_reset=self._cues.reset,
            elements=self._elements,
        )

    def _previous(self, frame: Frame) -> Frame | None:
        """Return the frame whose age is nearest to 0.5 s; None if no pose is old enough."""
        if not self._past or self._past[-1].scene_token != frame.scene_token:
            return None
        ages_us = [frame.timestamp_us - past.timestamp_us for past in self._past]
        if not 0 < ages_us[-1] <= 1e6 * self.source.config.max_gap_s:
            return None
        nearest = min(range(len(ages_us)), key=lambda row: abs(ages_us[row] - _MOTION_US))
        return self._past[nearest] if ages_us[nearest] >= _MIN_MOTION_US else None

    def _remember(self, frame: Frame, reset: Reset) -> None:
        past = () if reset is not Reset.NONE else self._past
        oldest_us = frame.timestamp_us - 2 * _MOTION_US
        kept = tuple(f for f in past[:-1] if f.timestamp_us >= oldest_us) + past[-1:]
        self._past = (*kept, _without_images(frame))

    def _new_stream(self) -> CueStream:
        return CueStream(self.source.config, traffic_map=self.source.traffic_map)


def _without_images(frame: Frame) -> Frame:
    """Return the poses of a frame."""
    return replace(
        frame,
        images=[None] * frame.num_cameras,
        camera_mask=None,
        annotations=None,
        camera_annotations=None,
    )


def _at_origin(frame: Frame) -> Frame:
    """Return a frame without a pose as one at the origin of the world."""
    return replace(
        frame, world_from_ego=torch.eye(4, dtype=torch.float64), world_from_ego_at_camera=None
    )
