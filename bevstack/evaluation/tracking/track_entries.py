"""Conversion of a stream's tracks to boxes of a file of tracks in nuScenes' format."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bevstack.evaluation.results.box_entries import MAX_BOXES
from bevstack.evaluation.tracking.tracking_config import TRACKING_CLASSES
from bevstack.tracking import Tracks


def track_entries(
    tracks: Tracks,
    sample_token: str,
    timestamp_us: int,
    class_names: Sequence[str],
    *,
    coasted: bool = False,
    prefix: str = "",
) -> list[dict[str, object]]:
    """Return the tracks of one sample as JSON objects of the format.

    Classes that nuScenes does not track are left out. Of more than 500 tracks the first are kept.

    Args:
        tracks: the tracks after the sample's frame, in the world frame, highest score first.
        sample_token: the sample.
        timestamp_us: time of the frame, which tells the tracks with a box from the coasted ones.
        class_names: the names of the tracks' labels.
        coasted: keep tracks that have no box in this frame, whose position is predicted. A planner
            wants them. The metric fills holes itself, so there they only count as false positives.
        prefix: start of every ``tracking_id``, for scenes in which tracking starts again.
    """
    seen = (tracks.last_seen_us == timestamp_us).tolist()
    columns = zip(
        tracks.identity.tolist(),
        tracks.state.tolist(),
        tracks.elevation_m.tolist(),
        tracks.size.tolist(),
        tracks.yaw.tolist(),
        tracks.scores.tolist(),
        [class_names[label] for label in tracks.labels.tolist()],
        seen,
        strict=True,
    )
    entries: list[dict[str, object]] = [
        {
            "sample_token": sample_token,
            "translation": [x, y, z],
            "size": [width, length, height],
            "rotation": [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)],
            "velocity": [vx, vy],
            "tracking_id": f"{prefix}{identity}",
            "tracking_name": name,
            "tracking_score": score,
        }
        for identity, (x, y, vx, vy), z, (
            length,
            width,
            height,
        ), yaw, score, name, has_box in columns
        if name in TRACKING_CLASSES and (coasted or has_box)
    ]
    return entries[:MAX_BOXES]
