"""Plausibility checks of the poses, calibrations, times and boxes of a version.

Each function checks one subject and returns one finding per kind of fault. A finding describes the
first fault and counts the rest, so that a thousand faults are as short to read as one.
"""

from __future__ import annotations

import itertools

import numpy as np

from bevstack.datasets.collate import CAMERA_YAW_DEG
from bevstack.datasets.image_sizes import known_image_sizes
from bevstack.datasets.readiness.findings import Finding, summarise_faults
from bevstack.tables.annotation_checks import EDGES_M
from bevstack.tables.calibration import lens_of_sensor
from bevstack.tables.columns import TableColumns
from bevstack.tables.fields import Integers, Tokens
from bevstack.tables.links import NO_ROW
from bevstack.tables.reader import Tables
from bevstack.tables.time_checks import check_time_unit
from bevstack.vocabulary import CAMERA_CHANNELS

# Limits that no car in traffic exceeds, with tolerances for localisation noise between readings.
MAX_SPEED_MPS, POSITION_NOISE_M = 40.0, 0.3
MAX_TURN_RADPS, ROTATION_NOISE_RAD = 1.5, 0.03
MAX_NORM_ERROR = 1e-3  # of quaternions, which the tables store with ten digits or more
MAX_KEYFRAME_LAG_S = 0.2  # time between a key frame and its sample: the lidar turns once in 0.05 s
MAX_MOUNTING_M = 10.0  # distance of a sensor from the vehicle's origin
MAX_ASPECT = 1.1  # ratio of the two focal lengths
FIELD_OF_VIEW_DEG = (15.0, 160.0)  # horizontal, of rectified images
MAX_YAW_ERROR_DEG = 15.0  # deviation of nuScenes' six cameras from their usual directions
OVERLAP_DEG = (0.0, 30.0)  # of two neighbouring cameras of these; measured 4 to 13


def check_poses(tables: Tables) -> list[Finding]:
    """Check for unit quaternions, and for no jump between successive readings of a scene."""
    readings = (tables.keyframes, tables.sweeps)
    scene = np.concatenate([tables.samples.scene[r.sample] for r in readings])
    time, position, rotation = (
        np.concatenate([getattr(r, name) for r in readings])
        for name in ("timestamp_us", "translation", "rotation")
    )

    def name(row: int) -> str:
        keys = len(readings[0].token)
        return str(readings[0].token[row] if row < keys else readings[1].token[row - keys])

    norm = np.linalg.norm(rotation, axis=1)
    findings = summarise_faults(
        "ego poses must have unit quaternions",
        np.flatnonzero(abs(norm - 1) > MAX_NORM_ERROR),
        lambda row: f"a norm of {norm[row]:.4f} at sample_data {name(row)}",
    )
    order = np.lexsort((time, scene))
    before, after = order[:-1], order[1:]
    seconds = 1e-6 * (time[after] - time[before])
    same_scene = scene[before] == scene[after]
    moved = np.linalg.norm(position[after] - position[before], axis=1)
    jumps = same_scene & (moved > MAX_SPEED_MPS * seconds + POSITION_NOISE_M)
    unit = rotation / np.maximum(norm, 1e-9)[:, None]
    cosine = np.abs((unit[before] * unit[after]).sum(axis=1)).clip(max=1.0)
    turned = 2 * np.arccos(cosine)
    turns = same_scene & (turned > MAX_TURN_RADPS * seconds + ROTATION_NOISE_RAD)
    findings += summarise_faults(
        "ego poses must be continuous",
        np.flatnonzero(jumps),
        lambda k: f"{moved[k]:.1f} m in {seconds[k]:.3f} s before sample_data {name(after[k])}",
    )
    return findings + summarise_faults(
        "ego poses must turn continuously",
        np.flatnonzero(turns),
        lambda k: (
            f"{np.degrees(turned[k]):.0f} degrees in {seconds[k]:.3f} s before sample_data "
            f"{name(after[k])}"
        ),
    )


def check_times(tables: Tables) -> list[Finding]:
    """Check that samples and readings are ordered in time, and key frames close to their sample."""
    findings = [*_check_order(tables, "sample"), *_check_order(tables, "sample_data")]
    keyframes = tables.keyframes
    lag = 1e-6 * (keyframes.timestamp_us - tables.samples.timestamp_us[keyframes.sample])
    return findings + summarise_faults(
        f"key frames must be taken within {MAX_KEYFRAME_LAG_S} s of their sample",
        np.flatnonzero(abs(lag) > MAX_KEYFRAME_LAG_S),
        lambda row: f"{lag[row]:+.3f} s at sample_data {keyframes.token[row]}",
    )


def check_units(tables: Tables) -> list[Finding]:
    """Check that times are in microseconds; other units are an error, of which there is one.

    Raises:
        ValueError: they are not.
    """
    check_time_unit(tables, np.arange(len(tables.samples.token)))
    return []


def _check_order(tables: Tables, table: str) -> list[Finding]:
    """Check the links between the rows of a table and the order of their timestamps."""
    fields = {"timestamp": Integers(), "prev": Tokens(), "next": Tokens()}
    rows = TableColumns(tables.folder / f"{table}.json", fields)
    next_row = rows.links("next", rows, optional=True)
    previous_row = rows.links("prev", rows, optional=True)
    row = np.flatnonzero(next_row != NO_ROW)
    gap = rows.array("timestamp")[next_row[row]] - rows.array("timestamp")[row]
    findings = summarise_faults(
        f"timestamps of {table}.json must rise from each row to its next",
        np.flatnonzero(gap <= 0),
        lambda k: f"{1e-6 * gap[k]:.3f} s after {rows.token[row[k]]}",
    )
    return findings + summarise_faults(
        f"prev and next of {table}.json must be each other's inverse",
        row[previous_row[next_row[row]] != row],
        lambda k: f"another prev at the next of {rows.token[k]}",
    )


def check_calibrations(tables: Tables) -> list[Finding]:
    """Check rotations, mountings and intrinsics of all calibrations that key frames use."""
    rows = tables.calibrated_sensors
    used, first = np.unique(tables.keyframes.sensor, return_index=True)
    size = known_image_sizes(tables, first)  # (U, 2) of the images, 0 if unknown
    cameras, known = rows.is_camera[used], (size > 0).all(axis=1)
    matrix = rows.intrinsics[used]

    def name(k: int) -> str:
        return f"{rows.channel[used[k]]} (calibrated_sensor {rows.token[used[k]]})"

    norm = np.linalg.norm(rows.rotation[used], axis=1)
    findings = summarise_faults(
        "calibrations must have unit quaternions",
        np.flatnonzero(~(abs(norm - 1) <= MAX_NORM_ERROR)),
        lambda k: f"a norm of {norm[k]:.4f} at {name(k)}",
    )
    distance = np.linalg.norm(rows.translation[used], axis=1)
    findings += summarise_faults(
        f"sensors must be mounted within {MAX_MOUNTING_M:.0f} m of the vehicle's origin",
        np.flatnonzero(~(distance <= MAX_MOUNTING_M)),
        lambda k: f"{distance[k]:.1f} m at {name(k)}",
    )
    center = matrix[:, :2, 2]
    inside = ((center > 0) & (center < size[:, ::-1])).all(axis=1)
    findings += summarise_faults(
        "principal points must lie inside the image",
        np.flatnonzero(cameras & known & ~inside),
        lambda k: (
            f"({center[k, 0]:.1f}, {center[k, 1]:.1f}) in {size[k, 1]}x{size[k, 0]} at {name(k)}"
        ),
    )
    focal = matrix[:, [0, 1], [0, 1]]
    view = np.degrees(2 * np.arctan2(size[:, 1], 2 * focal[:, 0]))
    plausible = (view > FIELD_OF_VIEW_DEG[0]) & (view < FIELD_OF_VIEW_DEG[1]) | ~known
    plausible &= (focal > 0).all(axis=1) & (focal.max(axis=1) < MAX_ASPECT * focal.min(axis=1))
    return findings + summarise_faults(
        "focal lengths must be positive, nearly equal and of a plausible field of view",
        np.flatnonzero(cameras & ~plausible),
        lambda k: (
            f"({focal[k, 0]:.1f}, {focal[k, 1]:.1f}) pixels, {view[k]:.0f} degrees at {name(k)}"
        ),
    )


def check_lenses(tables: Tables) -> list[Finding]:
    """Check that the lenses of all cameras that key frames use are known.

    Raises:
        ValueError: one is not; there is one finding for all of them.
    """
    for sensor in np.unique(tables.keyframes.sensor):
        if tables.calibrated_sensors.is_camera[sensor]:
            lens_of_sensor(tables, int(sensor))
    return []


def check_rigs(tables: Tables) -> list[Finding]:
    """Check that all samples of a scene have the same cameras.

    In scenes with nuScenes' six cameras, also check their directions and overlaps.
    """
    misaligned: list[str] = []
    overlaps: list[str] = []
    incomplete: list[str] = []
    for scene, name in enumerate(tables.scenes.name):
        rigs = [_cameras(tables, int(sample)) for sample in tables.samples_of_scene(scene)]
        channels = set().union(*rigs)
        incomplete += [
            f"{len(rig)} of {len(channels)} in {name}" for rig in rigs if len(rig) < len(channels)
        ]
        if channels != set(CAMERA_CHANNELS):
            continue
        first = next(rig for rig in rigs if len(rig) == len(channels))
        yaws, views = zip(*(_direction(tables, first[c]) for c in CAMERA_CHANNELS), strict=True)
        for channel, yaw, usual in zip(CAMERA_CHANNELS, yaws, CAMERA_YAW_DEG, strict=True):
            if not abs((yaw - usual + 180) % 360 - 180) <= MAX_YAW_ERROR_DEG:
                misaligned.append(
                    f"{yaw:.0f} instead of about {usual:.0f} degrees, {channel} in {name}"
                )
        by_yaw = sorted(range(len(yaws)), key=lambda k: yaws[k])
        for right, left in itertools.pairwise([*by_yaw, by_yaw[0]]):
            gap = (yaws[left] - yaws[right]) % 360
            overlap = (views[right] + views[left]) / 2 - gap
            if not OVERLAP_DEG[0] <= overlap <= OVERLAP_DEG[1]:
                pair = f"{CAMERA_CHANNELS[right]} and {CAMERA_CHANNELS[left]}"
                overlaps.append(f"{overlap:.0f} degrees of {pair} in {name}")
    overlap_range = f"{OVERLAP_DEG[0]:.0f} to {OVERLAP_DEG[1]:.0f} degrees"
    faults_by_rule = {
        "every sample of a scene must have all the scene's cameras": incomplete,
        "cameras must point like nuScenes' cameras": misaligned,
        f"neighbouring cameras must overlap by {overlap_range}": overlaps,
    }
    return [
        finding
        for rule, faults in faults_by_rule.items()
        for finding in summarise_faults(rule, range(len(faults)), faults.__getitem__)
    ]


def check_boxes(tables: Tables) -> list[Finding]:
    """Check that all annotations have finite centres, positive sizes and unit quaternions."""
    if not tables.has_annotations:
        return []
    boxes = tables.annotations
    norm = np.linalg.norm(boxes.rotation, axis=1)
    findings = summarise_faults(
        "centres of annotations must be finite",
        np.flatnonzero(~np.isfinite(boxes.translation).all(axis=1)),
        lambda row: f"{boxes.translation[row].tolist()} at {boxes.token[row]}",
    )
    valid = (boxes.size > 0) & (boxes.size <= EDGES_M[1])
    findings += summarise_faults(
        "sizes of annotations must be positive",
        np.flatnonzero(~valid.all(axis=1)),
        lambda row: f"{boxes.size[row].tolist()} at {boxes.token[row]}",
    )
    return findings + summarise_faults(
        "rotations of annotations must be unit quaternions",
        np.flatnonzero(~(abs(norm - 1) <= MAX_NORM_ERROR)),
        lambda row: f"a norm of {norm[row]:.4f} at {boxes.token[row]}",
    )


def _cameras(tables: Tables, sample: int) -> dict[str, int]:
    """Return the calibration rows of a sample's cameras by channel."""
    sensors = tables.keyframes.sensor[tables.keyframes_of(sample)]
    rows = tables.calibrated_sensors
    return {str(rows.channel[s]): int(s) for s in sensors if rows.is_camera[s]}


def _direction(tables: Tables, sensor: int) -> tuple[float, float]:
    """Return yaw of the optical axis in the ego frame and horizontal field of view, in degrees."""
    w, x, y, z = tables.calibrated_sensors.rotation[sensor]
    # x and y of the rotation's third column, up to a positive factor
    axis = (2 * (x * z + w * y), 2 * (y * z - w * x))
    center, focal = tables.calibrated_sensors.intrinsics[sensor][0, [2, 0]]
    return float(np.degrees(np.arctan2(axis[1], axis[0]))), float(
        np.degrees(2 * np.arctan2(center, focal))
    )
