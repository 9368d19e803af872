"""Results of the nuScenes detection and tracking tasks.

Global frame; size (width, length, height); quaternions wxyz; velocity (vx, vy) in the global frame.
The format has no place for covariances, paths, cues and trust: they stand under the key
``EXTENSION_KEY`` beside "meta" and "results", which readers of the format ignore.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bevstack.evaluation.results.result_boxes import ATTRIBUTE_OF_CLASS, MOVING_MPS
from bevstack.evaluation.results.submission import CAMERA_META, MAX_BOXES
from bevstack.export.planning.extension import extension_entry
from bevstack.export.planning.scene import Floats, PlanningFrame
from bevstack.files import write_text_atomically
from bevstack.geometry import quaternion_from_rotation

EXTENSION_KEY = "bevstack"
# The tracking task has no static classes: these have no entry, and stand in the extension alone.
UNTRACKED_CLASSES = ("barrier", "construction_vehicle", "traffic_cone")


def write_nuscenes(path: Path, frames: Sequence[PlanningFrame]) -> None:
    """Write frames as results of the tracking task if all have identities, else of detection.

    Raises:
        OSError: the file cannot be written.
        ValueError: a frame has no sample token, or the token of another frame, or over 500 boxes.
    """
    seen: set[str] = set()
    for frame in frames:
        if not frame.sample_token or frame.sample_token in seen:
            problem = "that of another frame" if frame.sample_token else "none"
            raise ValueError(
                f"sample_token of the frame at {frame.timestamp_us} must be its own; got {problem}"
            )
        seen.add(frame.sample_token)
        if len(frame.objects) > MAX_BOXES:
            raise ValueError(
                f"sample {frame.sample_token} must have at most {MAX_BOXES} boxes; got "
                f"{len(frame.objects)}: keep the best"
            )
    write_text_atomically(path, _pieces(frames))


def result_entries(frame: PlanningFrame, *, tracks: bool) -> list[dict[str, Any]]:
    """Return the boxes of one frame as objects of the format; an unknown velocity is 0.

    Args:
        frame: the frame.
        tracks: write entries of the tracking task, without the classes that it does not have.
    """
    objects = frame.objects
    rotations = _world_rotations(frame)
    velocity = np.nan_to_num(frame.world_velocity, nan=0.0)
    entries = []
    for row, name in enumerate(objects.class_names):
        if tracks and name in UNTRACKED_CLASSES:
            continue
        entry: dict[str, Any] = {
            "sample_token": frame.sample_token,
            "translation": frame.world_center[row].tolist(),
            "size": objects.size[row][[1, 0, 2]].tolist(),
            "rotation": rotations[row].tolist(),
            "velocity": velocity[row].tolist(),
        }
        score = float(objects.scores[row])
        if tracks:
            assert objects.identity is not None  # else ``tracks`` is False
            number = str(objects.identity[row])
            entry |= {"tracking_id": number, "tracking_name": name, "tracking_score": score}
        else:
            moving = float(np.hypot(*velocity[row])) > MOVING_MPS
            attribute = ATTRIBUTE_OF_CLASS[name][0 if moving else 1]
            entry |= {
                "detection_name": name,
                "detection_score": score,
                "attribute_name": attribute,
            }
        entries.append(entry)
    return entries


def _pieces(frames: Sequence[PlanningFrame]) -> Iterator[str]:
    """Yield the text of the file, one sample at a time."""
    tracks = bool(frames) and all(frame.objects.identity is not None for frame in frames)
    yield f'{{"meta": {json.dumps(dict(CAMERA_META))}, "results": {{'
    for number, frame in enumerate(frames):
        entries = json.dumps(result_entries(frame, tracks=tracks), allow_nan=False)
        yield f"{',' if number else ''}\n{json.dumps(frame.sample_token)}: {entries}"
    yield f'\n}}, "{EXTENSION_KEY}": {{'
    for number, frame in enumerate(frames):
        entry = json.dumps(extension_entry(frame), allow_nan=False)
        yield f"{',' if number else ''}\n{json.dumps(frame.sample_token)}: {entry}"
    yield "\n}}\n"


def _world_rotations(frame: PlanningFrame) -> Floats:  # (N, 4) wxyz
    cos, sin = np.cos(frame.objects.yaw), np.sin(frame.objects.yaw)
    about_z = np.zeros((len(frame.objects), 3, 3))
    about_z[:, 0, 0], about_z[:, 0, 1] = cos, -sin
    about_z[:, 1, 0], about_z[:, 1, 1] = sin, cos
    about_z[:, 2, 2] = 1
    rotations = torch.from_numpy(frame.world_from_ego[:3, :3] @ about_z)
    quaternions: Floats = quaternion_from_rotation(rotations).numpy()
    return quaternions
