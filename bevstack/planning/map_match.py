"""Assignment of tracked elements to the lights of a map, and the lanes ahead of the vehicle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from bevstack.config.cues import RelevanceConfig
from bevstack.tracking.element_filter import squared_distances
from bevstack.tracking.element_tracks import Elements
from bevstack.types.traffic_map import TrafficMap
from bevstack.vocabulary import MANOEUVRES, TRAFFIC_LIGHT

Floats = NDArray[np.float64]

_LANES_AHEAD = 8  # successions of lanes that are followed
_ANY_HEIGHT_M = 100.0  # standard deviation of a height that is not known
_SAME_WAY_RAD = 0.8  # angle between the vehicle and its lane


@dataclass(frozen=True)
class MapMatch:
    """Lights of a map that elements were assigned to."""

    map_ids: tuple[str | None, ...]  # E
    governs: Floats  # (E, M) 1: the map names the vehicle's lane, -1: other lanes, 0: unknown
    stop_line_m: Floats  # (E,) distance ahead of its stop line, NaN: none


def match_map(
    traffic_map: TrafficMap | None,
    elements: Elements,
    world_from_ego: Floats,  # (4, 4)
    config: RelevanceConfig,
) -> MapMatch:
    """Assign elements to a map's lights, at most one to each, within a gate.

    The lanes that lead ahead are those that follow the vehicle's own. A light governs the vehicle
    if one of its lanes is among them. Without the vehicle's lane, the map knows ids alone.
    """
    count = len(elements)
    map_ids: list[str | None] = [None] * count
    governs = np.zeros((count, len(MANOEUVRES)))
    stop_line = np.full(count, np.nan)
    if traffic_map is None or not traffic_map.lights or not count:
        return MapMatch(tuple(map_ids), governs, stop_line)
    places = np.array([item.position_m for item in traffic_map.lights], np.float64)
    noise = np.tile(config.map_sigma_m**2 * np.eye(3), (len(places), 1, 1))
    noise[[not item.height_known for item in traffic_map.lights], 2, 2] = _ANY_HEIGHT_M**2
    distance = squared_distances(elements.position_m, elements.covariance_m2, places, noise)
    is_light = elements.category == TRAFFIC_LIGHT
    allowed = (distance <= config.map_gate) & is_light[:, None]
    rows, columns = linear_sum_assignment(
        np.where(allowed, config.map_gate + 1 - distance, 0.0), maximize=True
    )
    ahead = lanes_ahead(traffic_map, world_from_ego, config)
    ego_from_world = np.linalg.inv(world_from_ego)
    for row, column in zip(rows, columns, strict=True):
        if not allowed[row, column]:
            continue
        found = traffic_map.lights[column]
        map_ids[row] = found.map_id
        if found.stop_line_m is not None and len(found.stop_line_m):
            center = np.array([*np.asarray(found.stop_line_m)[:, :2].mean(0), 0.0])
            stop_line[row] = (ego_from_world[:3, :3] @ center + ego_from_world[:3, 3])[0]
        if found.lanes and ahead:
            mine = bool(ahead & set(found.lanes))
            for index, manoeuvre in enumerate(MANOEUVRES):
                named = not found.manoeuvres or manoeuvre in found.manoeuvres
                governs[row, index] = 1.0 if mine and named else -1.0
    return MapMatch(tuple(map_ids), governs, stop_line)


def lanes_ahead(
    traffic_map: TrafficMap,
    world_from_ego: Floats,  # (4, 4)
    config: RelevanceConfig,
) -> set[str]:
    """Return the vehicle's lane and those that follow it; none if it is on no lane of the map."""
    place, forward = world_from_ego[:2, 3], world_from_ego[:2, 0]
    best, nearest = "", config.map_lane_reach_m
    for name, line in traffic_map.lanes.items():
        points = np.asarray(line, np.float64)[:, :2]
        if len(points) < 2:
            continue
        start, step = points[:-1], np.diff(points, axis=0)
        length = np.maximum((step**2).sum(1), 1e-12)
        share = np.clip(((place - start) * step).sum(1) / length, 0, 1)
        gap = np.linalg.norm(start + share[:, None] * step - place, axis=1)
        index = int(gap.argmin())
        along = float(step[index] @ forward / np.sqrt(length[index]))
        if gap[index] < nearest and along >= np.cos(_SAME_WAY_RAD):
            best, nearest = name, float(gap[index])
    found, edge = ({best}, [best]) if best else (set(), [])
    for _ in range(_LANES_AHEAD):
        edge = [n for lane in edge for n in traffic_map.successors.get(lane, ()) if n not in found]
        found |= set(edge)
    return found
