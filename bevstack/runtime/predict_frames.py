"""Prediction over a drive with your own cameras, streamed frame by frame into one results file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bevstack.runtime.frame_detections_file import writing_frame_detections
from bevstack.runtime.frame_source import FrameSource
from bevstack.runtime.predict_cues import CueOptions, recording_cues
from bevstack.runtime.stream_protocol import (
    NO_HEALTH,
    FrameDetector,
    Stream,
    admit,
    sector_trust,
)
from bevstack.runtime.with_cues import without_cues
from bevstack.types import Boxes3D, Detections, Frame


@dataclass(frozen=True)
class DriveSummary:
    """Numbers of a predicted drive."""

    num_frames: int
    num_boxes: int
    lost: Mapping[str, int]  # number of frames that a camera misses, by camera, if any


def check_history(detector: FrameDetector, source: FrameSource) -> None:
    """Check that a stream of the detector can use the frames of a source.

    Raises:
        ValueError: the model uses future frames; or it uses past frames, or tracks objects, and the
            frames have no poses.
    """
    offsets = detector.config.frames
    if offsets[-1] > 0:
        raise ValueError(
            f"frames of the model must not look ahead in a drive; got {offsets}: take another "
            "model, or predict each frame by itself with --no-history"
        )
    if detector.stream().uses_history and not source.has_poses:
        raise ValueError(
            "world_from_ego must be given for every frame, since the model uses past frames or "
            f"objects are tracked; got no poses in {source.files.folder}: list them in "
            "frames.json, or predict each frame by itself with --no-history (without --track)"
        )


def predict_frames(
    detector: FrameDetector,
    source: FrameSource,
    out: Path,
    *,
    interval_s: float | None = None,
    history: bool = True,
    progress: Callable[[int], None] | None = None,
    cues: CueOptions | None = None,
) -> DriveSummary:
    """Predict the frames of a drive in order of time and write their boxes, in the ego frame.

    The file gets its name when all frames are written, so that a killed run leaves none. See
    ``frame_detections_file`` for its format.

    Args:
        detector: the detector; ``TrackedDetector`` adds the tracks of the boxes.
        source: the frames.
        out: the results file.
        interval_s: time from frame to frame; see ``FrameSource.frames``. For videos without a list
            of frames the default is the interval of the model's past frames.
        history: False to predict each frame by itself, without stream and memory.
        progress: is called with the number of frames after each of them.
        cues: a further file, for lights and signs and what they mean for the vehicle; its option
            ``sweeps`` has no effect.

    Raises:
        FileNotFoundError: a picture does not exist any more.
        ValueError: the frames have no poses and the model needs them (``check_history``), a
            picture or video is damaged (the message names the file), or ``cues`` are wanted of a
            detector that gives none.
        OSError: ``out`` cannot be written.
    """
    if history:
        check_history(detector, source)
    interval_s = frame_interval_s(detector, source, interval_s)
    stream = without_cues(detector.stream()) if history else None
    lost: Counter[str] = Counter()
    num_frames = num_boxes = 0
    with (
        recording_cues(detector, cues, history=history) as record,
        writing_frame_detections(out, detector.class_names) as writer,
    ):
        for frame in source.frames(interval_s=interval_s):
            detections = (
                detector.predict(frame) if stream is None else step_if_visible(stream, frame)
            )
            health = NO_HEALTH if stream is None else stream.state.health
            sectors = sector_trust(detector, frame) if stream is None else stream.state.sectors
            writer.add(frame, detections, track_identities(stream, detections), health, sectors)
            record(frame)
            num_frames += 1
            num_boxes += len(detections)
            lost.update(_lost_cameras(frame))
            if progress is not None:
                progress(num_frames)
    return DriveSummary(num_frames, num_boxes, dict(sorted(lost.items())))


def frame_interval_s(
    detector: FrameDetector, source: FrameSource, given_s: float | None
) -> float | None:
    """Return the time from frame to frame: the given one; of videos, that of the model's history.

    None: all frames.
    """
    temporal = detector.config.temporal
    if given_s is None and temporal is not None and not source.files.lists_frames:
        return temporal.frame_interval_s
    return given_s


def step_if_visible(stream: Stream, frame: Frame) -> Detections:
    """Return the boxes of a step; none, and no step, if every camera was judged unusable."""
    usable = admit(stream, frame).camera_mask
    assert usable is not None and frame.camera_mask is not None  # Frame sets them
    if bool(frame.camera_mask.any()) and not bool(usable.any()):
        return Detections(Boxes3D.empty(), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    return stream.step(frame)


def track_identities(stream: Stream | None, detections: Detections) -> Tensor | None:  # (D,)
    """Return the tracks of a step's boxes, which come first; None if the stream does not track."""
    if stream is None or len(stream.tracks) < len(detections) or not len(stream.tracks):
        return None
    return stream.tracks.identity[: len(detections)]


def _lost_cameras(frame: Frame) -> list[str]:
    assert frame.camera_mask is not None  # Frame sets it
    mask = frame.camera_mask.tolist()
    return [name for name, works in zip(frame.camera_names, mask, strict=True) if not works]


__all__ = [
    "DriveSummary",
    "check_history",
    "frame_interval_s",
    "predict_frames",
    "step_if_visible",
    "track_identities",
]
