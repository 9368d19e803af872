"""Camera images and lidar sweeps of a scene at any time."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.population.traffic import sample_tracks
from bevstack.synthetic.renderer.ground_light import darken_ground, mirror_in_ground
from bevstack.synthetic.renderer.lamp_pixels import LAMPS, count_lamp_pixels
from bevstack.synthetic.renderer.lens_light import add_glare, add_glow
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

_REACH_M = 160.0  # objects farther from the ego are not drawn
_LIDAR_REACH_M = 100.0
LIDAR_RINGS = 32
LIDAR_ELEVATIONS_DEG = (-30.67, 10.67)  # lowest and highest beam of the HDL-32E


@dataclass(frozen=True)
class Picture:
    """Image of one camera with its instances; pixel counts are in supersamples.

    Instances are indices of `Scene.objects`, then of `Scene.controls`, offset by the number of
    objects; -1 is background. ss is the number of supersamples per axis.
    """

    image: NDArray[np.uint8]  # (H, W, 3) BGR
    instance: NDArray[np.int32]  # (H * ss, W * ss)
    visible_px: NDArray[np.int64]  # (objects,) pixels that show the object
    unoccluded_px: NDArray[np.int64]  # (objects,) pixels with nothing in front of the object
    control_visible_px: NDArray[np.int64]  # (controls,) the same for traffic lights and signs
    control_unoccluded_px: NDArray[np.int64]  # (controls,)
    lamp_px: NDArray[np.int64]  # (controls, 3) pixels of the red, yellow and green lamp, lit or not
    depth: NDArray[np.float64]  # (H * ss, W * ss) m along the optical axis; FAR: no primitive
    owner: NDArray[np.int32]  # (H * ss, W * ss) row of `Moment.primitives`; -1: ground or sky


@dataclass(frozen=True)
class LidarSweep:
    """One revolution of the lidar."""

    points: NDArray[np.float32]  # (P, 5) x, y, z in the sensor frame m, intensity, ring
    hits: NDArray[np.int64]  # (objects,) points on each object


@dataclass(frozen=True)
class Moment:
    """All primitives near the ego at one time, scene frame."""

    primitives: Primitives
    shadows: NDArray[np.float64]  # (S, 8) read by `ground_light.darken_ground`
    ego_pose: NDArray[np.float64]  # (3,) x, y, yaw of the rear axle


def freeze(scene: Scene, time_s: float) -> Moment:
    """Return the scene near the ego at a time, in s after the first sample."""
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
    distance = np.hypot(static[:, G_X] - ego[0], static[:, G_Y] - ego[1])
    count = int((distance < _REACH_M).sum())
    nearest = np.argsort(distance, kind="stable")[:count]  # first, because they hide the far ones
    scenery = Primitives(
        static[nearest], scene.scenery.codes[nearest], scene.scenery.paint[nearest]
    )
    shadows = _ground_light(scene, pose[near], np.nonzero(near)[0], lamps[near], scenery)
    controls = _set_controls(scene, time_s, ego)
    return Moment(concatenate([moved, controls, scenery]), shadows, ego)


def _set_controls(
    scene: Scene,
    time_s: float,
    ego: NDArray[np.float64],  # (3,)
) -> Primitives:
    """Return the traffic lights and signs near the ego, with the lights in their current state."""
    parts = scene.control_parts
    distance = np.hypot(parts.geometry[:, G_X] - ego[0], parts.geometry[:, G_Y] - ego[1])
    near = np.nonzero(distance < _REACH_M)[0]
    paint = parts.paint[near]
    signals = scene.layout.signals
    paint[:, P_STATE] = [scene.controls[i].paint_state(signals, time_s) for i in near]
    return Primitives(parts.geometry[near], parts.codes[near], paint)


def _ground_light(
    scene: Scene,
    pose: NDArray[np.float64],  # (N, 3)
    index: NDArray[np.int64],  # (N,) of the objects
    lamps: NDArray[np.float64],  # (N,)
    scenery: Primitives,
) -> NDArray[np.float64]:  # (S, 8)
    """Return the shadows of objects and scenery, and at night the lamp light on the ground."""
    light = scene.light
    sizes = scene.sizes_m[index]
    strength = 0.85 * light.shadow
    rows = [
        object_shadows(pose, sizes, light.sun, strength),
        scenery_shadows(scenery, light.sun, strength),
    ]
    if light.is_night:
        lit = (lamps >= 0.0) & (sizes[:, 1] > 0.62)  # not bicycles
        offset = scene.street_lamps_m - pose.mean(axis=0)[:2] if len(pose) else np.zeros((0, 2))
        near = scene.street_lamps_m[np.hypot(offset[:, 0], offset[:, 1]) < _REACH_M]
        rows.append(lamp_pools(pose[lit], sizes[lit, 0], near))
    return np.concatenate(rows)


def camera_pose(
    ego_pose: NDArray[np.float64],  # (3,) x, y, yaw
    camera: CameraMount,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centre (3,) and scene_from_cam rotation (3, 3) of a camera on the ego."""
    cos, sin = np.cos(ego_pose[2]), np.sin(ego_pose[2])
    scene_from_ego = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    centre = scene_from_ego @ camera.ego_from_cam_translation_m
    centre[:2] += ego_pose[:2]
    return centre, np.ascontiguousarray(scene_from_ego @ camera.ego_from_cam_rotation)


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Properties of one camera for one image: supersampling, gain, noise and drops on the lens."""

    supersampling: int
    gains: NDArray[np.float64]  # (3,) RGB
    noise: NDArray[np.float32]  # (A, B) in units of 0..255
    noise_at: tuple[int, int]  # first row and column of the noise for this image
    drops: tuple[Drop, ...] = ()


def take_picture(scene: Scene, moment: Moment, camera: CameraMount, sensor: Sensor) -> Picture:
    """Render the image of one camera."""
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
    unoccluded = np.zeros(total, np.int64)
    view = (centre, rotation, intrinsics)
    rasterise(parts.geometry, parts.codes, *view, depth, owner, stamp, unoccluded)
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
        np.array([*moment.ego_pose[:2], *_cos_sin(moment.ego_pose[2])]),
        linear,
    )
    if scene.light.is_wet:
        wet = float(scene.light.values[L_WET])
        mirror_in_ground(owner, depth, rotation, intrinsics, wet, linear)
    if scene.light.is_night or scene.light.is_wet:
        _bloom(linear, factor)
    if scene.light.glow:
        add_glow(linear, owner, parts.codes)
    if scene.light.glare:
        sun_px = _project_direction(scene.light.sun, rotation, intrinsics)
        add_glare(linear, owner, sun_px, scene.light.glare)
    image = np.empty((height // factor, width // factor, 3), np.uint8)
    develop(linear, factor, sensor.gains, sensor.noise, *sensor.noise_at, image)
    see_through_drops(image, sensor.drops)
    # owner is -1 for the background, which selects the additional last entry
    instance = np.append(parts.codes[:, C_INSTANCE], np.int32(-1))[owner]
    visible = np.bincount(instance[instance >= 0], minlength=total)
    lamps = np.zeros((total, LAMPS), np.int64)
    count_lamp_pixels(parts.geometry, parts.codes, parts.paint, depth, owner, *view, lamps)
    seen = (visible[:objects], unoccluded[:objects], visible[objects:], unoccluded[objects:])
    return Picture(image, instance, *seen, lamps[objects:], depth, owner)


def _project_direction(
    direction: NDArray[np.float64],  # (3,) scene frame
    rotation: NDArray[np.float64],  # (3, 3) scene_from_cam
    intrinsics: NDArray[np.float64],  # (3, 3)
) -> tuple[float, float] | None:
    """Return the column and row of a point at infinity; None behind the camera."""
    x, y, z = intrinsics @ (rotation.T @ direction)
    return (float(x / z), float(y / z)) if z > 0.1 else None


def _cos_sin(yaw_rad: float) -> tuple[float, float]:
    return float(np.cos(yaw_rad)), float(np.sin(yaw_rad))


def _bloom(
    linear: NDArray[np.float32],  # (H * factor, W * factor, 3) in and out
    factor: int,
) -> None:
    """Spread the light of overexposed pixels, in place."""
    height, width = (n // (4 * factor) for n in linear.shape[:2])
    bright = np.maximum(linear - np.float32(0.8), 0)
    small = cv2.resize(bright, (width, height), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), height / 28)
    linear += cv2.resize(small, linear.shape[1::-1], interpolation=cv2.INTER_LINEAR) * 1.5


def take_sweep(scene: Scene, moment: Moment, azimuths: int, rng: np.random.Generator) -> LidarSweep:
    """Simulate one lidar revolution of a scene that stands still."""
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
    ranges = distance[ring, column]
    hit = owner[ring, column]
    noisy = ranges + rng.normal(0.0, 0.01, len(ranges))
    flat = noisy * np.cos(elevation[ring])
    directions = np.stack(
        [
            flat * np.cos(azimuth[column]),
            flat * np.sin(azimuth[column]),
            noisy * np.sin(elevation[ring]),
        ],
        axis=1,
    )
    points = np.empty((len(ranges), 5), np.float32)
    points[:, :3] = directions @ rotation
    points[:, 3] = np.where(hit >= 0, 30.0, 12.0) + rng.integers(0, 20, len(ranges))
    points[:, 4] = ring
    instance = parts.codes[hit[hit >= 0], C_INSTANCE]
    count = len(scene.objects)
    hits = np.bincount(instance[(instance >= 0) & (instance < count)], minlength=count)
    return LidarSweep(points, hits)
