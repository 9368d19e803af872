"""Random frames for the writers of planning formats, and the values that readers must find.

The expected values are computed here from the frames by plain loops, not by ``PlanningFrame``.
"""

from __future__ import annotations

import math
import uuid
from typing import NamedTuple

import numpy as np

from bevstack.export.planning.scene import PlanningFrame, PlanningObjects
from bevstack.planning.paths import predict_paths
from bevstack.types.cues import EgoCue, LampBelief, TrafficCue
from bevstack.types.sectors import SectorTrust
from bevstack.types.traffic import Lamp
from bevstack.vocabulary import (
    DETECTION_CLASSES,
    LAMP_COLORS,
    LAMP_SHAPES,
    LAMP_STATUSES,
    MANOEUVRES,
    SIGN_MEANINGS,
)

NUM_SCENES = 200
# Limits of the round trips: of metres, radians and metres per second.
POSITION_M, YAW_RAD, VELOCITY_MPS = 1e-3, 1e-4, 1e-3
START_US = 1_700_000_000_000_000


class Truth(NamedTuple):
    """An object in one frame of reference, as a reader must find it."""

    center: np.ndarray  # (3,)
    yaw: float
    velocity: np.ndarray  # (2,)
    covariance: np.ndarray | None  # (4, 4)


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Return the matrix of a rotation about x, then y, then z."""
    cz, sz, cy, sy = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    cx, sx = math.cos(roll), math.sin(roll)
    about_z = np.array(((cz, -sz, 0), (sz, cz, 0), (0, 0, 1)))
    about_y = np.array(((cy, 0, sy), (0, 1, 0), (-sy, 0, cy)))
    about_x = np.array(((1, 0, 0), (0, cx, -sx), (0, sx, cx)))
    return about_z @ about_y @ about_x


def random_pose(rng: np.random.Generator) -> np.ndarray:
    """Return a pose far from the origin, tilted by some degrees as on a hill."""
    pose = np.eye(4)
    pose[:3, :3] = rotation(rng.uniform(-4, 4), *rng.normal(0, 0.04, 2))
    pose[:3, 3] = rng.uniform(-1, 1, 3) * (3000, 3000, 80)
    return pose


def random_objects(rng: np.random.Generator, count: int, *, tracks: bool) -> PlanningObjects:
    """Return objects of random classes; a tenth of detections has no velocity."""
    velocity = rng.normal(size=(count, 2)) * rng.choice((0, 1, 12), (count, 1))
    root = rng.normal(size=(count, 4, 4))
    identity = rng.choice(1000, count, replace=False)
    classes = rng.choice(len(DETECTION_CLASSES), count)
    if tracks:  # a track keeps its class
        classes = identity % len(DETECTION_CLASSES)
    else:
        velocity[rng.random(count) < 0.1] = np.nan
    return PlanningObjects(
        class_names=tuple(DETECTION_CLASSES[index] for index in classes),
        scores=rng.random(count),
        center=rng.uniform(-1, 1, (count, 3)) * (80, 80, 4),
        size=rng.uniform(0.2, 15, (count, 3)),
        yaw=rng.uniform(-math.pi, math.pi, count),
        velocity=velocity,
        covariance=root @ root.swapaxes(-1, -2) if tracks else None,
        identity=identity if tracks else None,
        last_seen_us=np.full(count, START_US) if tracks else None,
        turn_rate=rng.normal(0, 0.2, count) if tracks else None,
        turn_rate_std=rng.uniform(0, 0.1, count) if tracks else None,
    )


def random_cue(rng: np.random.Generator, kind: str, time_us: int) -> TrafficCue:
    """Return a light with up to two lamps, or a sign."""
    lamps = [
        Lamp(
            str(rng.choice(LAMP_COLORS)),
            str(rng.choice(LAMP_SHAPES)),
            str(rng.choice(LAMP_STATUSES)),
        )
        for _ in range(int(rng.integers(0, 3)))
    ]
    meaning = str(rng.choice(SIGN_MEANINGS)) if kind == "sign" else None
    root = rng.normal(size=(3, 3))
    return TrafficCue(
        id=str(uuid.UUID(bytes=rng.bytes(16))),
        kind=kind,
        timestamp_us=time_us,
        state=tuple(LampBelief(lamp, float(rng.random())) for lamp in lamps)
        if kind == "light"
        else (),
        state_name="unknown" if not lamps else lamps[0].color,
        state_probability=float(rng.random()),
        last_state_name="unknown",
        meaning=meaning,
        speed_limit_mps=50 / 3.6 if meaning == "speed_limit" else None,
        confidence=float(rng.random()),
        position_m=tuple((rng.uniform(-1, 1, 3) * (90, 30, 6)).tolist()),
        position_cov_m2=root @ root.T,
        yaw_rad=float(rng.uniform(-math.pi, math.pi)),
        camera="CAM_FRONT",
        box_px=(*rng.integers(1, 700, 2).tolist(), 800.0, 880.0),
        visible_now=True,
        last_seen_s=0.0,
        state_since_s=float(rng.random()),
        flashing_observable=True,
        applies_to_ego=float(rng.random()),
        applies_to=("straight",),
        distance_along_path_m=20.0,
        distance_std_m=1.0,
        stop_line_s_m=None,
        sources=("CAM_FRONT",),
        map_id=str(int(rng.integers(1, 1 << 40))) if rng.random() < 0.7 else None,
    )


def random_frame(
    rng: np.random.Generator, *, tracks: bool, time_us: int = START_US, count: int | None = None
) -> PlanningFrame:
    """Return a frame with objects, paths of tracks, cues and trust."""
    count = int(rng.integers(0, 9)) if count is None else count
    objects = random_objects(rng, count, tracks=tracks)
    paths = None
    if tracks:
        state = np.concatenate((objects.center[:, :2], objects.velocity), 1)
        paths = predict_paths(
            state, objects.covariance, objects.yaw, objects.turn_rate, objects.turn_rate_std
        )
    kinds = rng.choice(("light", "sign"), int(rng.integers(0, 4)))
    advice = EgoCue(
        timestamp_us=time_us,
        manoeuvre=MANOEUVRES[0],
        advice="stop",
        probability=0.8,
        elements=(),
        reason="A red light ahead.",
        distance_m=20.0,
        last_seen_s=0.0,
    )
    return PlanningFrame(
        timestamp_us=time_us,
        world_from_ego=random_pose(rng),
        objects=objects,
        drive="scene-0061",
        sample_token=f"sample {time_us}",
        paths=paths,
        cues=tuple(random_cue(rng, str(kind), time_us) for kind in kinds),
        ego_cues=(advice,),
        sectors=SectorTrust(rng.random((8, 3))),
    )


def random_drive(*, tracks: bool, seed: int, count: int = NUM_SCENES) -> list[PlanningFrame]:
    """Return frames at random times, in order."""
    rng = np.random.default_rng(seed)
    times = START_US + np.cumsum(rng.integers(1, 900_000, count))
    return [random_frame(rng, tracks=tracks, time_us=int(time)) for time in times]


def yaw_sweep(*, tracks: bool = True) -> list[PlanningFrame]:
    """Return frames of one car that drives forward, one frame a degree of its heading."""
    frames = []
    for degree in range(360):
        yaw = math.radians(degree - 180)
        heading = np.array(((math.cos(yaw), math.sin(yaw)),))
        left = np.array(((-math.sin(yaw), math.cos(yaw)),))
        # Forward at 7 m/s, with a drift of 0.5 m/s to the left; the ellipse is long ahead.
        both = np.kron(np.eye(2), rotation(yaw)[:2, :2])
        objects = PlanningObjects(
            class_names=("car",),
            scores=np.array((0.5,)),
            center=np.array(((12.0, -3.0, 0.8),)),
            size=np.array(((4.5, 1.9, 1.6),)),
            yaw=np.array((yaw,)),
            velocity=7.0 * heading + 0.5 * left,
            covariance=(both @ np.diag((4.0, 1.0, 0.9, 0.1)) @ both.T)[None] if tracks else None,
            identity=np.array((7,)) if tracks else None,
        )
        pose = np.eye(4)
        pose[:3, :3] = rotation(0.3)
        pose[:3, 3] = (500, -200, 3)
        frames.append(
            PlanningFrame(
                timestamp_us=START_US + 100_000 * degree,
                world_from_ego=pose,
                objects=objects,
                sample_token=str(degree),
            )
        )
    return frames


def truths(frame: PlanningFrame, *, world: bool) -> list[Truth]:
    """Return the objects of a frame in the ego frame or in the world, one after the other."""
    pose = frame.world_from_ego if world else np.eye(4)
    objects = frame.objects
    found = []
    for row in range(len(objects)):
        x, y, z = objects.center[row]
        center = (pose @ np.array((x, y, z, 1.0)))[:3]
        yaw = objects.yaw[row]
        ahead = pose[:3, :3] @ np.array((math.cos(yaw), math.sin(yaw), 0.0))
        velocity = (pose[:3, :3] @ np.array((*objects.velocity[row], 0.0)))[:2]
        covariance = None
        if objects.covariance is not None:
            solid = np.zeros((6, 6))  # of x, y, z and their rates, then turned as a whole
            kept = [0, 1, 3, 4]
            solid[np.ix_(kept, kept)] = objects.covariance[row]
            both = np.kron(np.eye(2), pose[:3, :3])
            covariance = (both @ solid @ both.T)[np.ix_(kept, kept)]
        found.append(Truth(center, math.atan2(ahead[1], ahead[0]), velocity, covariance))
    return found


def angle_between(first: float, second: float) -> float:
    """Return the absolute difference of two angles on the circle."""
    return abs(math.remainder(first - second, 2 * math.pi))
