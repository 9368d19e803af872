"""Scores of whole tracks, and boxes that fill the holes of tracks.

Both follow nuscenes-devkit to the last bit, since a track's score decides at which thresholds its
boxes count.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.tracking.track_columns import Frames, TrackColumns


def with_mean_scores(boxes: TrackColumns) -> TrackColumns:
    """Return the boxes with the mean score of their track instead of their own."""
    if not len(boxes):
        return boxes
    _, track, counts = np.unique(boxes.track, return_inverse=True, return_counts=True)
    order = np.argsort(track, kind="stable")
    start = np.cumsum(counts) - counts
    mean = np.empty(len(counts))
    for count in np.unique(counts):  # rows of equal length have numpy's own rounding of a mean
        tracks = np.flatnonzero(counts == count)
        rows = order[start[tracks][:, None] + np.arange(count)]
        mean[tracks] = np.ascontiguousarray(boxes.score[rows]).mean(axis=1)
    return replace(boxes, score=mean[track])


def with_filled_holes(boxes: TrackColumns, frames: Frames) -> TrackColumns:
    """Add a box to every frame in which a track has none, between its first and its last frame.

    The box lies between those before and after it. The devkit gives the two neighbours each other's
    weights: directly after the earlier box, the added one is near the later box. Scores depend on
    that, so it is kept. Added boxes come last in their frame, in the order in which their tracks
    begin.
    """
    if not len(boxes):
        return boxes
    order = np.argsort(boxes.track, kind="stable")
    left, right = order[:-1], order[1:]
    gap = boxes.frame[right] - boxes.frame[left] - 1
    holes = np.flatnonzero((boxes.track[left] == boxes.track[right]) & (gap > 0))
    left, right, gap = left[holes], right[holes], gap[holes]
    number = np.arange(gap.sum()) - np.repeat(np.cumsum(gap) - gap, gap)  # within its hole
    left, right = np.repeat(left, gap), np.repeat(right, gap)
    frame = boxes.frame[left] + 1 + number
    weight = _weight_of_later(frame, boxes.frame[left], boxes.frame[right], frames)
    _, first_rows = np.unique(boxes.track, return_index=True)
    first_row = np.zeros(int(boxes.track.max()) + 1, dtype=np.int64)
    first_row[boxes.track[first_rows]] = first_rows
    added = np.lexsort((first_row[boxes.track[right]], frame))
    blended = _blend(boxes.center[left], boxes.center[right], weight[:, None])
    columns = {
        "frame": frame,
        "track": boxes.track[right],
        "label": boxes.label[right],
        "center": blended,
        "score": _blend(boxes.score[left], boxes.score[right], weight),
    }
    joined = {
        name: np.concatenate((getattr(boxes, name), values[added]))
        for name, values in columns.items()
    }
    return TrackColumns(**joined)[np.argsort(joined["frame"], kind="stable")]


def _weight_of_later(
    frame: NDArray[np.int64],
    earlier: NDArray[np.int64],
    later: NDArray[np.int64],
    frames: Frames,
) -> NDArray[np.float64]:
    """Return the devkit's weight of the later box: the share of time that is left until it."""
    time = frames.timestamp_us
    weight: NDArray[np.float64] = (time[later] - time[frame]) / (time[later] - time[earlier])
    return weight


def _blend(
    earlier: NDArray[np.float64], later: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    blended: NDArray[np.float64] = (1.0 - weight) * earlier + weight * later
    return blended
