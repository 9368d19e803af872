"""Drives whose detections `bevstack predict` has recorded, for replays with other parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sweeps import front_sweeps
from bevstack.evaluation.traffic.root_truth import RootTruth, read_root_truth
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, read_traffic_frames
from bevstack.types import Frame
from bevstack.types.traffic import EgoLane
from bevstack.types.traffic_detections import TrafficDetections


class RecordedElements:
    """The detections of a file as a predictor; it implements ``ElementPredictor``."""

    def __init__(self, frames: Sequence[TrafficFrame]) -> None:
        self._frames = {frame.timestamp_us: frame for frame in frames}

    def predict(self, frame: Frame, previous: Frame | None = None) -> TrafficDetections:
        """Return the recorded elements of the frame's time, in the frame's cameras."""
        recorded = self._frames[frame.timestamp_us]
        cameras = np.array(self.camera_indices(frame), np.int64)
        return replace(recorded.elements, camera=cameras[recorded.elements.camera])

    def camera_indices(self, frame: Frame) -> list[int]:
        """Return the frame's cameras that were looked at."""
        return [frame.camera_names.index(n) for n in self._frames[frame.timestamp_us].cameras]

    def fingerprint(self) -> str:
        """Return a name: recorded elements have no weights."""
        return "recorded"


@dataclass(frozen=True, kw_only=True)
class RecordedDrives:
    """The scenes of a split with their recorded detections and their truth."""

    scenes: tuple[tuple[Frame, ...], ...]  # in order of time, without pixels
    predictor: RecordedElements
    truth: RootTruth
    meta: Mapping[str, str]  # of the file, such as the weights' name


def read_recorded_drives(
    cues: Path, root: Path, version: str, split: str, *, with_commands: bool = True
) -> RecordedDrives:
    """Read the frames of a split, its truth and the detections that a file holds for it.

    Args:
        cues: file of the cues that `bevstack predict` wrote for the split.
        root: data set.
        version: folder of its tables.
        split: name of the split.
        with_commands: command the intended manoeuvre of each sample; False: none.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file or a table is broken.
    """
    dataset = NuScenesDataset(root, version, split=split)
    truth = read_root_truth(dataset.tables, split)
    recorded = read_traffic_frames(cues)
    lanes = truth.ego_lanes if with_commands else None
    return RecordedDrives(
        scenes=tuple(tuple(scene) for scene in scene_frames(dataset, lanes)),
        predictor=RecordedElements(recorded.frames),
        truth=truth,
        meta=recorded.meta,
    )


def scene_frames(
    dataset: NuScenesDataset, lanes: Mapping[str, EgoLane] | None = None
) -> Iterator[list[Frame]]:
    """Yield the frames of every scene in order of time, without pixels.

    Args:
        dataset: the samples.
        lanes: the intended manoeuvre of each sample, which is commanded until the next one; None:
            no commands.
    """
    for indices in dataset.scene_indices().values():
        frames = [without_pixels(dataset.frame(index)) for index in indices]
        sweeps = front_sweeps(dataset, indices)
        frames += [without_pixels(frame) for frame in sweeps.between(0, 1 << 62)]
        yield list(commanded(sorted(frames, key=lambda frame: frame.timestamp_us), lanes or {}))


def commanded(frames: Sequence[Frame], lanes: Mapping[str, EgoLane]) -> Iterator[Frame]:
    """Yield frames with the manoeuvre of their sample, or of the sample before them."""
    manoeuvre = ""
    for frame in frames:
        if frame.sample_token in lanes:
            manoeuvre = lanes[frame.sample_token].manoeuvre
        yield replace(frame, manoeuvre=manoeuvre)


def without_pixels(frame: Frame) -> Frame:
    """Return a frame whose images are one black pixel, repeated: their sizes alone count."""
    black = np.zeros((1, 1, 3), np.uint8)
    images = [None if i is None else np.broadcast_to(black, i.shape) for i in frame.images]
    return replace(frame, images=images, annotations=None, camera_annotations=None)
