"""Labels of lights and signs in one image, from the tables of a data set."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.traffic import KMH_PER_MPS, TrafficConfig
from bevstack.datasets.traffic_view.front_view import Crop
from bevstack.geometry import invert_se3
from bevstack.tables.names import EGO_LANE_TABLE
from bevstack.tables.traffic_elements import read_lanes, read_traffic_elements
from bevstack.tables.traffic_states import read_ego_lanes
from bevstack.types.traffic import LAMP, EgoLane, LaneCenterline, TrafficElement, light_color
from bevstack.types.traffic_batch import HIDDEN, LAMP_ONLY, LIGHT, SIGN, UNKNOWN, TrafficTargets
from bevstack.vocabulary import (
    LAMP_SHAPES,
    LIGHT_COLORS,
    MANOEUVRES,
    ROAD_SIGN,
    SIGN_MEANINGS,
    TRAFFIC_ELEMENT_ATTRIBUTES,
)

MAX_SUCCESSORS = 6  # lanes ahead of the own one whose elements may govern it
MIN_SHARE_IN_VIEW = 0.5  # of a box; an element that the crop cuts more is neither


@dataclass(frozen=True)
class ElementIndex:
    """The labelled elements of a data set, by sample and camera."""

    elements: Mapping[tuple[str, str], Sequence[TrafficElement]]  # (sample token, channel)
    lanes: Mapping[str, LaneCenterline] = field(default_factory=dict)
    ego_lanes: Mapping[str, EgoLane] = field(default_factory=dict)  # by sample token

    @staticmethod
    def build(
        elements: Sequence[TrafficElement],
        lanes: Mapping[str, LaneCenterline] | None = None,
        ego_lanes: Sequence[EgoLane] = (),
    ) -> ElementIndex:
        """Group elements by sample and camera."""
        grouped: dict[tuple[str, str], list[TrafficElement]] = defaultdict(list)
        for element in elements:
            grouped[element.sample_token, element.camera].append(element)
        own = {lane.sample_token: lane for lane in ego_lanes}
        return ElementIndex(dict(grouped), lanes or {}, own)

    @staticmethod
    def read(folder: Path) -> ElementIndex:
        """Read the tables of lights, signs, lanes and the ego's lanes of a version's folder.

        Raises:
            FileNotFoundError: the folder has no such tables.
            ValueError: a table cannot be read; names the row and the field.
        """
        lanes = read_lanes(folder)
        ego_lanes: tuple[EgoLane, ...] = ()
        if (folder / f"{EGO_LANE_TABLE}.json").is_file():  # of worlds of the preset `lights`
            ego_lanes = tuple(read_ego_lanes(folder, lanes=lanes).values())
        return ElementIndex.build(read_traffic_elements(folder), lanes, ego_lanes)

    def relevance(self, element: TrafficElement) -> list[int]:  # len(MANOEUVRES)
        """Return 1 for each manoeuvre for which the element governs the own vehicle, else 0.

        The elements of the own lane and of the lanes that continue it govern, but those of lanes
        behind the next junction do not count as known. -1: unknown, as for a manoeuvre that the
        own lane does not allow.
        """
        ego = self.ego_lanes.get(element.sample_token)
        if ego is None:
            return [UNKNOWN] * len(MANOEUVRES)
        governed = {element.lane_token, *element.lane_tokens} - {""}
        own = ego.lane_token in governed
        later = not own and bool(governed & self._ahead(ego.lane_token))
        lane = self.lanes.get(ego.lane_token)
        allowed = (lane.manoeuvres if lane else ()) or (ego.manoeuvre,)
        result = []
        for name in MANOEUVRES:
            applies = name in element.manoeuvres or not element.manoeuvres
            known = (name in allowed or name == ego.manoeuvre) and not later
            result.append(int(own and applies) if known else UNKNOWN)
        return result

    def _ahead(self, token: str) -> set[str]:
        """Return the lanes that continue a lane."""
        found: set[str] = set()
        newest = {token}
        for _ in range(MAX_SUCCESSORS):
            newest = {
                after
                for lane in newest
                if lane in self.lanes
                for after in self.lanes[lane].successors
            } - found
            found |= newest
        return found


def class_of_color(element: TrafficElement) -> int:
    """Return the index into LIGHT_COLORS; -1 for a sign or an unknown colour, -2 for a hidden one.

    Without lamps the colour is that of the attribute. A light whose lit lamps the image shows dark
    is off, as one image cannot distinguish the two; a filter over time does. The colour is hidden
    if the image does not show the lamps.
    """
    if element.category == ROAD_SIGN:
        return UNKNOWN
    if not element.shows_lamps:
        return HIDDEN
    if element.is_dark:
        return LIGHT_COLORS.index("off")
    if element.lamps is not None:
        shown = tuple(lamp for lamp in element.lamps if lamp.color in ("red", "yellow", "green"))
        return LIGHT_COLORS.index(light_color(shown)) if shown or not element.lamps else UNKNOWN
    name = TRAFFIC_ELEMENT_ATTRIBUTES[element.attribute]
    return LIGHT_COLORS.index(name) if name in LIGHT_COLORS else UNKNOWN


def class_of_shape(element: TrafficElement) -> int:
    """Return the index into LAMP_SHAPES of the first lit lamp; -1 if none is lit, shown or known.

    Lights without lamps in their labels are circles.
    """
    if element.category == ROAD_SIGN or element.lamps == () or element.is_dark:
        return UNKNOWN
    if not element.shows_lamps:
        return UNKNOWN
    if element.lamps is None:
        return LAMP_SHAPES.index("circle")
    index = LAMP_SHAPES.index(element.lamps[0].shape)
    return index if index else UNKNOWN  # 0 is "unknown"


def class_of_meaning(element: TrafficElement) -> int:
    """Return the index into SIGN_MEANINGS; -1 for a light or an unknown meaning."""
    if element.category != ROAD_SIGN:
        return UNKNOWN
    name = element.meaning or TRAFFIC_ELEMENT_ATTRIBUTES[element.attribute]
    return SIGN_MEANINGS.index(name) if name in SIGN_MEANINGS else UNKNOWN


def class_of_speed_limit(element: TrafficElement, limits_kmh: Sequence[int]) -> int:
    """Return the index of a sign's number among the limits; -1 if it has none or another one."""
    if element.speed_limit_mps is None:
        return UNKNOWN
    number = round(element.speed_limit_mps * KMH_PER_MPS)
    return limits_kmh.index(number) if number in limits_kmh else UNKNOWN


def label_image(
    elements: Sequence[TrafficElement],
    index: ElementIndex,
    crop: Crop,
    config: TrafficConfig,
    *,
    image: int,
    ego_from_cam: Tensor,  # (4, 4) float64
    world_from_ego: Tensor,  # (4, 4) float64
) -> TrafficTargets:
    """Return the labels of the elements of one image, in pixels of its view.

    Elements that are too low, too hidden or too much cut by the crop are ignored; those outside the
    crop are left out.
    """
    if not elements:
        return TrafficTargets.empty()
    moved = crop.move_boxes(np.array([element.box_px for element in elements], np.float64))
    boxes, share = _clipped(moved, crop.size)
    kept = [row for row in range(len(elements)) if share[row] > 0]
    if not kept:
        return TrafficTargets.empty()
    chosen = [elements[row] for row in kept]
    heights = boxes[kept, 3] - boxes[kept, 1]
    visible = np.array([element.visibility for element in chosen])
    ignored = (heights < config.min_height_px) | (visible < config.min_visibility)
    ignored |= share[kept] < MIN_SHARE_IN_VIEW
    places = [_place(element, ego_from_cam, world_from_ego) for element in chosen]
    return TrafficTargets(
        image=torch.full((len(chosen),), image, dtype=torch.int64),
        boxes_px=torch.from_numpy(boxes[kept]).float(),
        kind=torch.tensor([_kind(element) for element in chosen]),
        ignored=torch.from_numpy(ignored),
        color=torch.tensor([class_of_color(element) for element in chosen]),
        shape=torch.tensor([class_of_shape(element) for element in chosen]),
        pedestrian=torch.tensor([_pedestrian(element) for element in chosen]),
        meaning=torch.tensor([class_of_meaning(element) for element in chosen]),
        speed_limit=torch.tensor(
            [class_of_speed_limit(element, config.speed_limits_kmh) for element in chosen]
        ),
        depth_m=torch.tensor([depth for depth, _ in places]),
        aspect_rad=torch.tensor([aspect for _, aspect in places]),
        relevance=torch.tensor([index.relevance(element) for element in chosen]),
    )


def _clipped(
    boxes_px: NDArray[np.float64],  # (E, 4)
    size: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the boxes clipped to the view, and the share of the area that is left."""
    high = np.array([size[1], size[0], size[1], size[0]], np.float64)
    clipped = np.clip(boxes_px, 0, high)
    area = np.prod(boxes_px[:, 2:] - boxes_px[:, :2], axis=1)
    left = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1)
    return clipped, np.where(area > 0, left / np.maximum(area, 1e-9), 0.0)


def _kind(element: TrafficElement) -> int:
    if element.category == ROAD_SIGN:
        return SIGN
    return LAMP_ONLY if element.box_convention == LAMP else LIGHT


def _pedestrian(element: TrafficElement) -> int:
    if element.category == ROAD_SIGN or element.road_user == "unknown":
        return UNKNOWN
    return int(element.road_user == "pedestrian")


def _place(
    element: TrafficElement, ego_from_cam: Tensor, world_from_ego: Tensor
) -> tuple[float, float]:
    """Return depth and turn of the face; NaN if position or heading are unknown."""
    if element.position_m is None:
        return math.nan, math.nan
    point = torch.tensor([*element.position_m, 1.0], dtype=torch.float64)
    ego = invert_se3(world_from_ego) @ point
    camera = invert_se3(ego_from_cam) @ ego
    depth = float(camera[2])
    if depth <= 0:
        return math.nan, math.nan
    if element.yaw_rad is None:
        return depth, math.nan
    ray = (ego - ego_from_cam[:, 3])[:2]
    yaw_of_ego = math.atan2(float(world_from_ego[1, 0]), float(world_from_ego[0, 0]))
    to_camera = math.atan2(-float(ray[1]), -float(ray[0]))
    turn = element.yaw_rad - yaw_of_ego - to_camera
    return depth, math.atan2(math.sin(turn), math.cos(turn))
