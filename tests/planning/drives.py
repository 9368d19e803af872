"""Simulated drives without images: a rig, a road with lights, and a head with noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bevstack.types.rig_view import RigView
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import (
    LAMP_SHAPES,
    LIGHT_COLORS,
    MANOEUVRES,
    ROAD_SIGN,
    SIGN_MEANINGS,
    TRAFFIC_LIGHT,
)

NAMES = (
    "CAM_FRONT",
    "CAM_FRONT_LEFT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
)
YAWS_DEG = (0, 55, -55, 110, -110, 180)
SIZE = (900, 1600)
START_US = 1_000_000_000


@dataclass(frozen=True)
class Post:
    """A light, sign or tail lamp of a simulated road."""

    position_m: tuple[float, float, float]
    state: Callable[[float], str] = lambda _: "red"  # colour in an image at a time in seconds
    yaw_rad: float = np.pi
    shape: str = "circle"
    category: int = TRAFFIC_LIGHT
    meaning: str = "other"
    speed_limit_mps: float = np.nan
    velocity_mps: tuple[float, float] = (0.0, 0.0)
    hidden: tuple[float, float] = (np.inf, np.inf)  # seconds from and to
    pedestrian: float = 0.0
    learned: tuple[float, ...] = (0.0,) * len(MANOEUVRES)

    def at(self, time_s: float) -> NDArray[np.float64]:
        step = np.array([*self.velocity_mps, 0.0]) * time_s
        return np.asarray(self.position_m) + step


@dataclass(frozen=True)
class Noise:
    """Errors of the simulated head."""

    bias: float = 0.08  # of the distance, one draw for each post: housings differ in size
    distance: float = 0.05  # of the distance, in each frame
    bearing_rad: float = 0.002
    certainty: float = 5.0  # mean logit of the true colour
    spread: float = 1.5  # of that logit
    dark: float = 0.03  # lit lamps that look off
    confused: float = 0.01  # frames whose colours are random
    missed: float = 0.03  # boxes that are not found
    heading_rad: float = 0.15


def pose_at(x_m: float, y_m: float = 0.0, yaw_rad: float = 0.0) -> NDArray[np.float64]:
    pose = np.eye(4)
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    pose[:2, :2] = [[c, -s], [s, c]]
    pose[:2, 3] = x_m, y_m
    return pose


def view_at(
    pose: NDArray[np.float64], time_s: float, *, lost: Sequence[str] = (), scene: str = "scene"
) -> RigView:
    """Return the rig's view: six cameras, 70 degrees each, 1.6 m above the road."""
    count = len(NAMES)
    focal = SIZE[1] / 2 / np.tan(np.deg2rad(35))
    intrinsics = np.array([[focal, 0, SIZE[1] / 2], [0, focal, SIZE[0] / 2], [0, 0, 1]])
    ego_from_cam = np.tile(np.eye(4), (count, 1, 1))
    for row, yaw in enumerate(np.deg2rad(YAWS_DEG)):
        forward = np.array([np.cos(yaw), np.sin(yaw), 0])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0])
        ego_from_cam[row, :3, :3] = np.stack((right, [0, 0, -1], forward), 1)
        ego_from_cam[row, :3, 3] = [*(forward[:2] * 0.5 + [1.0, 0]), 1.6]
    return RigView(
        timestamp_us=START_US + round(time_s * 1e6),
        world_from_ego=pose,
        intrinsics=np.tile(intrinsics, (count, 1, 1)),
        ego_from_cam=ego_from_cam,
        image_sizes=np.tile(np.array(SIZE), (count, 1)),
        camera_mask=np.array([name not in lost for name in NAMES]),
        camera_names=NAMES,
        scene_token=scene,
    )


def color_scores(color: str, noise: Noise, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the head's probabilities of a light that shows a colour."""
    if color != "off" and rng.random() < noise.dark:
        color = "off"
    logits = rng.normal(0, 1, len(LIGHT_COLORS))
    logits[LIGHT_COLORS.index(color)] += rng.normal(noise.certainty, noise.spread)
    if rng.random() < noise.confused:
        logits = rng.normal(0, 2, len(LIGHT_COLORS))
    scores = np.exp(logits - logits.max())
    return np.asarray(scores / scores.sum())


def detect(
    posts: Sequence[Post],
    view: RigView,
    time_s: float,
    rng: np.random.Generator,
    noise: Noise | None = None,
) -> TrafficDetections:
    """Return the detections of the posts that the cameras show."""
    noise = noise or Noise()
    rows: list[dict[str, object]] = []
    for index, post in enumerate(posts):
        bias = 1 + noise.bias * np.random.default_rng(index).normal()
        place = view.ego_from_world() @ np.append(post.at(time_s), 1.0)
        pixels, depth = view.project(place[None, :3])
        ego_yaw = np.arctan2(view.world_from_ego[1, 0], view.world_from_ego[0, 0])
        heading = post.yaw_rad - ego_yaw
        for camera in np.flatnonzero(view.camera_mask):
            (u, v), d = pixels[0, camera], depth[0, camera]
            inside = 1 < d < 100 and 0 <= u < SIZE[1] and 0 <= v < SIZE[0]
            origin = view.ego_from_cam[camera, :3, 3]
            sight = place[:3] - origin
            back = np.arctan2(-sight[1], -sight[0]) - heading
            turned = abs((back + np.pi) % (2 * np.pi) - np.pi) > 1.2
            hidden = post.hidden[0] <= time_s < post.hidden[1]
            if not inside or turned or hidden or rng.random() < noise.missed:
                continue
            color = post.state(time_s)
            rows.append(
                _detection(post, int(camera), sight, origin, bias, heading, view, noise, rng, color)
            )
    return _stacked(rows)


def _detection(post, camera, sight, origin, bias, heading, view, noise, rng, color):  # type: ignore[no-untyped-def]
    length = np.linalg.norm(sight)
    seen = sight + length * noise.bearing_rad * rng.normal(size=3)
    direction = seen / np.linalg.norm(seen)
    far = length * bias * (1 + noise.distance * rng.normal())
    across = (noise.bearing_rad * far) ** 2
    along = (noise.bias**2 + noise.distance**2) * far**2
    height = 1.05 * view.intrinsics[camera, 1, 1] / far
    pixel, _ = view.project((origin + seen)[None])
    u, v = pixel[0, camera]
    shape = np.full(len(LAMP_SHAPES), 0.01)
    shape[LAMP_SHAPES.index(post.shape)] += 1
    meaning = np.full(len(SIGN_MEANINGS), 0.02)
    meaning[SIGN_MEANINGS.index(post.meaning)] += 1
    return {
        "camera": camera,
        "boxes_px": [u - height / 6, v - height / 2, u + height / 6, v + height / 2],
        "scores": rng.uniform(0.75, 0.99),
        "category": post.category,
        "color": color_scores(color, noise, rng),
        "shape": shape / shape.sum(),
        "meaning": meaning / meaning.sum(),
        "position_m": origin + direction * far,
        "position_cov_m2": across * np.eye(3) + along * np.outer(direction, direction),
        "heading_rad": heading + noise.heading_rad * rng.normal(),
        "heading_std_rad": max(noise.heading_rad, 0.05),
        "relevance": post.learned,
        "pedestrian": post.pedestrian,
        "speed_limit_mps": post.speed_limit_mps,
    }


def _stacked(rows: Sequence[dict[str, object]]) -> TrafficDetections:
    if not rows:
        return TrafficDetections.empty()
    names = list(rows[0])
    values = {name: np.array([row[name] for row in rows]) for name in names}
    return TrafficDetections(**values)


@dataclass
class Cycle:
    """A signal plan: green, yellow, red, repeated."""

    green_s: float = 12.0
    yellow_s: float = 3.5
    red_s: float = 14.0
    offset_s: float = 0.0
    names: tuple[str, str, str] = field(default=("green", "yellow", "red"))

    def __call__(self, time_s: float) -> str:
        phase = (time_s + self.offset_s) % (self.green_s + self.yellow_s + self.red_s)
        return self.names[int(phase >= self.green_s) + int(phase >= self.green_s + self.yellow_s)]


def sign(x_m: float, y_m: float, meaning: str, speed_limit_mps: float = np.nan) -> Post:
    return Post(
        (x_m, y_m, 2.3),
        state=lambda _: "off",
        category=ROAD_SIGN,
        meaning=meaning,
        speed_limit_mps=speed_limit_mps,
    )
