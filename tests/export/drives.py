"""A handmade drive with pictures at 10 Hz, and bags of it read by other programs' code."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np

from tests.tables.tiny_root import VERSION, quaternion, read_table, write_tables, write_tiny_root

SCENE, VERSION_NAME = "scene-0103", VERSION
BETWEEN = 4  # pictures between two key frames, 0.1 s apart
PERIOD_US = 100_000
START_US = 1_600_000_000_000_000


def write_swept_root(root: Path) -> Path:
    """Write the handmade root with pictures between the key frames of its first scene."""
    write_tiny_root(root)
    readings, poses = read_table(root, "sample_data"), read_table(root, "ego_pose")
    pose_of = {row["token"]: row for row in poses}
    rng = np.random.default_rng(5)
    for row in [r for r in readings if "CAM" in r["filename"] and SCENE in r["filename"]]:
        for number in range(1, BETWEEN + 1):
            time = row["timestamp"] + number * PERIOD_US
            if time > START_US + 3 * 500_000:
                continue  # after the last key frame
            sweep, pose = copy.deepcopy(row), copy.deepcopy(pose_of[row["ego_pose_token"]])
            seconds = (time - START_US) * 1e-6
            pose["token"] = sweep["token"] = sweep["ego_pose_token"] = f"{row['token']}{number}"
            pose["timestamp"] = sweep["timestamp"] = time
            pose["translation"] = [700.0 + 4.0 * seconds, 1500.0 - 2.5 * seconds, 0.0]
            pose["rotation"] = quaternion(0.8 + 0.1 * seconds, 0.03, -0.02)
            sweep["is_key_frame"] = False
            sweep["filename"] = row["filename"].replace("samples", "sweeps")[:-4] + f"_{number}.jpg"
            path = root / sweep["filename"]
            path.parent.mkdir(parents=True, exist_ok=True)
            # Sharp blocks: smooth pictures over a second are those of a blurred camera.
            blocks = rng.integers(0, 255, (12, 20, 3), dtype=np.uint8)
            size = (row["width"], row["height"])
            cv2.imwrite(str(path), cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST))
            readings.append(sweep)
            poses.append(pose)
    write_tables(root, {"sample_data": readings, "ego_pose": poses})
    return root
