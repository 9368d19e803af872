"""Prediction of one frame of your own cameras, calibrated by a rig file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bevstack.runtime.detections_file import write_detections
from bevstack.runtime.predict_cues import CueOptions, recording_cues
from bevstack.runtime.rig import frame_from_rig, read_rig
from bevstack.runtime.stream_protocol import FrameDetector, sector_trust


def predict_rig(
    detector: FrameDetector,
    rig_path: Path,
    images: Path,
    out: Path,
    *,
    lost: Sequence[str] = (),
    allow_outside: bool = False,
    cues: CueOptions | None = None,
) -> int:
    """Predict one frame of a rig and write its boxes, in the ego frame, as JSON.

    ``cues`` is a further file, for lights and signs and what they mean for the vehicle; its option
    ``sweeps`` has no effect.

    Returns:
        The number of boxes.

    Raises:
        FileNotFoundError: the rig file or an image is missing.
        ValueError: the rig file or an image is damaged, they do not fit, every camera is lost, or
            ``cues`` are wanted of a detector that gives none.
        OSError: ``out`` cannot be written.
    """
    rig = read_rig(rig_path)
    with recording_cues(detector, cues) as record:
        frame = frame_from_rig(rig, images, lost, allow_outside=allow_outside)
        detections = detector.predict(frame)
        record(frame)
    write_detections(
        out,
        detections,
        detector.class_names,
        rig.timestamp_us,
        sectors=sector_trust(detector, frame),
    )
    return len(detections)
