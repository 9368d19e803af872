"""Do poses, calibrations and times of a version make sense: what a broken table gives away.

Each function looks at one thing and returns a finding a kind of fault, with the number of faults
and the first of them, so that a thousand faults are as short to read as one.
"""

from __future__ import annotations

import itertools

import numpy as np

from bevstack.datasets.collate import CAMERA_YAW_DEG
from bevstack.datasets.readiness.findings import Finding, found
from bevstack.tables.columns import TableColumns
from bevstack.tables.fields import Integers, Tokens
from bevstack.tables.links import NO_ROW
from bevstack.tables.reader import Tables
from bevstack.vocabulary import CAMERA_CHANNELS

# What no car in traffic does, with room for the noise of localisation between two readings.
MAX_SPEED_MPS, POSITION_NOISE_M = 40.0, 0.3
MAX_TURN_RADPS, ROTATION_NOISE_RAD = 1.5, 0.03
MAX_NORM_ERROR = 1e-3  # of quaternions, which the tables give with ten and more digits
MAX_KEYFRAME_LAG_S = 0.2  # of a key frame from its sample: the lidar turns once in 0.05 s
MAX_MOUNTING_M = 10.0  # of a sensor from the vehicle's origin
MAX_ASPECT = 1.1  # of the focal lengths
FIELD_OF_VIEW_DEG = (15.0, 160.0)  # horizontal, of rectified images
MAX_YAW_ERROR_DEG = 15.0  # of nuScenes' six cameras from where they usually look
OVERLAP_DEG = (0.0, 30.0)  # of two neighbours among them; measured 4 to 13


def check_poses(tables: Tables) -> list[Finding]:
    """Unit quaternions, and no jump between readings that follow each other in a scene."""
    readings = (tables.keyframes, tables.sweeps)
    scene = np.concatenate([tables.samples.scene[r.sample] for r in readings])
    time, place, rotation = (
        np.concatenate([getattr(r, name) for r in readings])
        for name in ("timestamp_us", "translation", "rotation")
    )

    def name(row: int) -> str:
        keys = len(readings[0].token)
        return str(readings[0].token[row] if row < keys else readings[1].token[row - keys])

    norm = np.linalg.norm(rotation, axis=1)
    crooked = np.flatnonzero(abs(norm - 1) > MAX_NORM_ERROR)
    findings = found(
        "ego poses must have unit quaternions",
        crooked,
        lambda row: f"a norm of {norm[row]:.4f} at sample_data {name(row)}",
    )
    order = np.lexsort((time, scene))
    before, after = order[:-1], order[1:]
    seconds = 1e-6 * (time[after] - time[before])
    same = scene[before] == scene[after]
    moved = np.linalg.norm(place[after] - place[before], axis=1)
    jumps = same & (moved > MAX_SPEED_MPS * seconds + POSITION_NOISE_M)
    unit = rotation / np.maximum(norm, 1e-9)[:, None]
    cosine = np.abs((unit[before] * unit[after]).sum(axis=1)).clip(max=1.0)
    turned = 2 * np.arccos(cosine)
    turns = same & (turned > MAX_TURN_RADPS * seconds + ROTATION_NOISE_RAD)
    findings += found(
        "ego poses must be continuous",
        np.flatnonzero(jumps),
        lambda k: f"{moved[k]:.1f} m in {seconds[k]:.3f} s before sample_data {name(after[k])}",
    )
    return findings + found(
        "ego poses must turn continuously",
        np.flatnonzero(turns),
        lambda k: (
            f"{np.degrees(turned[k]):.0f} degrees in {seconds[k]:.3f} s before sample_data "
            f"{name(after[k])}"
        ),
    )


def check_times(tables: Tables) -> list[Finding]:
    """Samples and readings follow each other in time, and key frames lie at their sample."""
    findings = []
    for table in ("sample", "sample_data"):
        fields = {"timestamp": Integers(), "prev": Tokens(), "next": Tokens()}
        rows = TableColumns(tables.folder / f"{table}.json", fields)
        later = rows.links("next", rows, optional=True)
        earlier = rows.links("prev", rows, optional=True)
        own = np.flatnonzero(later != NO_ROW)
        gap = rows.array("timestamp")[later[own]] - rows.array("timestamp")[own]
        findings += found(
            f"timestamps of {table}.json must rise from each row to its next",
            np.flatnonzero(gap <= 0),
            lambda k, rows=rows, own=own, gap=gap: (  # type: ignore[misc]
                f"{1e-6 * gap[k]:.3f} s after {rows.token[own[k]]}"
            ),
        )
        findings += found(
            f"prev and next of {table}.json must be each other's inverse",
            own[earlier[later[own]] != own],
            lambda k, rows=rows: f"another prev at the next of {rows.token[k]}",  # type: ignore[misc]
        )
    keyframes = tables.keyframes
    lag = 1e-6 * (keyframes.timestamp_us - tables.samples.timestamp_us[keyframes.sample])
    return findings + found(
        f"key frames must be taken within {MAX_KEYFRAME_LAG_S} s of their sample",
        np.flatnonzero(abs(lag) > MAX_KEYFRAME_LAG_S),
        lambda row: f"{lag[row]:+.3f} s at sample_data {keyframes.token[row]}",
    )


def check_calibrations(tables: Tables) -> list[Finding]:
    """Rotations, mountings and intrinsics of all calibrations that key frames use."""
    rows = tables.calibrated_sensors
    used, first = np.unique(tables.keyframes.sensor, return_index=True)
    size = tables.keyframes.size[first]  # (U, 2) of the images
    cameras = rows.is_camera[used]
    matrix = rows.intrinsics[used]

    def name(k: int) -> str:
        return f"{rows.channel[used[k]]} (calibrated_sensor {rows.token[used[k]]})"

    norm = np.linalg.norm(rows.rotation[used], axis=1)
    findings = found(
        "calibrations must have unit quaternions",
        np.flatnonzero(~(abs(norm - 1) <= MAX_NORM_ERROR)),
        lambda k: f"a norm of {norm[k]:.4f} at {name(k)}",
    )
    distance = np.linalg.norm(rows.translation[used], axis=1)
    findings += found(
        f"sensors must be mounted within {MAX_MOUNTING_M:.0f} m of the vehicle's origin",
        np.flatnonzero(~(distance <= MAX_MOUNTING_M)),
        lambda k: f"{distance[k]:.1f} m at {name(k)}",
    )
    center = matrix[:, :2, 2]
    inside = ((center > 0) & (center < size[:, ::-1])).all(axis=1)
    findings += found(
        "principal points must lie inside the image",
        np.flatnonzero(cameras & ~inside),
        lambda k: (
            f"({center[k, 0]:.1f}, {center[k, 1]:.1f}) in {size[k, 1]}x{size[k, 0]} at {name(k)}"
        ),
    )
    focal = matrix[:, [0, 1], [0, 1]]
    view = np.degrees(2 * np.arctan2(size[:, 1], 2 * focal[:, 0]))
    likely = (view > FIELD_OF_VIEW_DEG[0]) & (view < FIELD_OF_VIEW_DEG[1])
    likely &= (focal > 0).all(axis=1) & (focal.max(axis=1) < MAX_ASPECT * focal.min(axis=1))
    return findings + found(
        "focal lengths must be positive, nearly equal and of a likely field of view",
        np.flatnonzero(cameras & ~likely),
        lambda k: (
            f"({focal[k, 0]:.1f}, {focal[k, 1]:.1f}) pixels, {view[k]:.0f} degrees at {name(k)}"
        ),
    )


def check_rigs(tables: Tables) -> list[Finding]:
    """Where a scene has nuScenes' six cameras: that they look where they should, and overlap."""
    turned: list[str] = []
    apart: list[str] = []
    incomplete: list[str] = []
    for scene, name in enumerate(tables.scenes.name):
        rigs = [_cameras(tables, int(sample)) for sample in tables.samples_of_scene(scene)]
        whole = set().union(*rigs)
        incomplete += [
            f"{len(rig)} of {len(whole)} in {name}" for rig in rigs if len(rig) < len(whole)
        ]
        if whole != set(CAMERA_CHANNELS):
            continue
        first = next(rig for rig in rigs if len(rig) == len(whole))
        yaws, views = zip(*(_direction(tables, first[c]) for c in CAMERA_CHANNELS), strict=True)
        for channel, yaw, usual in zip(CAMERA_CHANNELS, yaws, CAMERA_YAW_DEG, strict=True):
            if not abs((yaw - usual + 180) % 360 - 180) <= MAX_YAW_ERROR_DEG:
                turned.append(
                    f"{yaw:.0f} instead of about {usual:.0f} degrees, {channel} in {name}"
                )
        around = sorted(range(len(yaws)), key=lambda k: yaws[k])
        for one, other in itertools.pairwise([*around, around[0]]):
            gap = (yaws[other] - yaws[one]) % 360
            overlap = (views[one] + views[other]) / 2 - gap
            if not OVERLAP_DEG[0] <= overlap <= OVERLAP_DEG[1]:
                pair = f"{CAMERA_CHANNELS[one]} and {CAMERA_CHANNELS[other]}"
                apart.append(f"{overlap:.0f} degrees of {pair} in {name}")
    wanted_overlap = f"{OVERLAP_DEG[0]:.0f} to {OVERLAP_DEG[1]:.0f} degrees"
    listed = (
        ("every sample of a scene must have all the scene's cameras", incomplete),
        ("cameras must look where nuScenes' do", turned),
        (f"neighbouring cameras must overlap by {wanted_overlap}", apart),
    )
    return [f for rule, cases in listed for f in found(rule, range(len(cases)), cases.__getitem__)]


def check_boxes(tables: Tables) -> list[Finding]:
    """Positive sizes and unit quaternions of all annotations."""
    boxes = tables.annotations
    norm = np.linalg.norm(boxes.rotation, axis=1)
    findings = found(
        "sizes of annotations must be positive",
        np.flatnonzero((boxes.size <= 0).any(axis=1)),
        lambda row: f"{boxes.size[row].tolist()} at {boxes.token[row]}",
    )
    return findings + found(
        "rotations of annotations must be unit quaternions",
        np.flatnonzero(abs(norm - 1) > MAX_NORM_ERROR),
        lambda row: f"a norm of {norm[row]:.4f} at {boxes.token[row]}",
    )


def _cameras(tables: Tables, sample: int) -> dict[str, int]:
    """Calibrations of a sample's cameras by channel."""
    sensors = tables.keyframes.sensor[tables.keyframes_of(sample)]
    rows = tables.calibrated_sensors
    return {str(rows.channel[s]): int(s) for s in sensors if rows.is_camera[s]}


def _direction(tables: Tables, sensor: int) -> tuple[float, float]:
    """Yaw of the optical axis in the ego frame and horizontal field of view, in degrees."""
    w, x, y, z = tables.calibrated_sensors.rotation[sensor]
    axis = (2 * (x * z + w * y), 2 * (y * z - w * x))  # the third column of the rotation, times |q|
    center, focal = tables.calibrated_sensors.intrinsics[sensor][0, [2, 0]]
    return float(np.degrees(np.arctan2(axis[1], axis[0]))), float(
        np.degrees(2 * np.arctan2(center, focal))
    )
