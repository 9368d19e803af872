"""Baseline of tracking: boxes take the nearest object, best box first, without a filter.

T. Yin, X. Zhou and P. Kraehenbuehl, "Center-based 3D Object Detection and Tracking", arXiv
2006.11275, section 4.2. Differences: an object's place is predicted by its last box's velocity, as
objects that miss a box need that anyway, and one reach holds for all classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.tracking.tracking_config import TRACKING_CLASSES
from bevstack.tables.reader import Tables
from bevstack.vocabulary import DETECTION_CLASSES

REACH_M = 3.0
PATIENCE = 2  # frames that an object is kept without a box


@dataclass
class _Object:
    identity: int
    label: int
    center: tuple[float, float]  # metres
    velocity: tuple[float, float]  # metres per second
    missed: int = 0  # frames since the last box


def nearest_tracks(
    boxes: BoxColumns,  # of a results file of detection
    tables: Tables,
    samples: NDArray[np.int64],  # rows of the sample table: all samples of some scenes
) -> dict[str, list[dict[str, object]]]:  # as in a file of tracks
    """Track the boxes of a results file; scores are those of the boxes."""
    tokens = np.asarray(tables.samples.token)
    row_of_token = {token: row for row, token in enumerate(boxes.sample_tokens.tolist())}
    results = {}
    for scene in np.unique(tables.samples.scene[samples]).tolist():
        objects: list[_Object] = []
        count, before_us = 0, 0
        for sample in tables.samples_of_scene(scene).tolist():
            token, time_us = str(tokens[sample]), int(tables.samples.timestamp_us[sample])
            rows = np.flatnonzero(boxes.sample == row_of_token[token])
            rows = rows[np.argsort(-boxes.score[rows], kind="stable")]
            seconds, before_us = (time_us - before_us) * 1e-6, time_us
            objects, identities = _step(objects, boxes, rows, seconds, count)
            count = max([count, *(identity + 1 for identity in identities)])
            results[token] = _entries(boxes, rows, identities, token)
    return results


def _step(
    objects: list[_Object], boxes: BoxColumns, rows: NDArray[np.int64], seconds: float, count: int
) -> tuple[list[_Object], list[int]]:
    """Return the objects after a frame, and the identity of each of its boxes, best first."""
    free = [_moved(found, seconds) for found in objects]
    kept, identities = [], []
    for row in rows.tolist():
        center = boxes.translation[row, 0], boxes.translation[row, 1]
        label = int(boxes.label[row])
        distances = [
            math.dist(center, found.center) if found.label == label else math.inf for found in free
        ]
        nearest = min(distances, default=math.inf)
        if nearest < REACH_M:
            identity = free.pop(distances.index(nearest)).identity
        else:
            identity, count = count, count + 1
        identities.append(identity)
        velocity = np.nan_to_num(boxes.velocity[row])
        kept.append(_Object(identity, label, center, (velocity[0], velocity[1])))
    for found in free:
        found.missed += 1
    return kept + [found for found in free if found.missed <= PATIENCE], identities


def _moved(found: _Object, seconds: float) -> _Object:
    (x, y), (vx, vy) = found.center, found.velocity
    center = x + seconds * vx, y + seconds * vy
    return _Object(found.identity, found.label, center, found.velocity, found.missed)


def _entries(
    boxes: BoxColumns, rows: NDArray[np.int64], identities: list[int], token: str
) -> list[dict[str, object]]:
    names = [DETECTION_CLASSES[label] for label in boxes.label[rows]]
    return [
        {
            "sample_token": token,
            "translation": boxes.translation[row].tolist(),
            "size": boxes.size[row].tolist(),
            "rotation": boxes.rotation[row].tolist(),
            "velocity": np.nan_to_num(boxes.velocity[row]).tolist(),
            "tracking_id": str(identity),
            "tracking_name": name,
            "tracking_score": float(boxes.score[row]),
        }
        for row, identity, name in zip(rows.tolist(), identities, names, strict=True)
        if name in TRACKING_CLASSES
    ]
