"""Pictures and lidar sweeps of a scene at any moment."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bevstack.synthetic.population.traffic import sample_tracks
from bevstack.synthetic.renderer.ground_light import darken_ground, mirror_in_ground
from bevstack.synthetic.renderer.primitives import (
    C_INSTANCE,
    G_X,
    G_Y,
    P_STATE,
    Primitives,
    concatenate,
    place,
)
from bevstack.synthetic.renderer.raycast import rasterise, sweep
from bevstack.synthetic.renderer.shading import L_WET, develop, shade_image
from bevstack.synthetic.renderer.shadows import lamp_pools, object_shadows, scenery_shadows
from bevstack.synthetic.renderer.weather import Drop, see_through_drops
from bevstack.synthetic.rig import CameraMount
from bevstack.synthetic.scene import Scene
from bevstack.synthetic.streets.ground import TEXELS_PER_M

_REACH_M = 160.0  # nothing farther from the ego is drawn
_LIDAR_REACH_M = 100.0
LIDAR_RINGS = 32
LIDAR_ELEVATIONS_DEG = (-30.67, 10.67)  # lowest and highest beam of the HDL-32E


@dataclass(frozen=True)
class Picture:
    """What one camera sees; indices are of `Scene.objects`."""

    image: np.ndarray  # (H, W, 3) uint8, BGR
    instance: (
        np.ndarray
    )  # (H * ss, W * ss) int32, -1 where no object; from the number of objects on, controls
    visible_px: np.ndarray  # (objects,) pixels that show the object, in supersamples
    alone_px: np.ndarray  # (objects,) pixels it would cover with nothing in front
    control_visible_px: np.ndarray  # (controls,) likewise, of traffic lights and signs
    control_alone_px: np.ndarray  # (controls,)


@dataclass(frozen=True)
class LidarSweep:
    """A revolution of the lidar."""

    points: np.ndarray  # (P, 5) float32: x, y, z in the sensor's frame m, intensity, ring
    hits: np.ndarray  # (objects,) points on each object


@dataclass(frozen=True)
class Moment:
    """All primitives near the ego at one time, scene frame."""

    primitives: Primitives
    shadows: np.ndarray  # (S, 8) as `ground_light.darken_ground` reads them
    ego_pose: np.ndarray  # (3,) x, y, yaw of the rear axle


def freeze(scene: Scene, time_s: float) -> Moment:
    """Moves every object to where it is at a time (s after the first sample)."""
    ego = sample_tracks(scene.ego.pose[None], time_s)[0]
    pose = sample_tracks(scene.poses, time_s)
    lamps = sample_tracks(scene.lamps, time_s)
    alive = sample_tracks(scene.alive.astype(np.float64), time_s) > 0.999
    near = alive & (np.hypot(pose[:, 0] - ego[0], pose[:, 1] - ego[1]) < _REACH_M)
    index = scene.object_parts.codes[:, C_INSTANCE]
    rows = np.nonzero(near[index])[0]
    parts = scene.object_parts
    chosen = Primitives(parts.geometry[rows], parts.codes[rows], parts.paint[rows].copy())
    chosen.paint[:, P_STATE] = lamps[index[rows]]
    owner = pose[index[rows]]
    moved = place(chosen, owner[:, 0], owner[:, 1], owner[:, 2])
    static = scene.scenery.geometry
    away = np.hypot(static[:, G_X] - ego[0], static[:, G_Y] - ego[1])
    kept = np.argsort(away, kind="stable")[
        : int((away < _REACH_M).sum())
    ]  # near ones hide far ones
    scenery = Primitives(static[kept], scene.scenery.codes[kept], scene.scenery.paint[kept])
    shadows = _on_the_ground(scene, pose[near], np.nonzero(near)[0], lamps[near], scenery)
    controls = _show_controls(scene, time_s, ego)
    return Moment(concatenate([moved, controls, scenery]), shadows, ego)


def _show_controls(scene: Scene, time_s: float, ego: np.ndarray) -> Primitives:
    """The traffic lights and signs near the ego, the lights in their state."""
    parts = scene.control_parts
    away = np.hypot(parts.geometry[:, G_X] - ego[0], parts.geometry[:, G_Y] - ego[1])
    near = np.nonzero(away < _REACH_M)[0]
    paint = parts.paint[near]
    signals = scene.layout.signals
    paint[:, P_STATE] = [scene.controls[i].attribute(signals, time_s) for i in near]
    return Primitives(parts.geometry[near], parts.codes[near], paint)


def _on_the_ground(
    scene: Scene, pose: np.ndarray, index: np.ndarray, lamps: np.ndarray, scenery: Primitives
) -> np.ndarray:
    """Shadows and pools of light of the objects `index`, at `pose`, and of what stands around."""
    light = scene.light
    sizes = scene.sizes_m[index]
    strength = 0.85 * light.shadow
    rows = [
        object_shadows(pose, sizes, light.sun, strength),
        scenery_shadows(scenery, light.sun, strength),
    ]
    if light.is_night:
        lit = (lamps >= 0.0) & (sizes[:, 1] > 0.62)  # not bicycles
        away = scene.street_lamps_m - pose.mean(axis=0)[:2] if len(pose) else np.zeros((0, 2))
        near = scene.street_lamps_m[np.hypot(away[:, 0], away[:, 1]) < _REACH_M]
        rows.append(lamp_pools(pose[lit], sizes[lit, 0], near))
    return np.concatenate(rows)


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
    drops: tuple[Drop, ...] = ()


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
    objects, total = len(scene.objects), len(scene.objects) + len(scene.controls)
    alone = np.zeros(total, np.int64)
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
        np.array([*moment.ego_pose[:2], *_turn(moment.ego_pose[2])]),
        linear,
    )
    if scene.light.is_wet:
        wet = float(scene.light.values[L_WET])
        mirror_in_ground(owner, depth, rotation, intrinsics, wet, linear)
    if scene.light.is_night or scene.light.is_wet:
        _bloom(linear, factor)
    image = np.empty((height // factor, width // factor, 3), np.uint8)
    develop(linear, factor, sensor.gains, sensor.noise, *sensor.noise_at, image)
    see_through_drops(image, sensor.drops)
    # the extra last entry serves owner == -1, the background
    instance = np.append(parts.codes[:, C_INSTANCE], np.int32(-1))[owner]
    visible = np.bincount(instance[instance >= 0], minlength=total)
    return Picture(
        image,
        instance,
        visible[:objects],
        alone[:objects],
        visible[objects:],
        alone[objects:],
    )


def _turn(yaw_rad: float) -> tuple[float, float]:
    return float(np.cos(yaw_rad)), float(np.sin(yaw_rad))


def _bloom(linear: np.ndarray, factor: int) -> None:
    """Spreads, in place, the light of what is too bright for the sensor."""
    height, width = (n // (4 * factor) for n in linear.shape[:2])
    bright = np.maximum(linear - np.float32(0.8), 0)
    small = cv2.resize(bright, (width, height), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), height / 28)
    linear += cv2.resize(small, linear.shape[1::-1], interpolation=cv2.INTER_LINEAR) * 1.5


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
    count = len(scene.objects)
    hits = np.bincount(instance[(instance >= 0) & (instance < count)], minlength=count)
    return LidarSweep(points, hits)
