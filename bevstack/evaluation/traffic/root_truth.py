"""True lights and signs of a split, read from the tables of a root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.truth import samples_of_split
from bevstack.evaluation.traffic.element_columns import ElementColumns, true_columns
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, TrafficFrames
from bevstack.tables.names import EGO_LANE_TABLE, TRAFFIC_STATE_TABLE
from bevstack.tables.reader import Tables
from bevstack.tables.traffic_elements import read_traffic_elements
from bevstack.tables.traffic_states import read_ego_lanes, read_timelines
from bevstack.types.traffic import EgoLane, ElementTimeline, TrafficElement

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RootTruth:
    """The S samples of a split with their elements."""

    tokens: tuple[str, ...]  # S
    scene: Ints  # (S,) index of the scene
    scene_tokens: tuple[str, ...]
    ego_position_m: NDArray[np.float64]  # (S, 3) in the world frame
    elements: Mapping[str, Sequence[TrafficElement]]  # by sample token
    timelines: Mapping[str, ElementTimeline]  # by instance token; empty: the root has none
    ego_lanes: Mapping[str, EgoLane]  # by sample token; empty: the root has none


def read_root_truth(tables: Tables, split: str | Sequence[str]) -> RootTruth:
    """Read the true elements of a split, or of scenes by name.

    Raises:
        FileNotFoundError: the version has no table of traffic elements.
        ValueError: a table is malformed, or the version does not have the split or a scene.
    """
    rows = samples_of_split(tables, split)
    tokens = tuple(map(str, np.asarray(tables.samples.token)[rows]))
    elements: dict[str, list[TrafficElement]] = {token: [] for token in tokens}
    for element in read_traffic_elements(tables.folder):
        if element.sample_token in elements:
            elements[element.sample_token].append(element)
    scenes, scene = np.unique(tables.samples.scene[rows], return_inverse=True)
    has_states = (tables.folder / f"{TRAFFIC_STATE_TABLE}.json").is_file()
    has_lanes = (tables.folder / f"{EGO_LANE_TABLE}.json").is_file()
    return RootTruth(
        tokens=tokens,
        scene=scene.astype(np.int64),
        scene_tokens=tuple(map(str, np.asarray(tables.scenes.token)[scenes])),
        ego_position_m=tables.keyframes.translation[tables.reference_keyframes(rows)],
        elements=elements,
        timelines=read_timelines(tables.folder) if has_states else {},
        ego_lanes=read_ego_lanes(tables.folder) if has_lanes else {},
    )


@dataclass(frozen=True, kw_only=True)
class KeyFrames:
    """The predicted frames of a split's samples, and its images."""

    frames: tuple[TrafficFrame, ...]  # S, in the order of the samples
    images: tuple[Ints, ...]  # S of (C,) numbers of the images of the frame's cameras
    image_scene: Ints  # (I,) scene of each image
    truth: ElementColumns  # of the cameras that were predicted


def key_frames(file: TrafficFrames, truth: RootTruth) -> KeyFrames:
    """Return the frames of the samples, and the true elements in the cameras of each frame.

    Frames of samples outside the split, and frames between samples, are left out.

    Raises:
        ValueError: a sample of the split has no frame; names the first one.
    """
    found = {frame.sample_token: frame for frame in file.frames}
    missing = [token for token in truth.tokens if token not in found]
    if missing:
        raise ValueError(
            f"traffic file must hold a frame for every sample of the split; got none for "
            f"{len(missing)} of {len(truth.tokens)}, the first {missing[0]!r}: predict the same "
            "split"
        )
    frames = tuple(found[token] for token in truth.tokens)
    images: list[Ints] = []
    scene: list[int] = []
    elements: list[TrafficElement] = []
    numbers: list[int] = []
    positions = []
    for row, frame in enumerate(frames):
        own = np.arange(len(frame.cameras)) + len(scene)
        number_of_camera = dict(zip(frame.cameras, own.tolist(), strict=True))
        for element in truth.elements[truth.tokens[row]]:
            if element.camera in number_of_camera:
                elements.append(element)
                numbers.append(number_of_camera[element.camera])
                positions.append(truth.ego_position_m[row])
        images.append(own)
        scene += [int(truth.scene[row])] * len(own)
    return KeyFrames(
        frames=frames,
        images=tuple(images),
        image_scene=np.array(scene, np.int64),
        truth=true_columns(
            elements, np.array(numbers, np.int64), np.array(positions).reshape(-1, 3)
        ),
    )
