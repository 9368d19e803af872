"""Results files on the handmade root: a car that turns, a pedestrian and a cone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, write_traffic_frames
from tests.export.scenes import random_cue
from tests.tables.tiny_root import VERSION, quaternion, token

SCENE, OTHER_SCENE = "scene-0103", "scene-0916"
TURN_RAD = 0.2  # of the car, from sample to sample


def sample_tokens(scene: str = SCENE) -> list[str]:
    return [token("sample", scene, number) for number in range(4 if scene == SCENE else 3)]


def box(sample: str, name: str, place: tuple[float, float], yaw: float, speed: float) -> dict:
    """Return a box of the results format, without the fields of its task."""
    return {
        "sample_token": sample,
        "translation": [*place, 1.5],
        "size": [1.9, 4.6, 1.7],
        "rotation": quaternion(yaw),
        "velocity": [speed * math.cos(yaw), speed * math.sin(yaw)],
        "name": name,
    }


def boxes_of(sample: str, number: int) -> list[tuple[str, dict]]:
    """Return the boxes of a sample, each with the identity of its object."""
    yaw = 3.0 + TURN_RAD * number  # passes pi
    car = box(sample, "car", (600.0 + 4 * number, 1600.0), yaw, 8.0)
    person = box(sample, "pedestrian", (590.0, 1590.0 + number), 1.5, 2.0)
    return [("7", car), ("3", person)]


def write_results(path: Path, *, tracks: bool, scenes: tuple[str, ...] = (SCENE,)) -> Path:
    """Write results of detection, with a cone, or of tracking."""
    results: dict[str, Any] = {}
    for scene in scenes:
        for number, sample in enumerate(sample_tokens(scene)):
            entries = boxes_of(sample, number)
            if not tracks:
                entries.append(("", box(sample, "traffic_cone", (605.0, 1605.0), 0.0, 0.0)))
            found = []
            for identity, entry in entries:
                name, score = entry.pop("name"), 0.9 - 0.1 * len(found)
                if tracks:
                    kind = {"tracking_id": identity, "tracking_name": name}
                    found.append(entry | kind | {"tracking_score": score})
                else:
                    kind = {"detection_name": name, "attribute_name": ""}
                    found.append(entry | kind | {"detection_score": score})
            results[sample] = found
    meta = {f"use_{name}": name == "camera" for name in ("camera", "lidar", "radar", "map")}
    content = {"meta": meta | {"use_external": False}, "results": results}
    path.write_text(json.dumps(content))
    return path


def write_cues(path: Path, count: int = 4) -> Path:
    """Write the cues of the first samples of the scene: one light with an id of a map."""
    frames = []
    for number, sample in enumerate(sample_tokens()[:count]):
        cue = random_cue(np.random.default_rng(1), "light", number)
        frames.append(
            TrafficFrame(
                timestamp_us=number, cameras=("CAM_FRONT",), sample_token=sample, cues=(cue,)
            )
        )
    write_traffic_frames(path, frames, {})
    return path


__all__ = ["OTHER_SCENE", "SCENE", "VERSION", "sample_tokens", "write_cues", "write_results"]
