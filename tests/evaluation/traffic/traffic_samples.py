"""Random elements, cues and frames in which every field has a value of its own."""

from __future__ import annotations

import uuid

import numpy as np

from bevstack.evaluation.traffic.traffic_frames import TrafficFrame
from bevstack.types.cues import ADVICE, EgoCue, LampBelief, TrafficCue
from bevstack.types.traffic import Lamp
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS, MANOEUVRES, SIGN_MEANINGS


def detections(
    rng: np.random.Generator, count: int, cameras: int = 1, *, with_optional: bool = True
) -> TrafficDetections:
    """Return elements with boxes inside 800x450 pixels, best first."""
    corner = rng.uniform(0, 300, (count, 2))
    limits = rng.uniform(5, 30, count)
    limits[::2] = np.nan
    return TrafficDetections(
        camera=rng.integers(0, cameras, count),
        boxes_px=np.concatenate((corner, corner + rng.uniform(3, 60, (count, 2))), axis=1),
        scores=np.sort(rng.uniform(0, 1, count))[::-1].copy(),
        category=rng.integers(1, 3, count),
        color=rng.dirichlet(np.ones(len(LIGHT_COLORS)), count),
        shape=rng.dirichlet(np.ones(len(LAMP_SHAPES)), count),
        meaning=rng.dirichlet(np.ones(len(SIGN_MEANINGS)), count),
        position_m=rng.normal(0, 20, (count, 3)),
        position_cov_m2=rng.normal(0, 1, (count, 3, 3)),
        heading_rad=rng.uniform(-3, 3, count),
        heading_std_rad=rng.uniform(0, 1, count),
        relevance=rng.normal(0, 3, (count, len(MANOEUVRES))),
        lamp_box=rng.random(count) < 0.5 if with_optional else None,
        pedestrian=rng.uniform(0, 1, count) if with_optional else None,
        speed_limit_mps=limits if with_optional else None,
    )


def cue(rng: np.random.Generator, timestamp_us: int, *, sign: bool = False) -> TrafficCue:
    """Return a light that is seen, or a sign that is not."""
    lamp = Lamp("green", "left", "flashing")
    box = tuple(rng.uniform(0, 100, 4).tolist())
    x, y, z = rng.normal(0, 20, 3).tolist()
    return TrafficCue(
        id=str(uuid.UUID(int=int(rng.integers(1 << 60)))),
        kind="sign" if sign else "light",
        timestamp_us=timestamp_us,
        state=() if sign else (LampBelief(lamp, float(rng.random())),),
        state_name="unknown" if sign else "flashing_green",
        state_probability=float(rng.random()),
        last_state_name="unknown" if sign else "red",
        meaning="speed_limit" if sign else None,
        speed_limit_mps=13.9 if sign else None,
        confidence=float(rng.random()),
        position_m=(x, y, z),
        position_cov_m2=rng.normal(0, 1, (3, 3)),
        yaw_rad=float(rng.normal()),
        camera=None if sign else "CAM_FRONT",
        box_px=None if sign else (box[0], box[1], box[2], box[3]),
        visible_now=not sign,
        last_seen_s=0.3 if sign else 0.0,
        state_since_s=float(rng.random()),
        flashing_observable=not sign,
        applies_to_ego=float(rng.random()),
        applies_to=() if sign else ("straight", "left"),
        distance_along_path_m=None if sign else float(rng.normal(30, 5)),
        distance_std_m=None if sign else 1.5,
        stop_line_s_m=None if sign else 25.0,
        sources=("CAM_FRONT",),
        map_id=None if sign else "1701",
    )


def ego_cue(rng: np.random.Generator, timestamp_us: int) -> EgoCue:
    return EgoCue(
        timestamp_us=timestamp_us,
        manoeuvre=MANOEUVRES[int(rng.integers(len(MANOEUVRES)))],
        advice=ADVICE[int(rng.integers(len(ADVICE)))],
        probability=float(rng.random()),
        elements=("a", "b"),
        reason="The light of the lane is red.",
        distance_m=None if rng.random() < 0.5 else 31.0,
        last_seen_s=None if rng.random() < 0.5 else 0.2,
    )


def frame(rng: np.random.Generator, number: int, *, with_optional: bool = True) -> TrafficFrame:
    """Return a frame with elements of two cameras, two cues and a summary."""
    time_us = 1_700_000_000_000_000 + 100_000 * number
    return TrafficFrame(
        timestamp_us=time_us,
        cameras=("CAM_FRONT", "CAM_BACK"),
        sample_token=f"sample{number}" if number % 2 else "",
        scene_token="scene",
        world_from_ego=rng.normal(0, 600, (4, 4)) if number % 2 else None,
        elements=detections(rng, number, 2, with_optional=with_optional),
        cues=(cue(rng, time_us), cue(rng, time_us, sign=True)),
        ego_cues=(ego_cue(rng, time_us),),
    )
