"""Contents of information files, built from tables in the form of mmdet3d's converters."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = (
    *("car", "truck", "trailer", "bus", "construction_vehicle", "bicycle", "motorcycle"),
    *("pedestrian", "traffic_cone", "barrier"),
)
DETECTED = {  # converter's names of categories
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.rigid": "bus",
    "vehicle.bus.bendy": "bus",
    "vehicle.trailer": "trailer",
    "vehicle.construction": "construction_vehicle",
    "vehicle.bicycle": "bicycle",
    "vehicle.motorcycle": "motorcycle",
    "movable_object.trafficcone": "traffic_cone",
    "movable_object.barrier": "barrier",
    **{
        f"human.pedestrian.{kind}": "pedestrian"
        for kind in ("adult", "child", "construction_worker", "police_officer")
    },
}
CAMERAS = ("FRONT", "FRONT_RIGHT", "FRONT_LEFT", "BACK", "BACK_LEFT", "BACK_RIGHT")


def rotation(quaternion: list[float]) -> np.ndarray:
    """Return the matrix of a quaternion wxyz, from v' = q v q*."""
    w, x, y, z = np.asarray(quaternion) / np.linalg.norm(quaternion)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * skew + 2 * skew @ skew


def matrix(record: dict[str, Any], prefix: str = "") -> np.ndarray:
    """Return the (4, 4) motion of a record's rotation and translation."""
    motion = np.eye(4)
    motion[:3, :3] = rotation(record[f"{prefix}rotation"])
    motion[:3, 3] = record[f"{prefix}translation"]
    return motion


class Tables:
    """Records of a version by token, without any of the project's readers."""

    def __init__(self, root: Path, version: str) -> None:
        self.root = root
        names = ("sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor")
        names += ("sample_annotation", "instance", "category")
        self.all = {n: json.loads((root / version / f"{n}.json").read_text()) for n in names}
        self.by = {n: {r["token"]: r for r in rows} for n, rows in self.all.items()}

    def keyframes(self, sample: str) -> dict[str, dict[str, Any]]:
        rows = (r for r in self.all["sample_data"] if r["sample_token"] == sample)
        return {self.channel(r): r for r in rows if r["is_key_frame"]}

    def channel(self, record: dict[str, Any]) -> str:
        sensor = self.calibration(record)["sensor_token"]
        return str(self.by["sensor"][sensor]["channel"])

    def calibration(self, record: dict[str, Any]) -> dict[str, Any]:
        return self.by["calibrated_sensor"][record["calibrated_sensor_token"]]

    def pose(self, record: dict[str, Any]) -> dict[str, Any]:
        return self.by["ego_pose"][record["ego_pose_token"]]

    def category(self, annotation: dict[str, Any]) -> str:
        instance = self.by["instance"][annotation["instance_token"]]
        name = str(self.by["category"][instance["category_token"]]["name"])
        return DETECTED.get(name, name)


def info(
    tables: Tables, sample: dict[str, Any], velocities: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Return the entry of ``infos`` of a sample; velocities are in the lidar frame, by token."""
    keyframes = tables.keyframes(sample["token"])
    lidar = keyframes["LIDAR_TOP"]
    lidar2ego, ego2global = tables.calibration(lidar), tables.pose(lidar)
    global_from_lidar = matrix(ego2global) @ matrix(lidar2ego)
    entry: dict[str, Any] = {
        "lidar_path": f"./data/nuscenes/{lidar['filename']}",
        "num_features": 5,
        "token": sample["token"],
        "sweeps": [],
        "cams": {},
        "lidar2ego_translation": lidar2ego["translation"],
        "lidar2ego_rotation": lidar2ego["rotation"],
        "ego2global_translation": ego2global["translation"],
        "ego2global_rotation": ego2global["rotation"],
        "timestamp": sample["timestamp"],
    }
    for name in (f"CAM_{camera}" for camera in CAMERAS):
        record = keyframes[name]
        calibration, pose = tables.calibration(record), tables.pose(record)
        sensor2lidar = np.linalg.inv(global_from_lidar) @ matrix(pose) @ matrix(calibration)
        entry["cams"][name] = {
            "data_path": f"./data/nuscenes/{record['filename']}",
            "type": name,
            "sample_data_token": record["token"],
            "sensor2ego_translation": calibration["translation"],
            "sensor2ego_rotation": calibration["rotation"],
            "ego2global_translation": pose["translation"],
            "ego2global_rotation": pose["rotation"],
            "timestamp": record["timestamp"],
            "sensor2lidar_rotation": sensor2lidar[:3, :3],
            "sensor2lidar_translation": sensor2lidar[:3, 3],
            "cam_intrinsic": np.array(calibration["camera_intrinsic"]),
        }
    marks = [r for r in tables.all["sample_annotation"] if r["sample_token"] == sample["token"]]
    boxes = [np.linalg.inv(global_from_lidar) @ matrix(mark) for mark in marks]
    rows = [
        [*box[:3, 3], *(mark["size"][k] for k in (1, 0, 2)), math.atan2(box[1, 0], box[0, 0])]
        for box, mark in zip(boxes, marks, strict=True)
    ]
    entry["gt_boxes"] = np.array(rows).reshape(-1, 7)
    entry["gt_names"] = np.array([tables.category(mark) for mark in marks])
    unknown = np.full(2, np.nan)
    known = [velocities.get(mark["token"], unknown) for mark in marks]
    entry["gt_velocity"] = np.array(known).reshape(-1, 2)
    for kind in ("lidar", "radar"):
        entry[f"num_{kind}_pts"] = np.array([mark[f"num_{kind}_pts"] for mark in marks])
    entry["valid_flag"] = np.array(
        [mark["num_lidar_pts"] + mark["num_radar_pts"] > 0 for mark in marks], dtype=bool
    )
    return entry


def rounded(motion: np.ndarray) -> list[list[float]]:
    """Return a motion as the converter stores it."""
    rows: list[list[float]] = motion.astype(np.float32).tolist()
    return rows


def data_info(entry: dict[str, Any], index: int) -> dict[str, Any]:
    """Return the entry of ``data_list`` that the converter makes of one of ``infos``."""
    images = {}
    for name, camera in entry["cams"].items():
        lidar2cam = np.eye(4)
        turn = camera["sensor2lidar_rotation"]
        lidar2cam[:3, :3] = turn.T
        lidar2cam[:3, 3] = -turn.T @ camera["sensor2lidar_translation"]
        images[name] = {
            "img_path": camera["data_path"].split("/")[-1],
            "cam2img": camera["cam_intrinsic"].tolist(),
            "sample_data_token": camera["sample_data_token"],
            "timestamp": camera["timestamp"] / 1e6,
            "cam2ego": rounded(matrix(camera, "sensor2ego_")),
            "lidar2cam": rounded(lidar2cam),
        }
    names = entry["gt_names"]
    labels = [CLASSES.index(name) if name in CLASSES else -1 for name in names]
    instances = [
        {
            "bbox_label": labels[row],
            "bbox_3d": entry["gt_boxes"][row].tolist(),
            "bbox_3d_isvalid": entry["valid_flag"][row],
            "bbox_label_3d": labels[row],
            "num_lidar_pts": entry["num_lidar_pts"][row],
            "num_radar_pts": entry["num_radar_pts"][row],
            "velocity": entry["gt_velocity"][row].tolist(),
        }
        for row in range(len(names))
    ]
    return {
        "sample_idx": index,
        "token": entry["token"],
        "timestamp": entry["timestamp"] / 1e6,
        "ego2global": rounded(matrix(entry, "ego2global_")),
        "images": images,
        "lidar_points": {
            "num_pts_feats": 5,
            "lidar_path": entry["lidar_path"].split("/")[-1],
            "lidar2ego": rounded(matrix(entry, "lidar2ego_")),
        },
        "instances": instances,
        "cam_instances": {name: [] for name in images},
    }


def data_list(infos: list[dict[str, Any]], version: str) -> dict[str, Any]:
    """Return the whole content of the form with ``data_list``."""
    categories: dict[Any, int] = {name: row for row, name in enumerate(CLASSES)}
    for entry in infos:  # numpy's texts, as the converter leaves them
        categories |= {name: -1 for name in entry["gt_names"] if name not in CLASSES}
    meta = {"categories": categories, "dataset": "nuscenes", "version": version}
    return {
        "metainfo": {**meta, "info_version": "1.1"},
        "data_list": [data_info(entry, row) for row, entry in enumerate(infos)],
    }
