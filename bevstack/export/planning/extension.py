"""The parts of a frame that a format has no place for, as one JSON object.

Formats with a field for extensions hold this object; for the remaining ones it stands in a file
beside theirs. Names, units and frames are those of ``PlanningFrame``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.evaluation.traffic.cue_entries import cue_to_json
from bevstack.export.planning.scene import PlanningFrame
from bevstack.files import write_text_atomically

EXTENSION_FORMAT = "bevstack-planning-extension-1"
EXTENSION_SUFFIX = ".extension.json"


def extension_entry(frame: PlanningFrame) -> dict[str, Any]:
    """Return the extension of one frame: plain numbers, texts and null.

    ``objects`` holds one entry an object in the order of the frame; unknown values are null.
    """
    objects = frame.objects
    known = None if objects.uncertainty is None else objects.uncertainty.to_entries()
    ids = frame.object_ids()
    entries: list[dict[str, Any]] = []
    for row in range(len(objects)):
        velocity = objects.velocity[row]
        entries.append(
            {
                "id": str(ids[row]),
                "track": _value(objects.identity, row),
                "class": objects.class_names[row],
                "velocity_mps": velocity.tolist() if np.isfinite(velocity).all() else None,
                "state_covariance": _value(objects.covariance, row),
                "uncertainty": None if known is None else known[row],
                "last_seen_us": _value(objects.last_seen_us, row),
                "turn_rate_radps": _value(objects.turn_rate, row),
            }
        )
    entry: dict[str, Any] = {
        "timestamp_us": frame.timestamp_us,
        "sample_token": frame.sample_token,
        "drive": frame.drive,
        "objects": entries,
        "predicted_paths": _paths(frame),
        "cues": [cue_to_json(cue) for cue in frame.cues],
        "ego_cues": [cue_to_json(cue) for cue in frame.ego_cues],
        "sectors": None if frame.sectors is None else frame.sectors.to_entry(),
    }
    return entry


def extension_text(frame: PlanningFrame) -> str:
    """Return the extension of one frame as JSON on one line.

    Raises:
        ValueError: a value is not finite.
    """
    return json.dumps(extension_entry(frame), allow_nan=False)


def extension_document(frames: Sequence[PlanningFrame]) -> str:
    """Return the extensions of frames as one JSON document.

    Raises:
        ValueError: a value is not finite.
    """
    lines = ",\n".join(map(extension_text, frames))
    return f'{{"format": "{EXTENSION_FORMAT}", "frames": [\n{lines}\n]}}\n'


def write_extension(path: Path, frames: Sequence[PlanningFrame]) -> Path:
    """Write the extensions of frames beside a file, and return the new file's path.

    Raises:
        OSError: the file cannot be written.
        ValueError: a value is not finite.
    """
    beside = path.with_name(path.name + EXTENSION_SUFFIX)
    write_text_atomically(beside, extension_document(frames))
    return beside


def _paths(frame: PlanningFrame) -> dict[str, Any] | None:
    paths = frame.paths
    if paths is None:
        return None
    return {
        "times_s": paths.times_s.tolist(),
        "position_m": paths.position.tolist(),
        "yaw_rad": paths.yaw.tolist(),
        "velocity_mps": paths.velocity.tolist(),
        "state_covariance": paths.covariance.tolist(),
    }


def _value(column: np.ndarray[Any, Any] | None, row: int) -> Any:
    return None if column is None else column[row].tolist()
