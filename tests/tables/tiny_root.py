"""A handmade root in nuScenes' format: two scenes, two rigs, small images.

This module imports nothing from bevstack, so that it tests the reader independently. scene-0103 has
four samples of nuScenes' six cameras (80x48), scene-0916 three samples of four other cameras of two
sizes. Each scene holds a car that moves 1 m a sample, a pedestrian in one sample, a bus without
lidar points, and an animal, which is never scored. The ego vehicle is tilted, so no rotation is
trivial.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import cv2
import numpy as np

VERSION = "v1.0-mini"
SIX = (
    ("CAM_BACK", 178.0),
    ("CAM_BACK_LEFT", 110.0),
    ("CAM_BACK_RIGHT", -111.0),
    ("CAM_FRONT", 1.0),
    ("CAM_FRONT_LEFT", 55.0),
    ("CAM_FRONT_RIGHT", -56.0),
)
FOUR = (("SIDE_RIGHT", -90.0), ("CAM_BACK", 170.0), ("CAM_FRONT", -3.0), ("SIDE_LEFT", 88.0))
SCENES = {"scene-0103": (4, SIX), "scene-0916": (3, FOUR)}
CATEGORIES = ("vehicle.car", "human.pedestrian.adult", "vehicle.bus.rigid", "animal")
ATTRIBUTES = ("vehicle.moving", "vehicle.parked", "pedestrian.standing")
SIZE = {"CAM_FRONT": (80, 48), "SIDE_LEFT": (100, 50), "SIDE_RIGHT": (100, 50)}  # (width, height)


def token(*parts: object) -> str:
    """Return a reproducible token of 32 hexadecimal digits."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def quaternion(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> list[float]:
    """Return the quaternion wxyz of rotations about z, then y, then x (radians)."""
    cy, sy = math.cos(yaw / 2), math.sin(yaw / 2)
    cp, sp = math.cos(pitch / 2), math.sin(pitch / 2)
    cr, sr = math.cos(roll / 2), math.sin(roll / 2)
    return [
        cy * cp * cr + sy * sp * sr,
        cy * cp * sr - sy * sp * cr,
        sy * cp * sr + cy * sp * cr,
        sy * cp * cr - cy * sp * sr,
    ]


def camera_rotation(yaw_deg: float) -> list[float]:
    """Return the rotation ego_from_cam of a level camera with the given yaw."""
    return quaternion(math.radians(yaw_deg) - math.pi / 2, 0.0, -math.pi / 2)


def write_tiny_root(root: Path) -> Path:
    """Write tables and images, and return the root."""
    tables: dict[str, list[dict]] = {name: [] for name in _TABLES}
    for name in CATEGORIES:
        tables["category"].append({"token": token("category", name), "name": name})
    for name in ATTRIBUTES:
        tables["attribute"].append({"token": token("attribute", name), "name": name})
    for number in range(1, 5):
        tables["visibility"].append({"token": str(number), "level": f"v{number}"})
    for channel in ("LIDAR_TOP", *sorted({c for _, rig in SCENES.values() for c, _ in rig})):
        modality = "lidar" if channel == "LIDAR_TOP" else "camera"
        row = {"token": token("sensor", channel), "channel": channel, "modality": modality}
        tables["sensor"].append(row)
    logs = []
    for number, (name, (count, rig)) in enumerate(SCENES.items()):
        _add_scene(tables, name, number, count, rig)
        logs.append(token("log", name))
    (root / "maps").mkdir(parents=True)
    cv2.imwrite(str(root / "maps/mask.png"), np.zeros((8, 8), np.uint8))
    tables["map"].append(
        {"token": token("map"), "filename": "maps/mask.png", "log_tokens": logs, "category": ""}
    )
    write_tables(root, tables)
    _write_images(root, tables)
    return root


def read_table(root: Path, name: str) -> list[dict]:
    """Read the rows of one table."""
    return json.loads((root / VERSION / f"{name}.json").read_text())


def write_tables(root: Path, tables: dict[str, list[dict]]) -> None:
    """Overwrite tables of the root."""
    (root / VERSION).mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows))


def _add_scene(tables: dict, name: str, number: int, count: int, rig: tuple) -> None:
    samples = [token("sample", name, k) for k in range(count)]
    tables["log"].append({"token": token("log", name), "logfile": name, "vehicle": "v"})
    tables["scene"].append(
        {
            "token": token("scene", name),
            "log_token": token("log", name),
            "name": name,
            "description": "hand-made",
            "nbr_samples": count,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
        }
    )
    for channel, yaw in (("LIDAR_TOP", -90.0), *rig):
        _add_calibration(tables, name, number, channel, yaw)
    for k in range(count):
        time = 1_600_000_000_000_000 + number * 50_000_000 + k * 500_000
        tables["sample"].append(
            {
                "token": samples[k],
                "timestamp": time,
                "scene_token": token("scene", name),
                "prev": samples[k - 1] if k else "",
                "next": samples[k + 1] if k + 1 < count else "",
            }
        )
        for order, (channel, _) in enumerate((("LIDAR_TOP", 0.0), *rig)):
            _add_reading(tables, name, number, k, channel, time - order * 7_000)
    _add_objects(tables, name, number, count)


def _add_calibration(tables: dict, scene: str, number: int, channel: str, yaw: float) -> None:
    lidar = channel == "LIDAR_TOP"
    width, height = SIZE.get(channel, (80, 48))
    focal = 60.0 + number + len(channel)
    matrix = [[focal, 0.0, width / 2 + 1.5], [0.0, focal, height / 2 - 0.5], [0.0, 0.0, 1.0]]
    rotation = quaternion(math.radians(yaw), 0.02, -0.01) if lidar else camera_rotation(yaw)
    angle = math.radians(yaw)
    tables["calibrated_sensor"].append(
        {
            "token": token("calibration", scene, channel),
            "sensor_token": token("sensor", channel),
            "translation": [1.2 * math.cos(angle), 0.6 * math.sin(angle), 1.6 + 0.1 * number],
            "rotation": rotation,
            "camera_intrinsic": [] if lidar else matrix,
        }
    )


def _add_reading(tables: dict, scene: str, number: int, k: int, channel: str, time: int) -> None:
    reading = token("reading", scene, k, channel)
    lidar = channel == "LIDAR_TOP"
    width, height = SIZE.get(channel, (80, 48))
    folder = f"samples/{channel}"
    seconds = (time - 1_600_000_000_000_000) * 1e-6
    tables["ego_pose"].append(
        {
            "token": reading,
            "timestamp": time,
            "translation": [700.0 + 4.0 * seconds, 1500.0 - 2.5 * seconds + number, 0.0],
            "rotation": quaternion(0.8 + 0.1 * seconds, 0.03, -0.02),
        }
    )
    tables["sample_data"].append(
        {
            "token": reading,
            "sample_token": token("sample", scene, k),
            "ego_pose_token": reading,
            "calibrated_sensor_token": token("calibration", scene, channel),
            "timestamp": time,
            "fileformat": "pcd" if lidar else "jpg",
            "is_key_frame": True,
            "height": 0 if lidar else height,
            "width": 0 if lidar else width,
            "filename": f"{folder}/{scene}_{k}.{'pcd.bin' if lidar else 'jpg'}",
            "prev": "",
            "next": "",
        }
    )


def _add_objects(tables: dict, scene: str, number: int, count: int) -> None:
    seconds = number * 50.0
    center = np.array([700.0 + 4.0 * seconds, 1500.0 - 2.5 * seconds + number, 1.0])
    for index, category in enumerate(CATEGORIES):
        samples = range(1, 2) if category.startswith("human") else range(count)
        tokens = [token("annotation", scene, category, k) for k in samples]
        instance = token("instance", scene, category)
        tables["instance"].append(
            {
                "token": instance,
                "category_token": token("category", category),
                "nbr_annotations": len(tokens),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        for order, k in enumerate(samples):
            moved = np.array([1.0 * k, 0.25 * k, 0.0]) if category == "vehicle.car" else 0.0
            offset = np.array([9.0 - 5.0 * index, 6.0 + 2.0 * index, 0.2 * index])
            center_m = center + moved + offset
            attribute = {"vehicle.car": 0, "human.pedestrian.adult": 2}.get(category)
            tables["sample_annotation"].append(
                {
                    "token": tokens[order],
                    "sample_token": token("sample", scene, k),
                    "instance_token": instance,
                    "visibility_token": "",
                    "attribute_tokens": []
                    if attribute is None
                    else [token("attribute", ATTRIBUTES[attribute])],
                    "translation": center_m.round(3).tolist(),
                    "size": [1.9 - 0.2 * index, 4.6 - 0.5 * index, 1.7 + 0.1 * index],
                    "rotation": quaternion(0.3 + index),
                    "prev": tokens[order - 1] if order else "",
                    "next": tokens[order + 1] if order + 1 < len(tokens) else "",
                    "num_lidar_pts": 0 if "bus" in category else 7 + k,
                    "num_radar_pts": 0 if "bus" in category else 2,
                }
            )


def _write_images(root: Path, tables: dict) -> None:
    for number, row in enumerate(tables["sample_data"]):
        if row["fileformat"] != "jpg":
            continue
        path = root / row["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        rows, columns = np.mgrid[: row["height"], : row["width"]]
        image = np.stack((rows * 2, columns * 2, np.full_like(rows, number * 5 % 256)), -1)
        cv2.imwrite(str(path), image.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])


_TABLES = (
    *("category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor"),
    *("ego_pose", "log", "scene", "sample", "sample_data", "sample_annotation", "map"),
)
