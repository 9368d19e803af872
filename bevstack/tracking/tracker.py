"""Tracking of objects over frames: the boxes of a new frame update the known tracks.

Every object has a Kalman filter (``kalman``), as in A. Bewley et al., "Simple Online and Realtime
Tracking" (arXiv 1602.00763) and, in 3D, X. Weng et al. (arXiv 1907.03961). Unlike there, the noise
of a box is that of a camera: large along the line of sight and small across it. A track without a
box is kept for a while; its score falls with the time since its last box.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bevstack.config.tracking import TrackingConfig
from bevstack.shapes import expect_shape
from bevstack.tracking import kalman
from bevstack.tracking.association import associate, choose_starts
from bevstack.tracking.tracks import TrackedScene, Tracks
from bevstack.types import Boxes3D, Detections
from bevstack.types.boxes import blend_yaw

UNKNOWN_SPEED_SIGMA_MPS = 100.0  # of a box without a velocity: large, so that it has no weight


def update_tracks(
    previous: TrackedScene | None,
    detections: Detections,
    *,
    ego_position: Tensor,  # (2,) metres
    timestamp_us: int,
    config: TrackingConfig,
) -> TrackedScene:
    """Update tracks with the boxes of a frame.

    The result holds the tracks with a box in this frame and those that only earlier frames support.

    Args:
        previous: the tracks after the frame before; None for the first frame.
        detections: the frame's boxes, in the frame of the tracks.
        ego_position: x and y of the vehicle, in the frame of the tracks.
        timestamp_us: time of the frame, not before that of the previous frame.
        config: noise, association distances, and how fast old measurements lose weight.

    Raises:
        ValueError: ``timestamp_us`` lies before the previous frame's, or ``ego_position`` has
            another shape.
    """
    expect_shape("ego_position", ego_position, (2,))
    exact_boxes = detections.boxes.to(torch.float64)
    exact = Detections(exact_boxes, detections.scores.to(torch.float64), detections.labels)
    ego_position = ego_position.to(torch.float64)
    if previous is None:
        first = _start_tracks(
            exact[_starts(exact, [], config)], ego_position, timestamp_us, config, 0
        )
        return TrackedScene(_best_first(first), timestamp_us, len(first))
    seconds = (timestamp_us - previous.timestamp_us) * 1e-6
    if seconds < 0:
        raise ValueError(
            f"timestamp_us must not lie before that of the last frame, {previous.timestamp_us}; "
            f"got {timestamp_us}: start a new scene with previous=None"
        )
    state, covariance = kalman.predict(
        previous.tracks.state,
        previous.tracks.covariance,
        seconds=seconds,
        acceleration_mps2=config.acceleration_mps2,
    )
    # Calibrated uncertainty is that of the frame before: it does not take part.
    predicted = replace(previous.tracks, state=state, covariance=covariance, uncertainty=None)
    track_rows, box_rows = _associate(predicted, exact, ego_position, config)
    updated = _update(predicted[track_rows], exact[box_rows], ego_position, seconds, config)
    updated = replace(updated, last_seen_us=torch.full_like(updated.last_seen_us, timestamp_us))
    unmatched = predicted[_remaining(len(predicted), track_rows)]
    unseen = _decay_unseen(unmatched, seconds, timestamp_us, config)
    new_boxes = exact[_starts(exact, box_rows, config)]
    # A box without a track has less support than one that continues a track.
    new_boxes = Detections(new_boxes.boxes, new_boxes.scores * config.new_score, new_boxes.labels)
    new = _start_tracks(new_boxes, ego_position, timestamp_us, config, previous.num_objects)
    tracks = _best_first(Tracks.concatenate([updated, unseen, new]))
    return TrackedScene(tracks, timestamp_us, previous.num_objects + len(new))


def _associate(
    predicted: Tracks, detections: Detections, ego_position: Tensor, config: TrackingConfig
) -> tuple[Tensor, Tensor]:
    track_centers, box_centers = predicted.state[:, :2], detections.boxes.center[:, :2]
    ranges = _norm(track_centers - ego_position)[:, None] + _norm(box_centers - ego_position)
    reach = config.reach_m + config.reach_per_m * ranges / 2
    same_class = predicted.labels[:, None] == detections.labels
    return associate(track_centers, box_centers, same_class, reach)


def _starts(
    detections: Detections, box_rows: Tensor | list[int], config: TrackingConfig
) -> Tensor:  # (D,) bool
    """Choose the boxes that start a track; those of the given rows have one."""
    has_track = ~_remaining(len(detections), box_rows)
    centers = detections.boxes.center[:, :2]
    return choose_starts(
        centers, detections.scores, detections.labels, has_track, config.start_gap_m
    )


def _update(
    predicted: Tracks,  # P rows
    detections: Detections,  # P boxes, one per track
    ego_position: Tensor,
    seconds: float,
    config: TrackingConfig,
) -> Tracks:
    boxes = detections.boxes
    # A missing velocity is replaced by the predicted one; its noise gives it no weight.
    velocity = torch.where(boxes.velocity.isnan(), predicted.state[:, 2:], boxes.velocity)
    state, covariance = kalman.update(
        predicted.state,
        predicted.covariance,
        torch.cat((boxes.center[:, :2], velocity), 1),
        _measurement_noise(boxes, ego_position, config),
    )
    yaw_weight = _weight_of_new(seconds, config.yaw_half_life_s)
    size_weight = _weight_of_new(seconds, config.size_half_life_s)
    score_weight = _weight_of_new(seconds, config.score_half_life_s)
    box_wins = detections.scores > predicted.scores
    return replace(
        predicted,
        state=state,
        covariance=covariance,
        elevation_m=torch.lerp(predicted.elevation_m, boxes.center[:, 2], size_weight),
        size=torch.lerp(predicted.size, boxes.size, size_weight),
        yaw=blend_yaw(predicted.yaw, boxes.yaw, yaw_weight, box_wins),
        scores=torch.lerp(predicted.scores, detections.scores, score_weight),
    )


def _decay_unseen(
    predicted: Tracks, seconds: float, timestamp_us: int, config: TrackingConfig
) -> Tracks:
    kept = predicted[timestamp_us - predicted.last_seen_us <= config.max_unseen_s * 1e6]
    return replace(kept, scores=kept.scores * 0.5 ** (seconds / config.unseen_half_life_s))


def _start_tracks(
    detections: Detections,
    ego_position: Tensor,
    timestamp_us: int,
    config: TrackingConfig,
    first_identity: int,
) -> Tracks:
    boxes = detections.boxes
    count = len(detections)
    covariance = _measurement_noise(boxes, ego_position, config)
    known = ~boxes.velocity.isnan()
    speed_variances = covariance.diagonal(dim1=1, dim2=2)[:, 2:]  # a view
    speed_variances[known] = config.first_speed_sigma_mps**2
    return Tracks(
        identity=torch.arange(first_identity, first_identity + count),
        state=torch.cat((boxes.center[:, :2], boxes.velocity.nan_to_num(nan=0.0)), 1),
        covariance=covariance,
        elevation_m=boxes.center[:, 2],
        size=boxes.size,
        yaw=boxes.yaw,
        scores=detections.scores,
        labels=detections.labels,
        last_seen_us=torch.full((count,), timestamp_us, dtype=torch.int64),
    )


def _measurement_noise(
    boxes: Boxes3D, ego_position: Tensor, config: TrackingConfig
) -> Tensor:  # (P, 4, 4)
    """Return the covariance of the boxes' positions and velocities."""
    sight = boxes.center[:, :2] - ego_position
    distances = _norm(sight)
    forward = sight.new_tensor((1.0, 0.0))  # any direction will do for a box at the vehicle
    along = torch.where(distances[:, None] > 0, sight / distances[:, None], forward)
    across = torch.stack((-along[:, 1], along[:, 0]), -1)
    noise = boxes.center.new_zeros(len(boxes), 4, 4)
    for direction, sigma_m, sigma_per_m in (
        (along, config.range_sigma_m, config.range_sigma_per_m),
        (across, config.bearing_sigma_m, config.bearing_sigma_per_m),
    ):
        spread = (sigma_m + sigma_per_m * distances)[:, None] * direction
        noise[:, :2, :2] += spread[:, :, None] * spread[:, None]
    speed = _norm(boxes.velocity.nan_to_num(nan=0.0))[:, None].expand(-1, 2)
    sigma = config.speed_sigma_mps + config.speed_sigma_per_mps * speed
    sigma = torch.where(boxes.velocity.isnan(), UNKNOWN_SPEED_SIGMA_MPS, sigma)
    noise[:, 2:, 2:] = torch.diag_embed(sigma**2)
    return noise


def _weight_of_new(seconds: float, half_life_s: float) -> float:
    """Return the weight of a new value against an old one whose weight halves each half-life."""
    weight: float = 1 - 0.5 ** (seconds / half_life_s)
    return weight


def _norm(vectors: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return norm


def _remaining(count: int, taken: Tensor | list[int]) -> Tensor:  # (count,) bool
    remaining = torch.ones(count, dtype=torch.bool)
    remaining[taken] = False
    return remaining


def _best_first(tracks: Tracks) -> Tracks:
    return tracks[tracks.scores.argsort(descending=True, stable=True)]
