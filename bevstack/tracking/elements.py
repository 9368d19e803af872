"""Tracking of traffic lights and signs in 3D, over cameras and time.

Elements stand still in the world, so that one that leaves an image, or is hidden for a while, is
recognised by its place. A second filter, of constant velocity, shows lamps that move with traffic.
State goes in and comes out; equal inputs give equal bits.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from bevstack.config.element_tracking import ElementTrackingConfig
from bevstack.tracking import element_filter
from bevstack.tracking.element_measurements import (
    PART_OVERLAP,
    Measured,
    is_covered,
    measure,
    overlap,
    should_be_visible,
    wrapped,
)
from bevstack.tracking.element_tracks import Elements, ElementScene
from bevstack.types.rig_view import RigView
from bevstack.types.traffic_detections import TrafficDetections

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_FAMILY = uuid.UUID("6f0b1c0e-6b1d-5d0c-9f54-3c1f0a7f2b11")  # of all identities of elements
_SAME_PLACE_M = 0.4  # two tracks that are closer are one: housings do not overlap
_COMPARISON_WEIGHT = 0.5  # of a frame's evidence for motion: errors persist over frames
_COMPARISON_LIMIT = 1.5  # of one frame


def update_elements(
    previous: ElementScene | None,
    detections: TrafficDetections,
    view: RigView,
    config: ElementTrackingConfig,
) -> ElementScene:
    """Update the elements with a frame's detections.

    Detections that are not finite, of a lost camera or without extent are left out.

    Args:
        previous: the elements after the frame before; None to start.
        detections: of the frame, in its ego frame, in all cameras.
        view: cameras and pose of the frame.
        config: noise, gates and how long an element is kept.

    Raises:
        ValueError: the frame lies before the previous one.
    """
    elements = Elements.empty() if previous is None else previous.elements
    seconds = 0.0
    if previous is not None:
        seconds = (view.timestamp_us - previous.timestamp_us) * 1e-6
        if seconds < 0:
            raise ValueError(
                "timestamp_us must not lie before that of the last frame, "
                f"{previous.timestamp_us}; got {view.timestamp_us}: start with previous=None"
            )
        elements = _predict(elements, seconds, config)
    measured = measure(detections, view, config)
    rows = np.full((len(elements), len(view.intrinsics)), -1, np.int64)
    started = 0
    for camera in np.unique(measured.camera):
        here = np.flatnonzero(measured.camera == camera)
        pairs = _associate(elements, measured, here, config)
        elements = _correct(elements, measured, pairs, seconds, config)
        rows[pairs[0], camera] = measured.row[pairs[1]]
        new = _unexplained(measured, here, pairs[1], config)
        if len(new):
            born = _start(measured, new, view, started, config)
            started += len(born)
            elements = Elements.concatenate([elements, born])
            fresh = np.full((len(born), rows.shape[1]), -1, np.int64)
            fresh[:, camera] = measured.row[new]
            rows = np.concatenate([rows, fresh])
    inside = should_be_visible(elements, view, config)
    covered = is_covered(elements, rows, detections.boxes_px, view, config)
    elements = _judge(elements, rows, inside, covered, view.timestamp_us, seconds, config)
    kept = _kept(elements, rows, view.timestamp_us, config)
    return ElementScene(
        elements[kept],
        view.timestamp_us,
        view.scene_token,
        rows[kept],
        inside[kept],
        covered[kept],
    )


def _predict(elements: Elements, seconds: float, config: ElementTrackingConfig) -> Elements:
    motion, covariance = element_filter.predict_motion(
        elements.motion,
        elements.motion_covariance,
        seconds=seconds,
        acceleration_mps2=config.moving_acceleration_mps2,
    )
    return replace(
        elements,
        covariance_m2=elements.covariance_m2 + config.position_noise_m**2 * seconds * np.eye(3),
        motion=motion,
        motion_covariance=covariance,
    )


def _associate(
    elements: Elements, measured: Measured, here: Integers, config: ElementTrackingConfig
) -> tuple[Integers, Integers]:  # (P,) rows of elements, (P,) rows of the measured
    """Assign boxes of one image to elements, at most one to each (Hungarian method)."""
    cost = _costs(elements, measured, here, config)
    ratio = np.log(np.maximum(measured.height_m[here], 1e-3)) - np.log(
        np.maximum(elements.height_m, 1e-3)[:, None]
    )
    comparable = elements.lamp_box[:, None] == measured.lamp_box[here]
    ratio = np.where(comparable, ratio, 0.0)
    allowed = (elements.category[:, None] == measured.category[here]) & np.isfinite(cost)
    allowed &= np.abs(ratio) <= config.size_ratio_limit
    cost = cost + (ratio / config.size_ratio_sigma) ** 2
    limit = config.gate + (config.size_ratio_limit / config.size_ratio_sigma) ** 2 + 1
    gain = np.where(allowed, limit - cost, 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    paired = allowed[rows, columns]
    return rows[paired], here[columns[paired]]


def _costs(
    elements: Elements, measured: Measured, here: Integers, config: ElementTrackingConfig
) -> Floats:  # (E, len(here)), infinite outside the gate
    """Return twice the negative log-likelihoods of pairs, up to a constant for each element.

    The likelihood is that of the better one of "stands still" and "moves", with its probability. An
    element that may move, and was not seen for a while, may be anywhere: a box far away fits it,
    but no better than any other place, which the determinant of its spread states.
    """
    seen = measured.position_m[here], measured.noise_m2[here], measured.camera_m[here]
    still, still_spread = element_filter.seen_gaps(
        elements.position_m, elements.covariance_m2, *seen
    )
    moving, moving_spread = element_filter.seen_gaps(
        elements.motion[:, :3], elements.motion_covariance[:, :3, :3], *seen
    )
    odds = elements.moving_log_odds[:, None]
    moves = moving + np.maximum(moving_spread - still_spread, 0) + 2 * np.logaddexp(0, -odds)
    stays = still + 2 * np.logaddexp(0, odds)
    cost = np.minimum(stays, moves)
    return np.where(cost <= config.gate, cost, np.inf)


def _correct(
    elements: Elements,
    measured: Measured,
    pairs: tuple[Integers, Integers],
    seconds: float,
    config: ElementTrackingConfig,
) -> Elements:
    rows, found = pairs
    if not len(rows):
        return elements
    old = elements[rows]
    position, covariance, still = element_filter.update(
        old.position_m, old.covariance_m2, measured.position_m[found], measured.noise_m2[found]
    )
    motion, motion_covariance, moving = element_filter.update(
        old.motion, old.motion_covariance, measured.position_m[found], measured.noise_m2[found]
    )
    evidence = np.clip(_COMPARISON_WEIGHT * (moving - still), -_COMPARISON_LIMIT, _COMPARISON_LIMIT)
    limit = config.moving_limit
    gain = old.yaw_variance / (old.yaw_variance + measured.yaw_variance[found])
    turn = wrapped(measured.yaw_rad[found] - old.yaw_rad)
    changed = replace(
        old,
        position_m=position,
        covariance_m2=covariance,
        motion=motion,
        motion_covariance=motion_covariance,
        moving_log_odds=np.clip(old.moving_log_odds + evidence, -limit, limit),
        yaw_rad=wrapped(old.yaw_rad + gain * turn),
        # A smallest spread: headings of successive frames have common errors.
        yaw_variance=np.maximum((1 - gain) * old.yaw_variance, 0.05**2),
        height_m=measured.height_m[found],
        lamp_box=measured.lamp_box[found],
        existence_log_odds=old.existence_log_odds
        + _support(measured.scores[found], config.missed_per_s * seconds),
        cameras=old.cameras | np.left_shift(1, measured.camera[found]),
    )
    order = np.arange(len(elements))
    order[rows] = len(elements) + np.arange(len(rows))
    return Elements.concatenate([elements, changed])[order]


def _support(scores: Floats, loss: float) -> Floats:
    """Return the log-odds that a box adds: its own and 1.5 for its place, at most 1.5.

    A weak box takes as much as a missed look at most, so that it does not keep a false element.
    """
    clipped = np.clip(scores, 1e-3, 1 - 1e-3)
    return np.asarray(np.clip(np.log(clipped / (1 - clipped)) + 1.5, -loss, 1.5))


def _unexplained(
    measured: Measured, here: Integers, paired: Integers, config: ElementTrackingConfig
) -> Integers:
    """Return the boxes of an image that start an element: no track, no box over another."""
    left = [r for r in here if r not in set(paired.tolist())]
    left.sort(key=lambda r: (-measured.scores[r], r))
    taken, new = list(paired), []
    for row in left:
        overlaps = any(
            overlap(measured.boxes_px[row], measured.boxes_px[r]) > PART_OVERLAP for r in taken
        )
        if measured.scores[row] >= config.start_score and not overlaps:
            new.append(row)
            taken.append(row)
    return np.array(new, np.int64)


def _start(
    measured: Measured, new: Integers, view: RigView, order: int, config: ElementTrackingConfig
) -> Elements:
    count, now = len(new), np.full(len(new), view.timestamp_us, np.int64)
    names = [
        str(uuid.uuid5(_FAMILY, f"{view.scene_token}/{view.timestamp_us}/{order + index}"))
        for index in range(count)
    ]
    position, noise = measured.position_m[new], measured.noise_m2[new]
    motion_covariance = np.zeros((count, 6, 6))
    motion_covariance[:, :3, :3] = noise
    motion_covariance[:, 3:, 3:] = config.moving_speed_sigma_mps**2 * np.diag([1.0, 1.0, 1e-2])
    scores = np.clip(measured.scores[new], 1e-3, 1 - 1e-3)
    return Elements(
        identity=np.array(names, "<U36"),
        category=measured.category[new],
        position_m=position,
        covariance_m2=noise,
        motion=np.concatenate((position, np.zeros((count, 3))), 1),
        motion_covariance=motion_covariance,
        moving_log_odds=np.full(count, config.moving_prior_log_odds),
        yaw_rad=measured.yaw_rad[new],
        yaw_variance=measured.yaw_variance[new],
        height_m=measured.height_m[new],
        lamp_box=measured.lamp_box[new],
        existence_log_odds=np.clip(np.log(scores / (1 - scores)), -1.5, 1.0),
        hits=np.zeros(count, np.int64),
        first_seen_us=now,
        last_seen_us=now,
        last_inside_us=now,
        cameras=np.left_shift(1, measured.camera[new]),
    )


def _judge(
    elements: Elements,
    rows: Integers,  # (E, N)
    inside: NDArray[np.bool_],  # (E, N)
    covered: NDArray[np.bool_],  # (E,)
    timestamp_us: int,
    seconds: float,
    config: ElementTrackingConfig,
) -> Elements:
    """Lower the existence of elements without a box, and note the times."""
    seen, expected = (rows >= 0).any(1), inside.any(1)
    rate = np.where(expected, config.missed_per_s, config.unseen_per_s)
    loss = np.where(expected & covered, config.covered_per_s, rate) * seconds
    existence = elements.existence_log_odds - np.where(seen, 0.0, loss)
    now = np.int64(timestamp_us)
    return replace(
        elements,
        existence_log_odds=np.clip(existence, -config.existence_limit, config.existence_limit),
        hits=elements.hits + seen,
        last_seen_us=np.where(seen, now, elements.last_seen_us),
        last_inside_us=np.where(seen | expected, now, elements.last_inside_us),
    )


def _kept(
    elements: Elements, rows: Integers, timestamp_us: int, config: ElementTrackingConfig
) -> Integers:  # rows, ascending
    outside_s = (timestamp_us - elements.last_inside_us) * 1e-6
    good = elements.existence_log_odds >= config.drop_below
    good &= outside_s <= config.max_unseen_s
    for younger in np.flatnonzero(good):
        same = elements.category[:younger] == elements.category[younger]
        older = np.flatnonzero(good[:younger] & same)
        gap = np.linalg.norm(elements.position_m[older] - elements.position_m[younger], axis=1)
        # Two boxes in one image show two elements, however close they are.
        apart = ((rows[older] >= 0) & (rows[younger] >= 0)).any(1)
        good[younger] &= not ((gap < _SAME_PLACE_M) & ~apart).any()
    kept = np.flatnonzero(good)
    best = np.argsort(-elements.existence_log_odds[kept], kind="stable")[: config.max_elements]
    return np.sort(kept[best])
