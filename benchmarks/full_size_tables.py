"""Synthetic tables as large as those of nuScenes trainval, for benchmarks of reading and scoring.

    python benchmarks/full_size_tables.py out/full_tables               # 850 scenes, GBs, a minute
    python benchmarks/full_size_tables.py out/full_tables --scenes 20   # a small version

Counts, fields and layout are those of v1.0-trainval (34,149 samples, 1,166,187 annotations,
2,631,083 readings of 12 sensors). The contents are drawn at random. There are no images.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from bevstack.tables.names import (
    CATEGORIES,
    LIDAR_CHANNEL,
    RADAR_CHANNELS,
    TABLES,
    VISIBILITY_LEVELS,
)
from bevstack.vocabulary import ATTRIBUTES, CAMERA_CHANNELS

SCENES, SAMPLES, ANNOTATIONS, READINGS, INSTANCES = 850, 34_149, 1_166_187, 2_631_083, 64_386
LOGS = 68
CHANNELS = (*CAMERA_CHANNELS, LIDAR_CHANNEL, *RADAR_CHANNELS)
CHANNEL_YAWS_DEG = (0, -57, 55, 180, 109, -112, -90, 0, 90, -90, 180, 180)
CATEGORY_SHARE = {"vehicle.car": 0.42, "human.pedestrian.adult": 0.18, "vehicle.truck": 0.075}
CATEGORY_SHARE |= {"movable_object.barrier": 0.13, "movable_object.trafficcone": 0.084}


def share(total: int, part: int, parts: int) -> int:
    """Return the size of one of `parts` nearly equal parts that sum to `total`."""
    return total * (part + 1) // parts - total * part // parts


class TableFiles(ExitStack):
    """The 13 open files of a version, in the layout of the official ones."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._rng = np.random.default_rng(seed)
        self._files: dict[str, IO[str]] = {}
        for name in TABLES:
            self._files[name] = self.enter_context((folder / f"{name}.json").open("w"))
            self._files[name].write("[\n")
            self.callback(self._files[name].write, "\n]")
        self._started: set[str] = set()

    def tokens(self, count: int) -> list[str]:
        """Return new random tokens."""
        text = self._rng.bytes(16 * count).hex()
        return [text[i : i + 32] for i in range(0, len(text), 32)]

    def add(self, table: str, rows: Iterable[dict[str, object]]) -> None:
        """Append at least one row to a table; no string in a row may contain a bracket."""
        text = json.dumps(list(rows), separators=(",\n", ": "))[1:-1]
        for bracket in "{[":
            text = text.replace(bracket, bracket + "\n")
        for bracket in "]}":
            text = text.replace(bracket, "\n" + bracket)
        self._files[table].write((",\n" if table in self._started else "") + text)
        self._started.add(table)


def chain(tokens: list[str]) -> Iterator[dict[str, str]]:
    """Yield each token with its predecessor and successor."""
    for token, before, after in zip(tokens, ["", *tokens], [*tokens[1:], ""], strict=False):
        yield {"token": token, "prev": before, "next": after}


def write_fixed(files: TableFiles) -> dict[str, list[str]]:
    """Write the tables that do not belong to a scene and return their tokens by table."""
    tokens = {
        "category": files.tokens(len(CATEGORIES)),
        "attribute": files.tokens(len(ATTRIBUTES)),
        "visibility": [str(i + 1) for i in range(len(VISIBILITY_LEVELS))],
        "sensor": files.tokens(len(CHANNELS)),
        "log": files.tokens(LOGS),
    }
    for table, names in (("category", CATEGORIES), ("attribute", ATTRIBUTES)):
        described = zip(tokens[table], names, strict=True)
        files.add(table, ({"token": t, "name": n, "description": n} for t, n in described))
    levels = zip(tokens["visibility"], VISIBILITY_LEVELS, strict=True)
    files.add("visibility", ({"token": t, "level": v, "description": v} for t, v in levels))
    for token, channel in zip(tokens["sensor"], CHANNELS, strict=True):
        kinds = {"C": "camera", "L": "lidar", "R": "radar"}
        files.add("sensor", [{"token": token, "channel": channel, "modality": kinds[channel[0]]}])
    for k, token in enumerate(tokens["log"]):
        log = {"token": token, "logfile": f"n015-2018-07-{k:02}", "vehicle": "n015"}
        files.add("log", [log | {"date_captured": "2018-07-24", "location": "singapore-onenorth"}])
    map_row = {"token": files.tokens(1)[0], "category": "semantic_prior", "filename": "maps/m.png"}
    files.add("map", [map_row | {"log_tokens": tokens["log"]}])
    return tokens


def calibration(token: str, sensor: str, channel: int) -> dict[str, object]:
    """Return the row of one sensor of one scene."""
    yaw = math.radians(CHANNEL_YAWS_DEG[channel] + (1 - 2 * (channel % 2)))
    half = (yaw - math.pi / 2) / 2 if channel < 6 else yaw / 2
    c, s = math.cos(half), math.sin(half)
    r = math.sqrt(0.5)
    focal = 809.2 if CHANNELS[channel] == "CAM_BACK" else 1266.4
    camera = [[focal, 0.0, 816.3], [0.0, focal, 491.5], [0.0, 0.0, 1.0]]
    return {
        "token": token,
        "sensor_token": sensor,
        "translation": [1.5 * math.cos(yaw), 0.5 * math.sin(yaw), 1.5],
        "rotation": [c * r, -c * r, -s * r, s * r] if channel < 6 else [c, 0.0, 0.0, s],
        "camera_intrinsic": camera if channel < 6 else [],
    }


def write_scene(
    files: TableFiles, fixed: dict[str, list[str]], scene: int, name: str, num_scenes: int
) -> None:
    """Write one scene with its samples, sensors, readings and objects."""
    rng = np.random.default_rng((1, scene))
    full = scene * SCENES // num_scenes  # the scene of the full version with the same counts
    samples = files.tokens(share(SAMPLES, full, SCENES))
    token = files.tokens(1)[0]
    start = 1_532_402_927_000_000 + scene * 60_000_000
    row: dict[str, object] = {"token": token, "log_token": fixed["log"][scene % LOGS], "name": name}
    row |= {"nbr_samples": len(samples), "description": f"Scene {scene}, rain" if scene % 5 else ""}
    row |= {"first_sample_token": samples[0], "last_sample_token": samples[-1]}
    files.add("scene", [row])
    timed = enumerate(chain(samples))
    files.add(
        "sample",
        (r | {"timestamp": start + 500_000 * k, "scene_token": token} for k, r in timed),
    )
    calibrations = files.tokens(len(CHANNELS))
    sensors = zip(calibrations, fixed["sensor"], range(len(CHANNELS)), strict=True)
    files.add("calibrated_sensor", (calibration(c, s, k) for c, s, k in sensors))
    for channel, calibration_token in enumerate(calibrations):
        count = share(share(READINGS, full, SCENES), channel, len(CHANNELS))
        write_readings(files, samples, channel, calibration_token, start, count)
    for k in range(share(INSTANCES, full, SCENES)):
        count = share(share(ANNOTATIONS, full, SCENES), k, share(INSTANCES, full, SCENES))
        write_object(files, fixed, samples, rng, count)


def write_readings(
    files: TableFiles,
    samples: list[str],
    channel: int,
    calibration: str,
    start: int,
    count: int,
) -> None:
    """Write all readings of one sensor in one scene, and the vehicle's pose at each."""
    camera = channel < len(CAMERA_CHANNELS)
    tokens = files.tokens(count)
    data, poses = [], []
    for k, row in enumerate(chain(tokens)):
        sample, beat = divmod(k * len(samples), count)
        is_key = beat < len(samples)
        time = start + k * 500_000 * len(samples) // count
        seconds = (time - start) * 1e-6
        name = f"{CHANNELS[channel]}/n015-2018-07-24-11-22-45+0800__{CHANNELS[channel]}__{time}"
        reading: dict[str, object] = {"token": row["token"], "sample_token": samples[sample]}
        reading |= {"ego_pose_token": row["token"], "calibrated_sensor_token": calibration}
        reading |= {"timestamp": time, "fileformat": "jpg" if camera else "pcd"}
        reading |= {"is_key_frame": is_key}
        reading |= {"height": 900 if camera else 0, "width": 1600 if camera else 0}
        reading |= {"filename": f"{'samples' if is_key else 'sweeps'}/{name}.jpg"}
        data.append(reading | {"prev": row["prev"], "next": row["next"]})
        half = 0.3 + 0.01 * seconds
        pose: dict[str, object] = {"token": row["token"], "timestamp": time}
        pose |= {"rotation": [math.cos(half), 0.0031, -0.0042, math.sin(half)]}
        poses.append(pose | {"translation": [411.303 + 5.1 * seconds, 1180.89 + seconds, 0.0]})
    files.add("sample_data", data)
    files.add("ego_pose", poses)


def write_object(
    files: TableFiles,
    fixed: dict[str, list[str]],
    samples: list[str],
    rng: np.random.Generator,
    count: int,
) -> None:
    """Write one object and its annotations in consecutive samples."""
    named = list(CATEGORY_SHARE)
    shares = [*CATEGORY_SHARE.values(), 1 - sum(CATEGORY_SHARE.values())]
    choice = int(rng.choice(len(shares), p=shares))
    category = CATEGORIES.index(named[choice]) if choice < len(named) else int(rng.integers(23))
    count = min(count, len(samples))
    first = int(rng.integers(len(samples) - count + 1))
    position, speed = rng.normal(0.0, 25.0, 2), rng.normal(0.0, 2.0, 2)
    size, half = rng.uniform((0.5, 0.6, 0.8), (2.5, 6.0, 3.0)).round(3).tolist(), rng.uniform(0, 3)
    instance, tokens = files.tokens(1)[0], files.tokens(count)
    row: dict[str, object] = {"token": instance, "category_token": fixed["category"][category]}
    row |= {"nbr_annotations": count, "first_annotation_token": tokens[0]}
    files.add("instance", [row | {"last_annotation_token": tokens[-1]}])
    points = rng.poisson(12.0, (count, 2)).tolist()
    boxes = []
    for k, row in enumerate(chain(tokens)):
        x, y = position + (5.1 + speed[0], 1.0 + speed[1]) * np.array(0.5 * (first + k))
        box: dict[str, object] = {"token": row["token"], "sample_token": samples[first + k]}
        box |= {"instance_token": instance, "visibility_token": str(1 + k % 4)}
        box |= {"attribute_tokens": [fixed["attribute"][k % 8]] if category % 2 else []}
        box |= {"translation": [round(411.3 + x, 3), round(1180.9 + y, 3), 1.25], "size": size}
        box |= {"rotation": [math.cos(half), 0.0, 0.0, math.sin(half)]}
        box |= {"prev": row["prev"], "next": row["next"]}
        boxes.append(box | {"num_lidar_pts": points[k][0], "num_radar_pts": points[k][1]})
    files.add("sample_annotation", boxes)


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="root folder of the tables; made if missing")
    parser.add_argument("--version", default="v1.0-trainval", help="folder of the tables below it")
    parser.add_argument("--scenes", type=int, default=SCENES, help="number of scenes (default 850)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the tokens")
    args = parser.parse_args()
    names = scene_names(args.scenes)
    with TableFiles(args.root / args.version, args.seed) as files:
        fixed = write_fixed(files)
        for scene, name in enumerate(names):
            write_scene(files, fixed, scene, name, args.scenes)
            if (scene + 1) % 100 == 0:
                print(f"{scene + 1} of {args.scenes} scenes", flush=True)
    size = sum(path.stat().st_size for path in (args.root / args.version).glob("*.json"))
    print(f"{size / 1e9:.2f} GB in {args.root / args.version}")


def scene_names(count: int) -> list[str]:
    """Return names from train and val if nuscenes-devkit is installed, else numbered names."""
    try:
        from nuscenes.utils.splits import train, val
    except ImportError:
        return [f"scene-{k + 1:04}" for k in range(count)]
    mixed = sorted((*train, *val))
    return [mixed[k * len(mixed) // count] for k in range(count)]


if __name__ == "__main__":
    main()
