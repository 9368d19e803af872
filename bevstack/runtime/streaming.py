"""Streams of frames: detection step by step, with the history of each vehicle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.datasets.collate import PreparedClip, pad_images, stack_clips
from bevstack.runtime.health import HealthMonitor
from bevstack.runtime.rig_watch import RigWatch
from bevstack.runtime.stream_clock import StreamClock
from bevstack.runtime.stream_protocol import NO_HEALTH, StreamState
from bevstack.tracking import Tracks
from bevstack.types import Batch, BEVMemory, Detections, Frame, Reset
from bevstack.types.health import CameraState
from bevstack.types.sectors import SectorTrust
from bevstack.uncertainty.sector_watch import SectorWatch


class StepOutput(Protocol):
    """Part of a model's output that a stream keeps."""

    @property
    def memory(self) -> BEVMemory | None:
        """Return the memory for the next step; None if the model keeps none."""
        ...

    @property
    def resets(self) -> Tensor | None:
        """Return the codes of Reset (B,); None for a model of one frame."""
        ...


class StreamedModel(Protocol):
    """Interface of ``Detector`` that its streams use."""

    @property
    def config(self) -> Config:
        """Return the configuration."""
        ...

    @property
    def device(self) -> torch.device:
        """Return the device that holds the model's weights."""
        ...

    def sector_watch(self) -> SectorWatch | None:
        """Return a new judge of the sectors; None: the weights have no calibration of them."""
        ...

    def prepare(self, frame: Frame) -> PreparedClip:
        """Prepare a single frame as model input."""
        ...

    def run(
        self, batch: Batch, frames: Sequence[Frame], memory: BEVMemory | None = None
    ) -> tuple[list[Detections], StepOutput]:
        """Run the model; return the boxes of each sample and the model's output."""
        ...


class DetectorStream:
    """Stream of one vehicle's frames in order of time; create it with ``Detector.stream``.

    The stream carries the memory from step to step, and the model keeps no state, so one detector
    serves any number of streams. A model of frames (0,) works too and uses no history.

    Frames may come at any rate. History advances by steps of ``temporal.frame_interval_s``; a frame
    in between uses the history of the steps before it. After each step ``reset`` holds the reason
    why no history was used, or ``Reset.NONE``. ``health`` holds the state of each camera in the
    last frame; those that are not usable count as lost. ``sectors`` holds the trust in the sectors
    around the vehicle. ``state`` has all of it, too.

    Raises:
        ValueError: the model uses future frames.

    Example:
        >>> stream = detector.stream()
        >>> for frame in frames:  # each with timestamp_us and world_from_ego
        ...     detections = stream.step(frame)
        ...     if stream.reset is not Reset.NONE:
        ...         print(frame.timestamp_us, stream.reset.name)
    """

    def __init__(self, detector: StreamedModel) -> None:
        frames = detector.config.frames
        if frames[-1] > 0:
            raise ValueError(
                f"frames must not look ahead in a stream; got {frames}: predict clips instead"
            )
        self.detector = detector
        self.memory: BEVMemory | None = None  # one row, on the detector's device
        self.reset = Reset.NONE  # of the last step
        self.clock = StreamClock()  # of the last frames
        self._stale_cameras: tuple[str, ...] = ()
        self.rig_watch = RigWatch()
        self.monitor: HealthMonitor | None = HealthMonitor()
        self.sectors: SectorTrust | None = None  # of the last frame, also if it was refused
        self._sector_watch = detector.sector_watch()

    @property
    def uses_history(self) -> bool:
        """Return True if the model uses past frames."""
        return self.detector.config.temporal is not None

    @property
    def tracks(self) -> Tracks:
        """Return no tracks: this stream does not track."""
        return Tracks.empty()

    @property
    def state(self) -> StreamState:
        """Return all that the stream knows after the last step."""
        return StreamState(
            reset=self.reset,
            stale_cameras=self._stale_cameras,
            health=self.health,
            sectors=self.sectors,
        )

    @property
    def health(self) -> Mapping[str, CameraState]:
        """Return the state of each camera in the last frame, also if it was refused."""
        return NO_HEALTH if self.monitor is None else self.monitor.states

    def admit(self, frame: Frame) -> Frame:
        """Judge the cameras of the next frame; return it with unusable cameras masked."""
        admitted = frame if self.monitor is None else self.monitor.admit(frame)
        if self._sector_watch is not None:
            self.sectors = self._sector_watch.look(admitted, self.health)
        return admitted

    def ignore_health(self) -> None:
        """Judge no camera from now on."""
        self.monitor = None

    def step(self, frame: Frame) -> Detections:
        """Detect objects in the next frame; boxes are as for ``Detector.predict``.

        Raises:
            ValueError: every camera is lost or not usable, the times are not in microseconds, or
                the model uses past frames and the frame has no pose or no time. Its history is then
                unchanged.
        """
        return step_together([self], [frame])[0]

    def finish_step(
        self, frame: Frame, clock: StreamClock, memory: BEVMemory | None, reset: Reset
    ) -> None:
        """Keep the results of a step; ``step_together`` calls this once all frames have run."""
        self.memory, self.reset, self.clock = memory, reset, clock
        self._stale_cameras = frame.stale_cameras()


def step_together(
    streams: Sequence[DetectorStream], frames: Sequence[Frame], *, at_once: bool | None = None
) -> list[Detections]:
    """Advance several streams of one detector.

    Each stream gives the same result as alone: on a CPU bit for bit, in a batch up to rounding. If
    one of the frames is refused, no stream advances.

    Args:
        streams: the streams.
        frames: one frame a stream.
        at_once: run frames of one image size as one batch. None: only on a GPU. On a CPU a batch
            saves no time, and boxes whose scores are equal but for rounding would change places.

    Raises:
        ValueError: ``streams`` is empty, contains a stream twice or streams of several detectors,
            does not match ``frames`` in number, or ``DetectorStream.step`` refuses a frame.
    """
    _check_streams(streams, frames)
    detector = streams[0].detector
    frames = [stream.admit(frame) for stream, frame in zip(streams, frames, strict=True)]
    inputs = [_step_input(stream, frame) for stream, frame in zip(streams, frames, strict=True)]
    if at_once is None:
        at_once = detector.device.type != "cpu"
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, step_input in enumerate(inputs):
        key = step_input.batch_key if at_once else (index,)
        groups.setdefault(key, []).append(index)
    results: dict[int, tuple[Detections, BEVMemory | None, Reset]] = {}
    for members in groups.values():
        group = [inputs[index] for index in members]
        memories = [step_input.memory for step_input in group if step_input.memory is not None]
        memory = BEVMemory.concatenate(memories) if memories else None
        batch = stack_clips([step_input.prepared for step_input in group])
        detections, output = detector.run(batch, [frames[index] for index in members], memory)
        codes = [Reset.NONE] * len(members) if output.resets is None else output.resets.tolist()
        for row, (index, step_input) in enumerate(zip(members, group, strict=True)):
            reset = Reset.RIG if step_input.new_rig else Reset(codes[row])
            results[index] = (detections[row], _select_row(output.memory, row), reset)
    for index, stream in enumerate(streams):
        _, new_memory, reset = results[index]
        stream.finish_step(frames[index], inputs[index].clock, new_memory, reset)
    return [results[index][0] for index in range(len(streams))]


class _StepInput(NamedTuple):
    """Model input of a stream's next step."""

    prepared: PreparedClip
    memory: BEVMemory | None
    clock: StreamClock  # after this frame
    new_rig: bool  # the memory was dropped, as its features do not fit this frame's images

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Return a key that is equal for inputs that form a batch without extra padding."""
        return (self.memory is None, *self.prepared.images.shape)


def _step_input(stream: DetectorStream, frame: Frame) -> _StepInput:
    check_has_camera("frame", frame, stream.health)
    if stream.uses_history:
        _check_pose_and_time(stream, frame)
    stream.rig_watch.check(frame)
    clock = stream.clock.advanced(frame)
    prepared = stream.detector.prepare(frame)
    memory = stream.memory
    if memory is None or memory.rig is None or memory.padded_size is None:
        return _StepInput(prepared, memory, clock, False)
    height, width = memory.padded_size[0]
    images = prepared.images
    same_count = images.shape[1] == memory.rig.num_cameras
    if not same_count or images.shape[-2] > height or images.shape[-1] > width:
        return _StepInput(prepared, None, clock, True)
    # Images are smaller if the largest camera is lost: pad them to the size of the memory.
    padded = replace(prepared, images=pad_images(images, height, width))
    return _StepInput(padded, memory, clock, False)


def check_has_camera(
    name: str, frame: Frame, health: Mapping[str, CameraState] = NO_HEALTH
) -> None:
    """Check that a frame has a camera that is not lost.

    Raises:
        ValueError: all cameras are lost; the message gives the age of the first stale one, or the
            states of all.
    """
    assert frame.camera_mask is not None  # Frame sets it
    if bool(frame.camera_mask.any()):
        return
    stale = frame.stale_cameras()
    states = [f"{label} is {state.value}" for label, state in health.items()]
    reason = f" ({', '.join(states)})" if states else ""
    reason = f" ({stale[0]} is {frame.describe_age(stale[0])})" if stale else reason
    raise ValueError(f"{name} must have a working camera; all are lost{reason}: skip this frame")


def _check_pose_and_time(stream: DetectorStream, frame: Frame) -> None:
    if frame.world_from_ego is None:
        raise ValueError(
            "world_from_ego must be given for every frame of a stream whose model uses past "
            f"frames; got none in frame {frame.sample_token!r}"
        )
    last = None if stream.memory is None else int(stream.memory.timestamp_us[0, -1])
    if frame.timestamp_us == last == 0:
        raise ValueError("timestamp_us must be given for every frame of a stream; got 0 twice")


def _check_streams(streams: Sequence[DetectorStream], frames: Sequence[Frame]) -> None:
    if not streams or len(frames) != len(streams):
        raise ValueError(
            f"frames must be one per stream, for at least one stream; got {len(frames)} frames and "
            f"{len(streams)} streams"
        )
    if len({id(stream) for stream in streams}) != len(streams):
        raise ValueError("streams must be distinct; got one of them twice")
    if len({id(stream.detector) for stream in streams}) != 1:
        raise ValueError("streams must be of one detector; got several detectors")


def _select_row(memory: BEVMemory | None, row: int) -> BEVMemory | None:
    if memory is None or memory.batch_size == 1:
        return memory
    return memory.select(torch.tensor([row]))
