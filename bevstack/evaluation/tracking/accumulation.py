"""Matching of the tracks of one class with the true objects, over time, at one score threshold.

K. Bernardin and R. Stiefelhagen, "Evaluating multiple object tracking performance: the CLEAR MOT
metrics", EURASIP Journal on Image and Video Processing, 2008, section 2.1.2: an object keeps its
track as long as both are near each other; the remaining pairs are assigned with the least total
distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.cached_loop import cached_loop
from bevstack.evaluation.tracking.assignment import NONE, assign
from bevstack.evaluation.tracking.track_columns import TrackColumns

MATCH, SWITCH = 1, 2  # kinds of a pair; 0: no pair


class ClassPairs(NamedTuple):
    """True and predicted boxes of one class, and the distances between those of one frame."""

    truth_start: NDArray[np.int64]  # (F + 1,) first true box of each frame
    object: NDArray[np.int64]  # (N,) number of the object, from 0
    start: NDArray[np.int64]  # (F + 1,) first predicted box of each frame
    track: NDArray[np.int64]  # (P,) number of the track, from 0
    score: NDArray[np.float64]  # (P,)
    distance_start: NDArray[np.int64]  # (F + 1,)
    distance: NDArray[np.float64]  # true boxes x predicted boxes of each frame, metres
    num_objects: int
    num_tracks: int


class Counts(NamedTuple):
    """Counts at one threshold."""

    frames: int  # frames with a true or a predicted box
    matches: int
    switches: int
    false_positives: int
    misses: int
    distance_m: float  # sum over matches and switches


class Objects(NamedTuple):
    """History of each object at one threshold; times are numbers of counted frames."""

    boxes: NDArray[np.int64]  # (O,) number of true boxes
    tracked: NDArray[np.int64]  # (O,) number of those with a match or a switch
    delay: NDArray[np.int64]  # (O,) frames from the first box to the first tracked one
    gap: NDArray[np.int64]  # (O,) the longest run of frames without a pair
    fragments: NDArray[np.int64]  # (O,) interruptions between the first and the last pair


def pair_class(predictions: TrackColumns, truth: TrackColumns, num_frames: int) -> ClassPairs:
    """Measure the distances between the predicted and true boxes of a class, frame by frame.

    They come from squared norms and products, as in the devkit: at coordinates of 1,000 m they err
    by about 1e-5 m.
    """
    truth_start, start = truth.starts(num_frames), predictions.starts(num_frames)
    sizes = np.diff(truth_start) * np.diff(start)
    distance_start = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(sizes)))
    distance = np.empty(distance_start[-1])
    truth_norm = np.einsum("ij,ij->i", truth.center, truth.center)
    norm = np.einsum("ij,ij->i", predictions.center, predictions.center)
    for frame in np.flatnonzero(sizes):
        a = slice(truth_start[frame], truth_start[frame + 1])
        b = slice(start[frame], start[frame + 1])
        squared = -2 * (truth.center[a] @ predictions.center[b].T)
        squared += truth_norm[a, None]
        squared += norm[b]
        distance[distance_start[frame] : distance_start[frame + 1]] = squared.ravel()
    objects, object_ = np.unique(truth.track, return_inverse=True)
    tracks, track = np.unique(predictions.track, return_inverse=True)
    return ClassPairs(
        truth_start=truth_start,
        object=object_,
        start=start,
        track=track,
        score=predictions.score,
        distance_start=distance_start,
        distance=np.sqrt(np.maximum(distance, 0)),
        num_objects=len(objects),
        num_tracks=len(tracks),
    )


def accumulate(
    pairs: ClassPairs, threshold: float, distance_m: float
) -> tuple[Counts, Objects, NDArray[np.int8]]:
    """Match the boxes with at least the threshold's score.

    Returns:
        The counts, the history of each object, and for each predicted box ``MATCH``, ``SWITCH`` or
        0.
    """
    kinds, owners, counts, total = _match(*pairs, threshold, distance_m)
    frames, matches, switches, false_positives, misses = (int(count) for count in counts)
    objects = Objects(*_follow(*pairs[:3], owners, pairs.num_objects, pairs.score, threshold))
    return (
        Counts(frames, matches, switches, false_positives, misses, float(total)),
        objects,
        kinds,
    )


@cached_loop
def _assign_rest(
    distance: NDArray[np.float64],  # (A, B) metres
    free_truth: NDArray[np.bool_],  # (A,)
    free: NDArray[np.bool_],  # (B,)
    limit_m: float,
) -> NDArray[np.int64]:  # (A,) predicted box of each true one, or NONE
    """Assign as many free boxes as possible, with the least total distance."""
    rows, columns = distance.shape
    greatest, found = 0.0, False
    for i in range(rows):
        for j in range(columns):
            if free_truth[i] and free[j] and distance[i, j] < limit_m:
                greatest, found = max(greatest, distance[i, j]), True
    partner = np.full(rows, NONE)
    if not found:
        return partner
    # One pair that is not allowed costs more than any set of allowed ones.
    cost = np.full((rows, columns), 2 * min(rows, columns) * (greatest + 1) + 1)
    for i in range(rows):
        for j in range(columns):
            if free_truth[i] and free[j] and distance[i, j] < limit_m:
                cost[i, j] = distance[i, j]
    column = assign(cost)
    for i in range(rows):
        j = column[i]
        if j != NONE and free_truth[i] and free[j] and distance[i, j] < limit_m:
            partner[i] = j
    return partner


@cached_loop
def _match(
    truth_start: NDArray[np.int64],
    object_: NDArray[np.int64],
    start: NDArray[np.int64],
    track: NDArray[np.int64],
    score: NDArray[np.float64],
    distance_start: NDArray[np.int64],
    distance: NDArray[np.float64],
    num_objects: int,
    num_tracks: int,
    threshold: float,
    limit_m: float,
) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.int64], float]:
    """Match frame after frame; see ``accumulate``.

    Returns:
        (P,) kind of each predicted box; (N,) predicted box of each true one or NONE; (5,) counted
        frames, matches, switches, false positives and misses; the sum of distances.
    """
    kinds = np.zeros(len(track), dtype=np.int8)
    owners = np.full(len(object_), NONE)
    remembered = np.full(num_objects, NONE)
    counts = np.zeros(5, dtype=np.int64)
    total = 0.0
    for frame in range(len(start) - 1):
        first_truth, rows = truth_start[frame], truth_start[frame + 1] - truth_start[frame]
        chosen = np.empty(start[frame + 1] - start[frame], dtype=np.int64)
        columns = 0
        for box in range(start[frame], start[frame + 1]):
            if score[box] >= threshold:
                chosen[columns] = box
                columns += 1
        if rows == 0 and columns == 0:
            continue
        counts[0] += 1
        width = start[frame + 1] - start[frame]
        near = np.empty((rows, columns))
        for i in range(rows):
            for j in range(columns):
                column = chosen[j] - start[frame]
                near[i, j] = distance[distance_start[frame] + i * width + column]
        free_truth, free = np.ones(rows, dtype=np.bool_), np.ones(columns, dtype=np.bool_)
        for i in range(rows):
            known = remembered[object_[first_truth + i]]
            for j in range(columns if known != NONE else 0):
                if free[j] and track[chosen[j]] == known:
                    if near[i, j] < limit_m:
                        free_truth[i] = free[j] = False
                        kinds[chosen[j]], owners[first_truth + i] = MATCH, chosen[j]
                        counts[1] += 1
                        total += near[i, j]
                    break
        partner = _assign_rest(near, free_truth, free, limit_m)
        for i in range(rows):
            if partner[i] == NONE:
                continue
            j, number = partner[i], object_[first_truth + i]
            is_switch = remembered[number] not in (NONE, track[chosen[j]])
            kinds[chosen[j]], owners[first_truth + i] = SWITCH if is_switch else MATCH, chosen[j]
            remembered[number] = track[chosen[j]]
            counts[2 if is_switch else 1] += 1
            total += near[i, j]
        paired = np.sum(owners[first_truth : first_truth + rows] != NONE)
        counts[3] += columns - paired
        counts[4] += rows - paired
    return kinds, owners, counts, total


@cached_loop
def _follow(
    truth_start: NDArray[np.int64],
    object_: NDArray[np.int64],
    start: NDArray[np.int64],
    owners: NDArray[np.int64],  # (N,) predicted box of each true one, or NONE
    num_objects: int,
    score: NDArray[np.float64],
    threshold: float,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
]:
    """Follow each object over the counted frames; see ``Objects``."""
    boxes, tracked, delay, gap, fragments = (
        np.zeros(num_objects, dtype=np.int64),
        np.zeros(num_objects, dtype=np.int64),
        np.zeros(num_objects, dtype=np.int64),
        np.zeros(num_objects, dtype=np.int64),
        np.zeros(num_objects, dtype=np.int64),
    )
    last = np.full(num_objects, NONE)  # number of the frame of the last box
    first = np.zeros(num_objects, dtype=np.int64)
    run = np.zeros(num_objects, dtype=np.int64)  # frames since the last pair
    was_missed = np.zeros(num_objects, dtype=np.bool_)  # in the last box
    number = -1
    for frame in range(len(start) - 1):
        counted = truth_start[frame + 1] > truth_start[frame]
        for box in range(start[frame], start[frame + 1]):
            counted = counted or score[box] >= threshold
        number += counted
        for row in range(truth_start[frame], truth_start[frame + 1]):
            k = object_[row]
            if boxes[k] == 0:
                first[k], last[k] = number, number - 1
            run[k] += number - last[k] - 1  # frames without a box of the object
            gap[k] = max(gap[k], run[k])
            last[k] = number
            boxes[k] += 1
            if owners[row] == NONE:
                run[k] += 1
                gap[k] = max(gap[k], run[k])
                was_missed[k] = True
                continue
            if tracked[k] == 0:
                delay[k] = number - first[k]
            elif was_missed[k]:
                fragments[k] += 1
            tracked[k] += 1
            run[k], was_missed[k] = 0, False
    return boxes, tracked, delay, gap, fragments
