"""Cues of a data set or drive: collected frame by frame, and written beside the boxes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sweeps import FrontSweeps, front_sweeps
from bevstack.evaluation.traffic.traffic_frames import (
    TrafficFrame,
    TrafficFramesWriter,
    frame_from_json,
    frame_to_json,
    writing_traffic_frames,
)
from bevstack.file_bytes import read_bytes
from bevstack.files import write_text_atomically
from bevstack.json_files import expect_list, parse_json
from bevstack.runtime.commands import Commands
from bevstack.runtime.frame_cuer import CueSource, ElementPredictor, FrameCuer
from bevstack.runtime.stream_protocol import FrameDetector, StreamState
from bevstack.runtime.with_cues import find_cue_source
from bevstack.types import Frame, Reset

_END_US = 1 << 62  # later than any frame


def cues_path(out: Path) -> Path:
    """Return the file of the cues beside a results file: ``results_cues.json``."""
    return out.with_name(f"{out.stem}_cues.json")


def require_cue_source(detector: FrameDetector) -> CueSource:
    """Return the source of a detector's cues.

    Raises:
        ValueError: the detector gives none.
    """
    source = find_cue_source(detector)
    if source is None:
        raise ValueError(
            f"weights must have the task 'traffic' to give cues; got {detector.config.name} "
            "without it: predict boxes alone, or take other weights"
        )
    return source


@dataclass(frozen=True)
class CueOptions:
    """File of the cues, the images that they come from, and the commands of the navigation."""

    out: Path
    sweeps: bool = False  # the front camera's images between the key frames, too
    commands: Commands | None = None  # None: the frames' own manoeuvres, if they have any


@dataclass(frozen=True)
class SceneCues:
    """Recorders of cues for the scenes of a data set."""

    source: CueSource
    options: CueOptions

    def fingerprint(self) -> str:
        """Return a digest of all that the cues depend on, besides the images."""
        images = "sweeps" if self.options.sweeps else "key frames"
        commands = self.options.commands
        commanded = "" if commands is None else f" {commands.fingerprint()}"
        return f"{self.source.predictor.fingerprint()} {self.source.mode} {images}{commanded}"

    def recorder(
        self, dataset: NuScenesDataset, indices: Sequence[int], skip_missing: bool
    ) -> CueRecorder:
        """Return the recorder of a scene's samples.

        Raises:
            ValueError: images between the key frames are wanted, and there are none.
        """
        sweeps = front_sweeps(dataset, indices) if self.options.sweeps and indices else None
        return CueRecorder(
            self.source.new_cuer(),
            sweeps,
            skip_missing=skip_missing,
            commands=self.options.commands,
        )


def describe_cues(detector: FrameDetector, options: CueOptions) -> dict[str, str]:
    """Return the texts that describe cues in their file."""
    images = "sweeps" if options.sweeps else "key frames"
    text = {"model": detector.config.name, "images": images}
    return text if options.commands is None else {**text, "manoeuvre": options.commands.summary}


class CueRecorder:
    """Cues of the frames of one stream, in order of time.

    Args:
        cuer: the state of the stream.
        sweeps: images between the key frames, which update the cues, too; None: none.
        skip_missing: leave out images between the key frames whose file is missing.
        commands: the manoeuvres that the navigation commands; None: those of the frames.
    """

    def __init__(
        self,
        cuer: FrameCuer,
        sweeps: FrontSweeps | None = None,
        *,
        skip_missing: bool = False,
        commands: Commands | None = None,
    ) -> None:
        self._cuer = cuer
        self._sweeps = sweeps
        self._skip_missing = skip_missing
        self._commands = commands
        self._last_us = 0

    def step(self, frame: Frame) -> Iterator[TrafficFrame]:
        """Yield the cues of all images before a key frame, and of the key frame.

        Raises:
            FileNotFoundError: an image between the key frames is missing.
            ValueError: an image is damaged, or the commands start later.
        """
        yield from self._look_until(frame.timestamp_us)
        yield self._cue(frame)
        self._last_us = frame.timestamp_us + 1

    def finish(self) -> Iterator[TrafficFrame]:
        """Yield the cues of the images after the last key frame.

        Raises:
            FileNotFoundError: an image between the key frames is missing.
            ValueError: an image is damaged.
        """
        yield from self._look_until(_END_US)

    def _look_until(self, end_us: int) -> Iterator[TrafficFrame]:
        if self._sweeps is None:
            return
        for frame in self._sweeps.between(self._last_us, end_us, skip_missing=self._skip_missing):
            yield self._cue(frame)

    def _cue(self, frame: Frame) -> TrafficFrame:
        return _step(self._cuer, frame, self._commands)


def traffic_frame(frame: Frame, state: StreamState, predictor: ElementPredictor) -> TrafficFrame:
    """Return the entry of a frame with the elements and cues of a stream's state.

    Its cameras are those that the predictor looks at: elements in the remaining ones are no misses.

    Raises:
        ValueError: the stream gives no cues, or an element is in another camera.
    """
    if state.elements is None:
        raise ValueError("the stream's state must hold elements; got None: it gives no cues")
    names = frame.camera_names or ("",) * frame.num_cameras
    cameras = list(predictor.camera_indices(frame))
    indices = state.elements.camera.tolist()
    if not set(indices) <= set(cameras):
        raise ValueError(f"elements must be in the cameras {cameras}; got {sorted(set(indices))}")
    own = np.array([cameras.index(index) for index in indices], np.int64)
    pose = frame.world_from_ego
    return TrafficFrame(
        timestamp_us=frame.timestamp_us,
        cameras=tuple(names[index] or f"camera {index}" for index in cameras),
        sample_token=frame.sample_token,
        scene_token=frame.scene_token,
        world_from_ego=None if pose is None else np.asarray(pose.numpy(), np.float64),
        elements=replace(state.elements, camera=own),
        cues=state.cues,
        ego_cues=state.ego_cues,
    )


@contextlib.contextmanager
def recording_cues(
    detector: FrameDetector, options: CueOptions | None, *, history: bool = True
) -> Iterator[Callable[[Frame], None]]:
    """Yield a function that writes the cues of the next frame of a drive.

    Args:
        detector: a detector that gives cues.
        options: the file, which gets its name when the block ends without an error, and the
            commands; None: no file.
        history: False: each frame is the first of its stream.

    Raises:
        ValueError: the detector gives no cues.
        OSError: the file cannot be written.
    """
    if options is None:
        yield lambda frame: None
        return
    source = require_cue_source(detector)
    stream = source.new_cuer()
    with writing_traffic_frames(options.out, describe_cues(detector, options)) as writer:

        def record(frame: Frame) -> None:
            cuer = stream if history else source.new_cuer()
            writer.add(_step(cuer, frame, options.commands))

        yield record


def _step(cuer: FrameCuer, frame: Frame, commands: Commands | None) -> TrafficFrame:
    """Return the entry of a stream's next frame."""
    cuer.step(frame if commands is None else commands.give_to(frame))
    state = cuer.state(StreamState(reset=Reset.NONE))
    return traffic_frame(frame, state, cuer.source.predictor)


def write_cues_part(path: Path, frames: list[TrafficFrame]) -> None:
    """Write the cues of a finished scene.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps([frame_to_json(frame) for frame in frames]))


def copy_cues_part(path: Path, writer: TrafficFramesWriter) -> None:
    """Copy the cues of a finished scene to the results.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
        OSError: the results cannot be written.
    """
    data = read_bytes(path, "part of the cues", max_bytes=None)
    entries = expect_list(
        f"part of the cues {path}", parse_json(data, "part of the cues", place=f" in {path}")
    )
    for number, entry in enumerate(entries):
        writer.add(frame_from_json(f"frame {number} of {path}", entry))
