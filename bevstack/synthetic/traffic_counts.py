"""Counts of the traffic lights and signs that the front camera of a world sees."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bevstack.json_files import read_json
from bevstack.tables.traffic_elements import read_traffic_elements
from bevstack.tables.traffic_states import read_ego_lanes
from bevstack.types.traffic import Lamp, TrafficElement
from bevstack.vocabulary import TRAFFIC_LIGHT

_FRONT = "CAM_FRONT"
_PARALLEL = 0.97  # cosine between the directions that two lights of one approach face
_READABLE_PX = 10.0  # height of a sign


@dataclass(frozen=True, kw_only=True)
class TrafficCounts:
    """Counts over the key frames of the front camera in one split."""

    scenes: int
    samples: int
    lights: int  # rows for vehicles and pedestrians
    red: int  # rows of lights for vehicles; each light counts for one colour
    yellow: int
    green: int
    red_yellow: int
    off: int
    pedestrian: int
    signs: int
    readable_signs: int  # rows of at least 10 px in height
    own_light: int  # samples that show a light for the ego's lane
    differing: int  # of these, samples in which a parallel light shows another state


def count_traffic(root: Path, version: str) -> dict[str, TrafficCounts]:
    """Return the counts of each split of a world with the traffic of the preset `lights`.

    Raises:
        FileNotFoundError: a table is missing.
        ValueError: a table is damaged.
    """
    folder = root / version
    scenes = {row["token"]: row["name"] for row in _table(folder, "scene")}
    names = {row["token"]: scenes[row["scene_token"]] for row in _table(folder, "sample")}
    own = {sample: lane.lane_token for sample, lane in read_ego_lanes(folder).items()}
    front: dict[str, list[TrafficElement]] = defaultdict(list)
    for element in read_traffic_elements(folder):
        if element.camera == _FRONT:
            front[element.sample_token].append(element)
    return {
        split: _count(split_names, names, own, front)
        for split, split_names in read_json(folder / "splits.json", "splits").items()
    }


def _table(folder: Path, name: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = read_json(folder / f"{name}.json", "table", max_bytes=1 << 30)
    return rows


def _count(
    split_names: list[str],
    names: dict[str, str],
    own: dict[str, str],
    front: dict[str, list[TrafficElement]],
) -> TrafficCounts:
    samples = [sample for sample, name in names.items() if name in set(split_names)]
    elements = [element for sample in samples for element in front[sample]]
    lights = [e for e in elements if e.category == TRAFFIC_LIGHT]
    vehicle = [_state(e.lamps) for e in lights if e.road_user == "vehicle"]
    signs = [e for e in elements if e.category != TRAFFIC_LIGHT]
    shown = [_differs(front[sample], own[sample]) for sample in samples]
    return TrafficCounts(
        scenes=len(split_names),
        samples=len(samples),
        lights=len(lights),
        red=vehicle.count("red"),
        yellow=vehicle.count("yellow"),
        green=vehicle.count("green"),
        red_yellow=vehicle.count("red+yellow"),
        off=vehicle.count(""),
        pedestrian=len(lights) - len(vehicle),
        signs=len(signs),
        readable_signs=sum(e.box_px[3] - e.box_px[1] >= _READABLE_PX for e in signs),
        own_light=sum(differs is not None for differs in shown),
        differing=sum(bool(differs) for differs in shown),
    )


def _state(lamps: tuple[Lamp, ...] | None) -> str:
    return "+".join(sorted(lamp.color for lamp in lamps or ()))


def _differs(elements: list[TrafficElement], lane: str) -> bool | None:
    """Return True if a light parallel to that of the ego's lane shows another state.

    None if no light of the ego's lane is visible.
    """
    lights = [e for e in elements if e.category == TRAFFIC_LIGHT and e.road_user == "vehicle"]
    governing = [e for e in lights if lane in e.lane_tokens]
    if not governing:
        return None
    yaw = governing[0].yaw_rad or 0.0
    return any(
        _state(e.lamps) != _state(governing[0].lamps)
        for e in lights
        if np.cos((e.yaw_rad or 0.0) - yaw) > _PARALLEL
    )
