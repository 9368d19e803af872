"""Rows of the extra tables: traffic lights and signs in the images, and lanes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.population.traffic import sample_tracks
from bevstack.synthetic.population.traffic_control import TrafficControl
from bevstack.synthetic.recording.camera import Picture, camera_pose
from bevstack.synthetic.recording.labels import Row, sample_time_us
from bevstack.synthetic.recording.traffic_tables import element_fields, rich_lane_rows
from bevstack.synthetic.rig import CameraMount, yaw_to_quaternion
from bevstack.synthetic.scene import Scene
from bevstack.tables.writer import make_token

_MIN_VISIBLE_PX = 4  # of an annotated light or sign
_MIN_VISIBLE_SHARE = 0.3  # visible share of its pixels
_MIN_FACING = 0.25  # cosine of the angle between its face's normal and the direction to the camera
_LANE_STEP_M = 2.0


def lane_token(scene: Scene, lane: int) -> str:
    """Return the token of a lane of a scene."""
    return make_token("lane", scene.name, lane)


def lane_rows(scene: Scene) -> list[Row]:
    """Return the rows of all lanes of a scene, with centre lines in driving direction."""
    if scene.lanes is not None:
        return rich_lane_rows(scene, scene.lanes)
    rows: list[Row] = []
    for index, lane in enumerate(scene.layout.lanes):
        s = np.arange(0.0, lane.path.length_m, _LANE_STEP_M)
        x, y, _ = lane.path.at(s)
        points = np.stack(scene.placement.to_world(x, y), axis=1)
        rows.append(
            {
                "token": lane_token(scene, index),
                "scene_token": make_token("scene", scene.name),
                "log_token": make_token("log", scene.name),
                "centerline": points.round(2).tolist(),
                "speed_limit_mps": round(lane.speed_limit_mps, 2),
            }
        )
    return rows


def control_rows(
    scene: Scene, sample: int, camera: CameraMount, picture: Picture, per_pixel: int
) -> list[Row]:
    """Return the rows of the lights and signs whose front is visible in one keyframe image.

    Args:
        scene: the scene.
        sample: index of the sample.
        camera: camera of the image.
        picture: the image.
        per_pixel: number of supersamples per pixel.
    """
    time_s = (sample_time_us(scene, sample) + camera.time_offset_us - scene.start_us) * 1e-6
    centre, rotation = camera_pose(sample_tracks(scene.ego.pose[None], time_s)[0], camera)
    rows = []
    for index, control in enumerate(scene.controls):
        visible = int(picture.control_visible_px[index]) / per_pixel
        unoccluded = int(picture.control_unoccluded_px[index]) / per_pixel
        if visible < _MIN_VISIBLE_PX or visible < _MIN_VISIBLE_SHARE * unoccluded:
            continue
        box = _box_px(control, centre, rotation, camera.intrinsics, scene.rig.image_size)
        if box is not None:
            share = round(visible / unoccluded, 3)
            place = _row(scene, sample, camera.channel, index, box, share, time_s)
            lamps = picture.lamp_px[index] / per_pixel
            rows.append(place | element_fields(scene, control, time_s, lamps))
    return rows


def _row(
    scene: Scene,
    sample: int,
    channel: str,
    index: int,
    box: list[list[float]],
    share: float,
    time_s: float,
) -> Row:
    control = scene.controls[index]
    x, y, z = control.centre_m
    world_x, world_y = scene.placement.to_world(x, y)
    depth, width, height = control.size_m
    return {
        "token": make_token("traffic_element", scene.name, channel, sample, index),
        "instance_token": make_token("traffic_element", scene.name, index),
        "sample_token": make_token("sample", scene.name, sample),
        "sample_data_token": make_token("sample_data", scene.name, channel, sample),
        "camera": channel,
        "category": control.category,
        "attribute": control.attribute(scene.layout.signals, time_s),
        "points": box,
        "translation": [round(float(v), 3) for v in (world_x, world_y, z)],
        "size": [width, depth, height],
        "rotation": list(yaw_to_quaternion(control.yaw_rad + scene.placement.yaw_rad)),
        "visibility": share,
        "lane_token": lane_token(scene, control.lane),
    }


def _box_px(
    control: TrafficControl,
    centre: NDArray[np.float64],  # (3,) of the camera
    rotation: NDArray[np.float64],  # (3, 3) scene_from_cam
    intrinsics: NDArray[np.float64],  # (3, 3)
    image_size: tuple[int, int],
) -> list[list[float]] | None:
    """Return the top left and bottom right corner of a control in the image.

    None if its face points away from the camera, or if it is too close.
    """
    cos, sin = np.cos(control.yaw_rad), np.sin(control.yaw_rad)
    towards = centre - np.array(control.centre_m)
    if cos * towards[0] + sin * towards[1] < _MIN_FACING * np.linalg.norm(towards):
        return None
    signs = np.array([[a, b, c] for a in (1, -1) for b in (1, -1) for c in (1, -1)])
    corners = signs * np.array(control.size_m) / 2
    yaw_rotation = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    in_camera = (corners @ yaw_rotation + control.centre_m - centre) @ rotation
    if in_camera[:, 2].min() < 0.1:
        return None
    pixels = in_camera @ intrinsics.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    limits = np.array([image_size[1], image_size[0]])
    low, high = np.clip(pixels.min(axis=0), 0, limits), np.clip(pixels.max(axis=0), 0, limits)
    return [low.round(2).tolist(), high.round(2).tolist()]
