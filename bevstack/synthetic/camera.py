"""Pictures and lidar sweeps of a scene at any moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bevstack.synthetic.ground import TEXELS_PER_M
from bevstack.synthetic.primitives import (
    C_INSTANCE,
    G_HX,
    G_HZ,
    G_X,
    G_Y,
    P_STATE,
    Primitives,
    concatenate,
    place,
)
from bevstack.synthetic.raycast import rasterise, sweep
from bevstack.synthetic.rig import CameraMount
from bevstack.synthetic.scene import Scene
from bevstack.synthetic.shading import darken_ground, develop, shade_image
from bevstack.synthetic.traffic import sample_tracks

_REACH_M = 160.0  # nothing farther from the ego is drawn
_LIDAR_REACH_M = 100.0
LIDAR_RINGS = 32
LIDAR_ELEVATIONS_DEG = (-30.67, 10.67)  # lowest and highest beam of the HDL-32E


@dataclass(frozen=True)
class Picture:
    """What one camera sees; indices are of `Scene.objects`."""

    image: np.ndarray  # (H, W, 3) uint8, BGR
    instance: np.ndarray  # (H * ss, W * ss) int32, -1 where no object
    visible_px: np.ndarray  # (objects,) pixels that show the object, in supersamples
    alone_px: np.ndarray  # (objects,) pixels it would cover with nothing in front


@dataclass(frozen=True)
class LidarSweep:
    """A revolution of the lidar."""

    points: np.ndarray  # (P, 5) float32: x, y, z in the sensor's frame m, intensity, ring
    hits: np.ndarray  # (objects,) points on each object


@dataclass(frozen=True)
class Moment:
    """All primitives near the ego at one time, scene frame."""

    primitives: Primitives
    shadows: np.ndarray  # (S, 8) as `shading.darken_ground` reads them
    ego_pose: np.ndarray  # (3,) x, y, yaw of the rear axle


def freeze(scene: Scene, time_s: float) -> Moment:
    """Moves every object to where it is at a time (s after the first sample)."""
    ego = sample_tracks(scene.ego.pose[None], time_s)[0]
    pose = sample_tracks(scene.poses, time_s)
    braking = sample_tracks(scene.braking, time_s)
    alive = sample_tracks(scene.alive.astype(np.float64), time_s) > 0.999
    near = alive & (np.hypot(pose[:, 0] - ego[0], pose[:, 1] - ego[1]) < _REACH_M)
    index = scene.object_parts.codes[:, C_INSTANCE]
    rows = np.nonzero(near[index])[0]
    parts = scene.object_parts
    chosen = Primitives(parts.geometry[rows], parts.codes[rows], parts.paint[rows].copy())
    chosen.paint[:, P_STATE] = braking[index[rows]]
    owner = pose[index[rows]]
    moved = place(chosen, owner[:, 0], owner[:, 1], owner[:, 2])
    static = scene.scenery.geometry
    away = np.hypot(static[:, G_X] - ego[0], static[:, G_Y] - ego[1])
    kept = np.argsort(away, kind="stable")[
        : int((away < _REACH_M).sum())
    ]  # near ones hide far ones
    scenery = Primitives(static[kept], scene.scenery.codes[kept], scene.scenery.paint[kept])
    sizes = np.array([o.model.size_m for o in scene.objects])
    shadows = _shadows(scene.light.sun, pose[near], sizes[near], scenery)
    return Moment(concatenate([moved, scenery]), shadows, ego)


def _shadows(
    sun: np.ndarray, pose: np.ndarray, size_m: np.ndarray, scenery: Primitives
) -> np.ndarray:
    """Soft rectangles: one under each object, one thrown by it away from the sun."""
    count = len(pose)
    contact = np.zeros((count, 8))
    contact[:, 0:2] = pose[:, :2]
    contact[:, 2], contact[:, 3] = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    contact[:, 4:6] = size_m[:, :2] / 2 - 0.05
    contact[:, 6], contact[:, 7] = 0.62, np.minimum(0.35, 0.15 + 0.1 * size_m[:, 2])
    thrown = contact.copy()
    reach = np.minimum(size_m[:, 2], 4.0)[:, None] * -sun[None, :2] / sun[2] * 0.5
    thrown[:, 0:2] += reach
    thrown[:, 4] += np.abs(thrown[:, 2] * reach[:, 0] + thrown[:, 3] * reach[:, 1]) * 0.8
    thrown[:, 5] += np.abs(thrown[:, 2] * reach[:, 1] - thrown[:, 3] * reach[:, 0]) * 0.8
    thrown[:, 6], thrown[:, 7] = 0.32, 0.3
    low = scenery.geometry[scenery.geometry[:, 2] - scenery.geometry[:, G_HZ] < 0.05]
    feet = np.zeros((len(low), 8))
    feet[:, 0:4] = low[:, [0, 1, 3, 4]]
    feet[:, 4:6] = low[:, G_HX : G_HX + 2]
    feet[:, 6], feet[:, 7] = 0.5, 0.5
    return np.concatenate([thrown, contact, feet])


def camera_pose(ego_pose: np.ndarray, camera: CameraMount) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) and scene_from_cam rotation (3, 3) of a camera on the ego."""
    cos, sin = np.cos(ego_pose[2]), np.sin(ego_pose[2])
    scene_from_ego = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    centre = scene_from_ego @ camera.ego_from_cam_translation_m
    centre[:2] += ego_pose[:2]
    return centre, np.ascontiguousarray(scene_from_ego @ camera.ego_from_cam_rotation)


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """The electronics of one camera: supersampling, gain and noise."""

    supersampling: int
    gains: np.ndarray  # (3,)
    noise: np.ndarray  # (A, B) float32, 0..255 units; one field, read from a new place each time
    noise_at: tuple[int, int]


def take_picture(scene: Scene, moment: Moment, camera: CameraMount, sensor: Sensor) -> Picture:
    """Renders one camera."""
    factor = sensor.supersampling
    height, width = (n * factor for n in scene.rig.image_size)
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2] *= factor
    centre, rotation = camera_pose(moment.ego_pose, camera)
    parts = moment.primitives
    depth = np.empty((height, width))
    owner = np.empty((height, width), np.int32)
    stamp = np.zeros((height, width), np.int32)
    alone = np.zeros(len(scene.objects), np.int64)
    view = (centre, rotation, intrinsics)
    rasterise(parts.geometry, parts.codes, *view, depth, owner, stamp, alone)
    shade = np.ones((height, width), np.float32)
    darken_ground(moment.shadows, *view, owner, shade)
    linear = np.empty((height, width, 3), np.float32)
    shade_image(
        parts.geometry,
        parts.codes,
        parts.paint,
        depth,
        owner,
        shade,
        *view,
        scene.ground.texels,
        scene.ground.levels,
        scene.ground.corner_m,
        TEXELS_PER_M,
        scene.light.values,
        scene.light.clouds,
        linear,
    )
    image = np.empty((height // factor, width // factor, 3), np.uint8)
    develop(linear, factor, sensor.gains, sensor.noise, *sensor.noise_at, image)
    # the extra last entry serves owner == -1, the background
    instance = np.append(parts.codes[:, C_INSTANCE], np.int32(-1))[owner]
    visible = np.bincount(instance[instance >= 0], minlength=len(scene.objects))
    return Picture(image, instance, visible, alone)


def take_sweep(scene: Scene, moment: Moment, azimuths: int, rng: np.random.Generator) -> LidarSweep:
    """Simulates one lidar revolution, frozen at its moment."""
    lidar = scene.rig.lidar
    cos, sin = np.cos(moment.ego_pose[2]), np.sin(moment.ego_pose[2])
    scene_from_ego = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    rotation = scene_from_ego @ lidar.ego_from_lidar_rotation
    origin = scene_from_ego @ lidar.ego_from_lidar_translation_m
    origin[:2] += moment.ego_pose[:2]
    parts = moment.primitives
    elevation = np.deg2rad(np.linspace(*LIDAR_ELEVATIONS_DEG, LIDAR_RINGS))
    azimuth = moment.ego_pose[2] + np.arange(azimuths) * (2 * np.pi / azimuths)
    distance = np.empty((LIDAR_RINGS, azimuths))
    owner = np.empty((LIDAR_RINGS, azimuths), np.int32)
    sweep(parts.geometry, parts.codes, origin, elevation, azimuth, 0.0, distance, owner)
    ring, column = np.nonzero(distance < _LIDAR_REACH_M)
    reach = distance[ring, column]
    hit = owner[ring, column]
    noisy = reach + rng.normal(0.0, 0.01, len(reach))
    flat = noisy * np.cos(elevation[ring])
    directions = np.stack(
        [
            flat * np.cos(azimuth[column]),
            flat * np.sin(azimuth[column]),
            noisy * np.sin(elevation[ring]),
        ],
        axis=1,
    )
    points = np.empty((len(reach), 5), np.float32)
    points[:, :3] = directions @ rotation
    points[:, 3] = np.where(hit >= 0, 30.0, 12.0) + rng.integers(0, 20, len(reach))
    points[:, 4] = ring
    instance = parts.codes[hit[hit >= 0], C_INSTANCE]
    hits = np.bincount(instance[instance >= 0], minlength=len(scene.objects))
    return LidarSweep(points, hits)
