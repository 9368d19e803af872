"""Lanes cut at the junctions, with the connections through them.

The turns are drawn by `population.turning`, so this module receives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.streets.rich_layout import junction_of, movement_of
from bevstack.synthetic.streets.roads import Path, RoadLayout
from bevstack.synthetic.streets.signal_plan import ACROSS, NEAR

CUT_M = 1.0  # behind its stop line, a lane ends and its connections begin
BEYOND_M = 3.0  # beyond the crossed carriageway, a connection ends
_STEP_M = 1.0

Key = tuple[object, ...]


@dataclass(frozen=True)
class LanePiece:
    """A lane between two junctions, or a connection through one."""

    key: Key
    lane: int  # index in `RoadLayout.lanes`; of a turn, the lane that it leaves
    points_m: NDArray[np.float64]  # (K, 2) scene frame
    successors: tuple[Key, ...] = ()
    stop_line_s_m: float | None = None  # arc length
    manoeuvres: tuple[str, ...] = ()  # allowed at the next junction; of a connection, its own
    through: int | None = None  # junction of a connection

    @property
    def s_m(self) -> NDArray[np.float64]:
        """Return the arc length (K,) of each point."""
        steps = np.hypot(*np.diff(self.points_m, axis=0).T)
        return np.concatenate([[0.0], np.cumsum(steps)])

    def project(self, x_m: float, y_m: float) -> tuple[float, float]:
        """Return distance and arc length of the point that is nearest to a position."""
        start, step = self.points_m[:-1], np.diff(self.points_m, axis=0)
        length = np.hypot(step[:, 0], step[:, 1])
        offset = np.array([x_m, y_m]) - start
        share = np.clip((offset * step).sum(axis=1) / np.maximum(length**2, 1e-12), 0.0, 1.0)
        gap = np.hypot(*(offset - share[:, None] * step).T)
        nearest = int(np.argmin(gap))
        return float(gap[nearest]), float(self.s_m[nearest] + share[nearest] * length[nearest])


@dataclass(frozen=True)
class TurnConnection:
    """A turn between two lanes through a junction."""

    lane: int  # index of the lane that it leaves
    junction: int
    exit_lane: int
    path: Path  # along the lane, through the turn and along the exit lane
    start_s_m: float  # on `path`
    end_s_m: float  # on `path`
    manoeuvre: str  # "left" or "right"


def exits_of(layout: RoadLayout, lane_index: int) -> list[float]:
    """Return the arc lengths at which a lane leaves the junctions at its stop lines."""
    lane = layout.lanes[lane_index]
    if not lane.is_main:
        far = layout.left if lane.is_forward else layout.right
        return [lane.path.length_m / 2 + far.kerb_m + BEYOND_M]
    exits = []
    for number in range(len(lane.stop_lines)):
        crossing = layout.crossings[junction_of(layout, lane_index, number)]
        x, y, _ = crossing.path.at(crossing.path.length_m / 2)
        middle = lane.path.nearest_s(float(x), float(y))
        exits.append(middle + crossing.half_width_m + BEYOND_M)
    return exits


def piece_key(lane_index: int, number: int) -> Key:
    """Return the key of a lane's piece before its stop line of a number, or after the last."""
    return ("lane", lane_index, number)


def connection_key(lane_index: int, junction: int, exit_lane: int) -> Key:
    """Return the key of a connection through a junction."""
    return ("connection", lane_index, junction, exit_lane)


def _points(path: Path, start_m: float, end_m: float) -> NDArray[np.float64]:
    count = max(2, round((end_m - start_m) / _STEP_M) + 1)
    return np.stack(path.at(np.linspace(start_m, end_m, count))[:2], axis=1)


def build_lane_graph(layout: RoadLayout, turns: Sequence[TurnConnection]) -> dict[Key, LanePiece]:
    """Return all pieces of all lanes by their keys."""
    graph: dict[Key, LanePiece] = {}
    for index, lane in enumerate(layout.lanes):
        exits = exits_of(layout, index)
        start = 0.0
        for number, stop in enumerate(lane.stop_lines):
            end = stop.s_m + CUT_M
            key = piece_key(index, number)
            junction = junction_of(layout, index, number)
            leaving = [t for t in turns if t.lane == index and t.junction == junction]
            manoeuvres = tuple(sorted({t.manoeuvre for t in leaving}))
            successors = [connection_key(index, junction, t.exit_lane) for t in leaving]
            if movement_of(lane) not in (ACROSS, NEAR):
                through = connection_key(index, junction, index)
                successors.insert(0, through)
                manoeuvres = ("straight", *manoeuvres)
                graph[through] = LanePiece(
                    through,
                    index,
                    _points(lane.path, end, exits[number]),
                    (piece_key(index, number + 1),),
                    manoeuvres=("straight",),
                    through=junction,
                )
            points = _points(lane.path, start, end)
            piece = LanePiece(key, index, points, tuple(successors), None, manoeuvres)
            graph[key] = replace(piece, stop_line_s_m=float(piece.s_m[-1]) - CUT_M)
            start = exits[number]
        key = piece_key(index, len(lane.stop_lines))
        graph[key] = LanePiece(key, index, _points(lane.path, start, lane.path.length_m))
    for turn in turns:
        key = connection_key(turn.lane, turn.junction, turn.exit_lane)
        points = _points(turn.path, turn.start_s_m, turn.end_s_m)
        after = _piece_after(layout, turn.exit_lane, turn.junction)
        graph[key] = LanePiece(
            key, turn.lane, points, (after,), manoeuvres=(turn.manoeuvre,), through=turn.junction
        )
    return graph


def _piece_after(layout: RoadLayout, lane_index: int, junction: int) -> Key:
    """Return the key of a lane's piece behind a junction."""
    lane = layout.lanes[lane_index]
    number = next(
        number
        for number in range(len(lane.stop_lines))
        if junction_of(layout, lane_index, number) == junction
    )
    return piece_key(lane_index, number + 1)


def piece_at(layout: RoadLayout, lane_index: int, s_m: float) -> Key:
    """Return the key of the piece or connection of a lane straight on at an arc length."""
    lane, exits = layout.lanes[lane_index], exits_of(layout, lane_index)
    for number, stop in enumerate(lane.stop_lines):
        if s_m <= stop.s_m + CUT_M:
            return piece_key(lane_index, number)
        if s_m < exits[number]:
            return piece_key(lane_index, number + 1)
    return piece_key(lane_index, len(lane.stop_lines))
