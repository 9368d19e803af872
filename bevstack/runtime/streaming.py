"""Streams of frames: detection step by step, with what the model remembers of each vehicle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch

from bevstack.config import Config
from bevstack.datasets.collate import PreparedClip, pad_images, stack_clips
from bevstack.models.bevformer import BEVFormerOutput
from bevstack.types import Batch, BEVMemory, Detections, Frame, Reset


class StreamedModel(Protocol):
    """The part of ``Detector`` that its streams use."""

    @property
    def config(self) -> Config:
        """Return the configuration."""
        ...

    def prepare(self, frame: Frame) -> PreparedClip:
        """Return a frame alone as model input."""
        ...

    def run(
        self, batch: Batch, frames: Sequence[Frame], memory: BEVMemory | None = None
    ) -> tuple[list[Detections], BEVFormerOutput]:
        """Return the boxes of each sample of a batch, and the model's output."""
        ...


class DetectorStream:
    """One vehicle's frames in order of time; ``Detector.stream`` makes it.

    The model keeps nothing: the stream carries the memory from step to step, so one detector
    serves any number of streams. A model of frames (0,) works too and remembers nothing.

    Frames may come at any rate: history advances by steps of ``temporal.frame_interval_s``, and a
    frame in between looks at the history of the steps before it. After each step ``reset`` says
    whether history was used, and if not, why.

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

    @property
    def remembers(self) -> bool:
        """Whether the model looks back at all."""
        return self.detector.config.temporal is not None

    def step(self, frame: Frame) -> Detections:
        """Boxes of the next frame, best first, in its bev frame (as ``Detector.predict``).

        Raises:
            ValueError: a model that looks back is given no pose or no times, or every camera is
                lost. The stream is then as it was before.
        """
        return step_together([self], [frame])[0]


def step_together(streams: Sequence[DetectorStream], frames: Sequence[Frame]) -> list[Detections]:
    """One step of several streams of one detector; those whose images are of one size run at once.

    Each stream goes on as if it had been alone. Where one of the frames is refused, no stream
    moves.

    Raises:
        ValueError: no stream, the same stream twice, streams of several detectors, or what
            ``DetectorStream.step`` refuses.
    """
    _check_streams(streams, frames)
    detector = streams[0].detector
    turns = [_next_turn(stream, frame) for stream, frame in zip(streams, frames, strict=True)]
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, turn in enumerate(turns):
        groups.setdefault(turn.size, []).append(index)
    after: dict[int, tuple[Detections, BEVMemory | None, Reset]] = {}
    for members in groups.values():
        chosen = [turns[index] for index in members]
        memories = [turn.memory for turn in chosen if turn.memory is not None]
        memory = BEVMemory.concatenate(memories) if memories else None
        batch = stack_clips([turn.prepared for turn in chosen])
        found, output = detector.run(batch, [frames[index] for index in members], memory)
        codes = [Reset.NONE] * len(members) if output.resets is None else output.resets.tolist()
        for row, (index, turn) in enumerate(zip(members, chosen, strict=True)):
            reset = Reset.RIG if turn.new_rig else Reset(codes[row])
            after[index] = (found[row], _row_of(output.memory, row), reset)
    for index, stream in enumerate(streams):
        _, stream.memory, stream.reset = after[index]
    return [after[index][0] for index in range(len(streams))]


class _Turn(NamedTuple):
    """A stream's next frame, and the memory it goes with."""

    prepared: PreparedClip
    memory: BEVMemory | None
    new_rig: bool  # what was remembered does not fit any more

    @property
    def size(self) -> tuple[object, ...]:
        """Turns of one size form a batch without any padding that one alone would not have."""
        return (self.memory is None, *self.prepared.images.shape)


def _next_turn(stream: DetectorStream, frame: Frame) -> _Turn:
    assert frame.camera_mask is not None  # Frame sets it
    if not bool(frame.camera_mask.any()):
        raise ValueError("frame must have a working camera; all are lost: leave it out")
    if stream.remembers:
        _check_place_and_time(stream, frame)
    prepared = stream.detector.prepare(frame)
    memory = stream.memory
    if memory is None or memory.rig is None or memory.padded_size is None:
        return _Turn(prepared, memory, False)
    height, width = memory.padded_size[0].tolist()
    images = prepared.images
    same_count = images.shape[1] == memory.rig.num_cameras
    if not same_count or images.shape[-2] > height or images.shape[-1] > width:
        return _Turn(prepared, None, True)
    # Smaller where the largest camera is lost: padded as if it were there.
    return _Turn(replace(prepared, images=pad_images(images, height, width)), memory, False)


def _check_place_and_time(stream: DetectorStream, frame: Frame) -> None:
    if frame.world_from_ego is None:
        raise ValueError(
            "world_from_ego must be given for every frame of a stream, as frames of several "
            f"moments are brought together; got none in frame {frame.sample_token!r}"
        )
    last = None if stream.memory is None else int(stream.memory.timestamp_us[0, -1])
    if frame.timestamp_us == last == 0:
        raise ValueError("timestamp_us must be given for every frame of a stream; got 0 twice")


def _check_streams(streams: Sequence[DetectorStream], frames: Sequence[Frame]) -> None:
    if not streams or len(frames) != len(streams):
        raise ValueError(
            f"frames must be one a stream, of at least one; got {len(frames)} and {len(streams)}"
        )
    if len({id(stream) for stream in streams}) != len(streams):
        raise ValueError("streams must be distinct; got one of them twice")
    if len({id(stream.detector) for stream in streams}) != 1:
        raise ValueError("streams must be of one detector; got several")


def _row_of(memory: BEVMemory | None, row: int) -> BEVMemory | None:
    if memory is None or memory.batch_size == 1:
        return memory
    return memory.select(torch.tensor([row], device=memory.valid.device))
