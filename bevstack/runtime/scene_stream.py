"""Streams over the scenes of a data set, with the time of each step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.runtime.stream_protocol import FrameDetector, Stream, StreamState
from bevstack.runtime.with_cues import find_cue_source
from bevstack.types import Detections, Frame, Reset


@dataclass(frozen=True)
class StreamStep:
    """Result of one step of a stream."""

    frame: Frame
    detections: Detections  # best first, in the frame's bev frame
    seconds: float  # from the frame in memory to its boxes in memory: preparation and model
    reset: Reset  # reason why no history was used, or NONE
    state: StreamState  # all that the stream knows after the step, cues among them


def stream_scene(
    detector: FrameDetector, dataset: NuScenesDataset, scene: str
) -> Iterator[StreamStep]:
    """Stream the key frames of a scene through a detector, in order of time.

    The measured time does not include reading the images.

    Raises:
        ValueError: the data set has no such scene, or the detector uses future frames.
        FileNotFoundError: an image is missing.
    """
    scenes = dataset.scene_indices()
    if scene not in scenes:
        raise ValueError(f"scene must be one of {', '.join(scenes)}; got {scene!r}")
    images_for = detector.config if find_cue_source(detector) is None else None
    return stream_frames(detector.stream(), dataset, scenes[scene], images_for)


def stream_frames(
    stream: Stream, dataset: NuScenesDataset, indices: Iterable[int], images_for: Config | None
) -> Iterator[StreamStep]:
    """Stream samples of a data set, in the given order.

    Args:
        stream: of one vehicle.
        dataset: the samples.
        indices: of the samples, in order of time.
        images_for: decode images only as finely as this configuration needs; None: at full size.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: the stream refuses a frame.
    """
    for index in indices:
        frame = dataset.frame(index, images_for=images_for)
        started = time.perf_counter()
        detections = stream.step(frame)  # the boxes are on the CPU, so the device has finished
        seconds = time.perf_counter() - started
        yield StreamStep(frame, detections, seconds, stream.reset, stream.state)
