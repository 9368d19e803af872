"""Lane graph of a scene, and the route of the ego through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bevstack.synthetic.population.ego import EgoDrive
from bevstack.synthetic.population.turning import Turn, turn_path, turns_at
from bevstack.synthetic.streets.lane_graph import (
    CUT_M,
    Key,
    LanePiece,
    TurnConnection,
    build_lane_graph,
    connection_key,
    piece_key,
)
from bevstack.synthetic.streets.rich_layout import junction_of, movement_of
from bevstack.synthetic.streets.roads import RoadLayout
from bevstack.synthetic.streets.signal_plan import ACROSS, NEAR

_SEARCH_M = 3.0  # around the end of a turn


@dataclass(frozen=True)
class RoutePlace:
    """The ego's place on its route."""

    key: Key  # of the piece
    manoeuvre: str  # at the next junction, or at the one in which it is
    stop_line_m: float | None  # distance along the route to the next stop line


def lane_graph(layout: RoadLayout) -> dict[Key, LanePiece]:
    """Return the pieces of all lanes and the connections through all junctions."""
    return build_lane_graph(layout, connections(layout))


def connections(layout: RoadLayout) -> list[TurnConnection]:
    """Return the turns through all junctions."""
    return [
        _connect(layout, number, turn)
        for number, crossing in enumerate(layout.crossings)
        for turn in turns_at(layout, number, crossing)
    ]


def _index(layout: RoadLayout, turn: Turn) -> tuple[int, int]:
    """Return the indices of the lanes before and after a turn."""
    places = {id(lane): index for index, lane in enumerate(layout.lanes)}
    return places[id(turn.lane)], places[id(turn.exit_lane)]


def _connect(layout: RoadLayout, junction: int, turn: Turn) -> TurnConnection:
    lane, exit_lane = _index(layout, turn)
    path, start = turn_path(turn), turn.stop.s_m + CUT_M
    x, y, _ = (float(v) for v in turn.exit_lane.path.at(turn.exit_s_m))
    s = np.linspace(0.0, _SEARCH_M, 61)
    fine = path.nearest_s(x, y) - _SEARCH_M / 2 + s
    px, py, _ = path.at(fine)
    end = float(fine[np.argmin(np.hypot(px - x, py - y))])
    return TurnConnection(lane, junction, exit_lane, path, start, end, turn.manoeuvre)


def ego_route(layout: RoadLayout, drive: EgoDrive) -> list[Key]:
    """Return the keys of the pieces along the ego's route, connections included."""
    index = next(i for i, lane in enumerate(layout.lanes) if lane is drive.lane)
    route: list[Key] = []
    for number, stop in enumerate(drive.lane.stop_lines):
        junction = junction_of(layout, index, number)
        route.append(piece_key(index, number))
        if drive.turn is not None and stop is drive.turn.stop:
            _, exit_lane = _index(layout, drive.turn)
            route.append(connection_key(index, junction, exit_lane))
            return _follow(layout, route, exit_lane, junction)
        if movement_of(drive.lane) in (ACROSS, NEAR):
            route = []  # the ego starts behind a junction that its lane does not lead across
        else:
            route.append(connection_key(index, junction, index))
    return [*route, piece_key(index, len(drive.lane.stop_lines))]


def _follow(layout: RoadLayout, route: list[Key], lane_index: int, junction: int) -> list[Key]:
    """Return a route that continues straight on in a lane behind a junction."""
    count = len(layout.lanes[lane_index].stop_lines)
    numbers = range(count)
    first = next(n for n in numbers if junction_of(layout, lane_index, n) == junction) + 1
    for number in range(first, count):
        route.append(piece_key(lane_index, number))
        route.append(
            connection_key(lane_index, junction_of(layout, lane_index, number), lane_index)
        )
    return [*route, piece_key(lane_index, count)]


def place_on_route(
    graph: Mapping[Key, LanePiece], route: Sequence[Key], x_m: float, y_m: float
) -> RoutePlace:
    """Return the piece of a route that a position lies on, the next manoeuvre and stop line."""
    gaps = [graph[key].project(x_m, y_m) for key in route]
    place = int(np.argmin([round(gap, 6) for gap, _ in gaps]))
    manoeuvre = next(
        (graph[key].manoeuvres[0] for key in route[place:] if graph[key].through is not None),
        "straight",
    )
    travelled = gaps[place][1]
    distance = -travelled
    for key in route[place:]:
        piece = graph[key]
        if piece.stop_line_s_m is not None and distance + piece.stop_line_s_m >= 0.0:
            return RoutePlace(route[place], manoeuvre, distance + piece.stop_line_s_m)
        distance += float(piece.s_m[-1])
    return RoutePlace(route[place], manoeuvre, None)
