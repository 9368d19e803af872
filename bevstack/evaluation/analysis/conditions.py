"""Conditions of boxes: distance, direction, visibility, motion, light and weather."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.box_errors import Floats, rotation_matrices, yaws
from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.filtering import ego_distances
from bevstack.evaluation.detection3d.truth import rows_of_samples
from bevstack.tables.columns import TableColumns
from bevstack.tables.fields import Text
from bevstack.tables.names import VISIBILITY_LEVELS
from bevstack.tables.reader import Tables

BANDS_M = (10.0, 20.0, 30.0, 40.0)  # limits between the range bands
MOVING_MPS = 0.5  # annotated velocities of parked cars are lower
UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditions of the scored samples, and the visibility of their true boxes."""

    scene: NDArray[np.int32]  # (S,) row of scene_names
    scene_names: tuple[str, ...]
    night: NDArray[np.bool_]  # (C,) from the scenes' descriptions
    rain: NDArray[np.bool_]  # (C,)
    ego_yaw: Floats  # (S,) radians in the world
    cameras: tuple[str, ...]  # K channel names
    camera_yaw: Floats  # (S, K) radians from the ego x axis; NaN if the sample has no such camera
    visibility: NDArray[np.int8]  # (A,) of the true boxes: index into VISIBILITY_LEVELS or UNKNOWN


def read_conditions(
    tables: Tables,
    samples: NDArray[np.int64],  # (S,) rows of the sample table, as for the truth
) -> Conditions:
    """Read the conditions from the tables, for ``ground_truth`` of the same samples.

    A scene counts as night or rain if its description contains that word.

    Raises:
        ValueError: a true box has an unknown level of visibility; names its annotation.
    """
    scenes, scene = np.unique(tables.samples.scene[samples], return_inverse=True)
    descriptions = [str(tables.scenes.description[row]).lower() for row in scenes]
    keyframes = tables.reference_keyframes(samples)
    cameras, camera_yaw = _camera_yaws(tables, samples)
    return Conditions(
        scene=scene.reshape(-1).astype(np.int32),
        scene_names=tuple(str(tables.scenes.name[row]) for row in scenes),
        night=np.array(["night" in text for text in descriptions], dtype=np.bool_),
        rain=np.array(["rain" in text for text in descriptions], dtype=np.bool_),
        ego_yaw=yaws(tables.keyframes.rotation[keyframes]),
        cameras=cameras,
        camera_yaw=camera_yaw,
        visibility=_visibility(tables, samples),
    )


def bands(boxes: BoxColumns, truth: GroundTruth) -> NDArray[np.int64]:  # (M,)
    """Return the index of each box's range band; 0 is the nearest."""
    return np.searchsorted(BANDS_M, ego_distances(boxes, truth.ego_translation), side="right")


def band_names(reach_m: float) -> tuple[str, ...]:
    """Return the names of the bands, up to the largest scored range ``reach_m``."""
    edges = (0.0, *BANDS_M, reach_m)
    return tuple(f"{low:g}-{high:g} m" for low, high in pairwise(edges))


def sectors(
    boxes: BoxColumns, truth: GroundTruth, conditions: Conditions
) -> NDArray[np.int64]:  # (M,)
    """Return the camera whose axis is nearest in direction; UNKNOWN if the sample has no camera."""
    offset = boxes.translation[:, :2] - truth.ego_translation[boxes.sample, :2]
    direction = np.arctan2(offset[:, 1], offset[:, 0]) - conditions.ego_yaw[boxes.sample]
    nearest = np.full(len(boxes), np.inf)
    sector = np.full(len(boxes), UNKNOWN)
    for camera in range(len(conditions.cameras)):
        difference = direction - conditions.camera_yaw[boxes.sample, camera]
        angle = np.abs((difference + np.pi) % (2 * np.pi) - np.pi)
        closer = angle < nearest  # False for NaN
        nearest[closer], sector[closer] = angle[closer], camera
    return sector


def motion(boxes: BoxColumns) -> NDArray[np.int64]:  # (M,)
    """Return 1 for moving boxes, 0 for standing ones, UNKNOWN without a velocity."""
    speed = np.sqrt(np.sum(boxes.velocity**2, axis=-1))
    return np.where(np.isnan(speed), UNKNOWN, (speed > MOVING_MPS).astype(np.int64))


def _camera_yaws(tables: Tables, samples: NDArray[np.int64]) -> tuple[tuple[str, ...], Floats]:
    """Return the cameras' channels, K, and their yaw in the ego frame, (S, K) radians."""
    sensors, keyframes = tables.calibrated_sensors, tables.keyframes
    number = np.full(len(tables.samples.token), UNKNOWN)
    number[samples] = np.arange(len(samples))
    is_camera = np.asarray(sensors.is_camera)[keyframes.sensor]
    rows = np.flatnonzero(is_camera & (number[keyframes.sample] >= 0))
    channels, channel = np.unique(np.asarray(sensors.channel), return_inverse=True)
    axis = rotation_matrices(sensors.rotation)[:, :, 2]  # a camera looks along its z
    yaw = np.arctan2(axis[:, 1], axis[:, 0])
    sensor = keyframes.sensor[rows]
    camera_yaw = np.full((len(samples), len(channels)), np.nan)
    camera_yaw[number[keyframes.sample[rows]], channel.reshape(-1)[sensor]] = yaw[sensor]
    used = ~np.isnan(camera_yaw).all(0) if len(samples) else np.zeros(len(channels), dtype=np.bool_)
    return tuple(channels[used].tolist()), camera_yaw[:, used]


def _visibility(tables: Tables, samples: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the visibility level of each true box, in the order of ``ground_truth``."""
    rows, _ = rows_of_samples(tables, samples)
    categories = tables.annotations.category[rows].tolist()
    scored = np.array([name in tables.class_by_category for name in categories], dtype=np.bool_)
    boxes = rows[scored]
    tokens = tables.annotations.visibility[boxes].tolist()
    names = _level_names(tables)
    levels = {"": UNKNOWN}
    for token, row in zip(tokens, boxes, strict=True):
        if token not in levels:
            level = names.get(token)
            if level not in VISIBILITY_LEVELS:
                raise ValueError(
                    f"visibility_token of annotation {str(tables.annotations.token[row])!r} must "
                    f"have one of the levels {', '.join(VISIBILITY_LEVELS)} in visibility.json, or "
                    f'be ""; got {token!r}, '
                    + ("which is not there" if level is None else f"whose level is {level!r}")
                )
            levels[token] = VISIBILITY_LEVELS.index(level)
    return np.array([levels[token] for token in tokens], dtype=np.int8)


def _level_names(tables: Tables) -> dict[str, str]:
    """Return the name of the level of each token; nuScenes' own if the table does not exist."""
    path = tables.folder / "visibility.json"
    if not path.is_file():
        return {str(number): name for number, name in enumerate(VISIBILITY_LEVELS, 1)}
    table = TableColumns(path, {"level": Text()})
    return dict(zip(table.token.tolist(), table.text("level").tolist(), strict=True))
