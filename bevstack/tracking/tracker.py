"""Tracking: the boxes of a new frame and what was known before become what is known now.

Every object has a Kalman filter (``kalman``), as in A. Bewley et al., "Simple Online and Realtime
Tracking" (arXiv 1602.00763) and, in 3D, X. Weng et al. (arXiv 1907.03961). Other than there, the
noise of a box is that of a camera: large along the line of sight and small across it. Objects
without a box are kept for a while and scored lower the longer they are unseen.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bevstack.config.tracking import TrackingConfig
from bevstack.shapes import expect_shape
from bevstack.tracking import kalman
from bevstack.tracking.association import associate
from bevstack.tracking.tracks import TrackedScene, Tracks
from bevstack.types import Boxes3D, Detections
from bevstack.types.boxes import blend_yaw

UNKNOWN_SPEED_SIGMA_MPS = 100.0  # of a box without a velocity: it says nothing of it


def update_tracks(
    before: TrackedScene | None,
    detections: Detections,
    *,
    eye: Tensor,  # (2,) metres, where the vehicle is
    timestamp_us: int,
    config: TrackingConfig,
) -> TrackedScene:
    """What is known after a frame, those objects included that only earlier frames saw.

    Args:
        before: what was known after the frame before; None for the first.
        detections: the frame's boxes, in the frame of the tracks.
        eye: in the frame of the tracks.
        timestamp_us: of the frame, not before the last one's.
        config: noise, reach and forgetting.

    Raises:
        ValueError: time goes back.
    """
    expect_shape("eye", eye, (2,))
    boxes = detections.boxes.to(torch.float64)
    found = Detections(boxes, detections.scores.to(torch.float64), detections.labels)
    eye = eye.to(torch.float64)
    if before is None:
        first = _begin(found, eye, timestamp_us, config, 0)
        return TrackedScene(_best_first(first), timestamp_us, len(first))
    seconds = (timestamp_us - before.timestamp_us) * 1e-6
    if seconds < 0:
        raise ValueError(
            f"timestamp_us must not lie before that of the last frame, {before.timestamp_us}; got "
            f"{timestamp_us}: begin a new scene with before=None"
        )
    state, covariance = kalman.predict(
        before.tracks.state,
        before.tracks.covariance,
        seconds=seconds,
        acceleration_mps2=config.acceleration_mps2,
    )
    expected = replace(before.tracks, state=state, covariance=covariance)
    pairs = _associate(expected, found, eye, config)
    seen = _join(expected[pairs[0]], found[pairs[1]], eye, seconds, config)
    seen = replace(seen, seen_us=torch.full_like(seen.seen_us, timestamp_us))
    unseen = _forget(expected[_others(len(expected), pairs[0])], seconds, timestamp_us, config)
    alone = found[_others(len(found), pairs[1])]
    doubted = Detections(alone.boxes, alone.scores * config.new_score, alone.labels)
    new = _begin(doubted, eye, timestamp_us, config, before.num_objects)
    tracks = _best_first(Tracks.concatenate([seen, unseen, new]))
    return TrackedScene(tracks, timestamp_us, before.num_objects + len(new))


def _associate(
    expected: Tracks, found: Detections, eye: Tensor, config: TrackingConfig
) -> tuple[Tensor, Tensor]:
    places, others = expected.state[:, :2], found.boxes.center[:, :2]
    away = _norm(places - eye)[:, None] + _norm(others - eye)
    reach = config.reach_m + config.reach_per_m * away / 2
    return associate(places, others, expected.labels[:, None] == found.labels, reach)


def _join(
    expected: Tracks,  # P rows
    found: Detections,  # P boxes, one a track
    eye: Tensor,
    seconds: float,
    config: TrackingConfig,
) -> Tracks:
    boxes = found.boxes
    # What a box does not say is taken to be as expected, with a noise that gives it no weight.
    velocity = torch.where(boxes.velocity.isnan(), expected.state[:, 2:], boxes.velocity)
    state, covariance = kalman.update(
        expected.state,
        expected.covariance,
        torch.cat((boxes.center[:, :2], velocity), 1),
        _noise(boxes, eye, config),
    )
    of_yaw = _share(seconds, config.yaw_half_life_s)
    of_size = _share(seconds, config.size_half_life_s)
    of_score = _share(seconds, config.score_half_life_s)
    return replace(
        expected,
        state=state,
        covariance=covariance,
        elevation_m=torch.lerp(expected.elevation_m, boxes.center[:, 2], of_size),
        size=torch.lerp(expected.size, boxes.size, of_size),
        yaw=blend_yaw(expected.yaw, boxes.yaw, of_yaw, found.scores > expected.scores),
        scores=torch.lerp(expected.scores, found.scores, of_score),
    )


def _forget(expected: Tracks, seconds: float, timestamp_us: int, config: TrackingConfig) -> Tracks:
    kept = expected[timestamp_us - expected.seen_us <= config.max_unseen_s * 1e6]
    return replace(kept, scores=kept.scores * 0.5 ** (seconds / config.unseen_half_life_s))


def _begin(
    found: Detections, eye: Tensor, timestamp_us: int, config: TrackingConfig, identity: int
) -> Tracks:
    boxes = found.boxes
    covariance = _noise(boxes, eye, config)
    known = ~boxes.velocity.isnan()
    speeds = covariance.diagonal(dim1=1, dim2=2)[:, 2:]  # a view
    speeds[known] = config.first_speed_sigma_mps**2
    return Tracks(
        identity=torch.arange(identity, identity + len(found)),
        state=torch.cat((boxes.center[:, :2], boxes.velocity.nan_to_num(nan=0.0)), 1),
        covariance=covariance,
        elevation_m=boxes.center[:, 2],
        size=boxes.size,
        yaw=boxes.yaw,
        scores=found.scores,
        labels=found.labels,
        seen_us=torch.full((len(found),), timestamp_us, dtype=torch.int64),
    )


def _noise(boxes: Boxes3D, eye: Tensor, config: TrackingConfig) -> Tensor:  # (P, 4, 4)
    """Covariance of what boxes say of place and velocity."""
    sight = boxes.center[:, :2] - eye
    away = _norm(sight)
    ahead = sight.new_tensor((1.0, 0.0))  # of a box right at the eye any direction will do
    along = torch.where(away[:, None] > 0, sight / away[:, None], ahead)
    across = torch.stack((-along[:, 1], along[:, 0]), -1)
    noise = boxes.center.new_zeros(len(boxes), 4, 4)
    for direction, sigma_m, sigma_per_m in (
        (along, config.range_sigma_m, config.range_sigma_per_m),
        (across, config.bearing_sigma_m, config.bearing_sigma_per_m),
    ):
        spread = (sigma_m + sigma_per_m * away)[:, None] * direction
        noise[:, :2, :2] += spread[:, :, None] * spread[:, None]
    speed = _norm(boxes.velocity.nan_to_num(nan=0.0))[:, None].expand(-1, 2)
    sigma = config.speed_sigma_mps + config.speed_sigma_per_mps * speed
    sigma = torch.where(boxes.velocity.isnan(), UNKNOWN_SPEED_SIGMA_MPS, sigma)
    noise[:, 2:, 2:] = torch.diag_embed(sigma**2)
    return noise


def _share(seconds: float, half_life_s: float) -> float:
    """Weight of what is new against what was remembered for so long."""
    return 1 - 0.5 ** (seconds / half_life_s)


def _norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1)


def _others(count: int, taken: Tensor) -> Tensor:  # (count,) bool
    rest = torch.ones(count, dtype=torch.bool)
    rest[taken] = False
    return rest


def _best_first(tracks: Tracks) -> Tracks:
    return tracks[tracks.scores.argsort(descending=True, stable=True)]
