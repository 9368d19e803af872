"""One scene through a detector, frame by frame, with the time that every frame took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.runtime.detector import Detector
from bevstack.types import Detections, Frame, Reset


@dataclass(frozen=True)
class StreamStep:
    """What one frame of a stream gave."""

    frame: Frame
    detections: Detections  # best first, in the frame's bev frame
    seconds: float  # from the frame in memory to its boxes in memory: preparation and model
    reset: Reset  # why no history was used, or NONE


def stream_scene(detector: Detector, dataset: NuScenesDataset, scene: str) -> Iterator[StreamStep]:
    """Streams the key frames of a scene through a detector, in order of time.

    Reading the images is not part of the time.

    Raises:
        ValueError: the data set has no such scene, or the detector looks ahead.
        FileNotFoundError: an image is missing.
    """
    scenes = dataset.scene_indices()
    if scene not in scenes:
        raise ValueError(f"scene must be one of {', '.join(scenes)}; got {scene!r}")
    stream = detector.stream()
    for index in scenes[scene]:
        frame = dataset.frame(index)
        started = time.perf_counter()
        detections = stream.step(frame)  # the boxes are on the CPU, so the device has finished
        yield StreamStep(frame, detections, time.perf_counter() - started, stream.reset)
