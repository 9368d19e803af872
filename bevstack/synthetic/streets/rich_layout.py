"""Streets of the preset `lights`: a junction ahead of the ego, and lanes for turns alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bevstack.synthetic.streets.roads import BEHIND_M, Lane, RoadLayout, make_layout
from bevstack.synthetic.streets.signal_plan import (
    ACROSS,
    CROSS,
    NEAR,
    THROUGH,
    RichSignals,
    draw_signals,
)

_TRIES = 60
_AHEAD_M = (30.0, 85.0)  # distance of the first junction from where the ego starts on average
_ONE_LANE_SHARE = 0.03  # of layouts with one lane in the ego's direction that are kept
_TURN_LANE_SHARE = 0.9  # of directions with two lanes or more that have lanes for turns alone
_WALK_MPS = 1.3
_CHANGE_SHARE = 0.7  # of junctions whose lights change near the start of the scene
_START_S, _END_S = (-3.0, 3.0), (0.0, 6.0)  # times of that change: green starts or ends
# Times at which the main road's green of all junctions starts or ends in drives: the ego mostly
# meets red, waits, and goes on green.
_WAITS_START_S, _WAITS_END_S, _WAITS_SHARE = (8.0, 18.0), (-1.0, 4.0), 0.85


def make_rich_layout(
    rng: np.random.Generator, hand: float, travel_m: float, *, night: bool, waits: bool = False
) -> RoadLayout:
    """Draw the streets of a scene with the lights of the preset `lights`.

    Args:
        rng: source of all draws.
        hand: +1 if traffic drives on the right, -1 if it drives on the left.
        travel_m: longest distance that the ego may drive.
        night: True makes flashing lights more frequent.
        waits: True lets the ego meet most lights at red.
    """
    layout = make_layout(rng, hand, travel_m)
    for _ in range(_TRIES):
        if _is_useful(layout, rng):
            break
        layout = make_layout(rng, hand, travel_m)
    return _assign_movements(layout, rng, night, waits)


def _is_useful(layout: RoadLayout, rng: np.random.Generator) -> bool:
    """Return True if a junction lies ahead, and nearly always if there are lanes to compare."""
    ahead = [c.centre_s_m - BEHIND_M for c in layout.crossings if c.centre_s_m > BEHIND_M - 10.0]
    if not ahead or not _AHEAD_M[0] < ahead[0] < _AHEAD_M[1]:
        return False
    forward = sum(lane.is_main and lane.is_forward for lane in layout.lanes)
    return forward > 1 or rng.random() < _ONE_LANE_SHARE


def _assign_movements(
    layout: RoadLayout, rng: np.random.Generator, night: bool, waits: bool
) -> RoadLayout:
    """Give every stop line the phase of its movement, and the layout a signal plan."""
    movements: dict[int, int] = {}
    main = range(len(layout.lane_offsets_m))
    for forward in (True, False):
        order = sorted(
            (i for i in main if layout.lanes[i].is_forward == forward),
            key=lambda i: abs(layout.lane_offsets_m[i]),
        )
        movements |= dict.fromkeys(order, THROUGH)
        if len(order) > 1 and rng.random() < _TURN_LANE_SHARE:
            movements[order[0]] = ACROSS
            if len(order) > 2 and rng.random() < 0.6:
                movements[order[-1]] = NEAR
    walk_s = (layout.left.kerb_m + layout.right.kerb_m) / _WALK_MPS - 2.0
    signals = draw_signals(
        rng,
        len(layout.crossings),
        protected=ACROSS in movements.values(),
        night=night,
        walk_s=walk_s,
    )
    signals = (_place_waits if waits else _place_changes)(signals, rng)
    lanes = [
        _with_phases(layout, index, signals, movements.get(index, CROSS))
        for index in range(len(layout.lanes))
    ]
    return replace(layout, lanes=tuple(lanes), signals=signals)


def _place_changes(signals: RichSignals, rng: np.random.Generator) -> RichSignals:
    """Let the lights of most junctions change near the start of the scene."""
    offsets = list(signals.offsets_s)
    movements, shares = [THROUGH, CROSS], [0.8, 0.2]
    if signals.across_s:
        movements, shares = [THROUGH, ACROSS, CROSS], [0.52, 0.40, 0.08]
    for junction in range(len(offsets)):
        if rng.random() < _CHANGE_SHARE:
            ends = bool(rng.random() < 0.6)
            change = signals.green(int(rng.choice(movements, p=shares)))[int(ends)]
            start = change - float(rng.uniform(*(_END_S if ends else _START_S)))
            offsets[junction] = round(start % signals.cycle_s, 3)
    return replace(signals, offsets_s=tuple(offsets))


def _place_waits(signals: RichSignals, rng: np.random.Generator) -> RichSignals:
    """Let the main road have red at the start of most scenes."""
    offsets = []
    for _ in signals.offsets_s:
        ends = bool(rng.random() >= _WAITS_SHARE)
        change_s = float(rng.uniform(*(_WAITS_END_S if ends else _WAITS_START_S)))
        start = signals.green(THROUGH)[int(ends)] - change_s
        offsets.append(round(start % signals.cycle_s, 3))
    return replace(signals, offsets_s=tuple(offsets))


def junction_of(layout: RoadLayout, lane_index: int, number: int) -> int:
    """Return the index of the junction behind a lane's stop line of a number."""
    lane = layout.lanes[lane_index]
    if not lane.is_main:
        return (lane_index - len(layout.lane_offsets_m)) // 2
    return number if lane.is_forward else len(layout.crossings) - 1 - number


def _with_phases(layout: RoadLayout, index: int, signals: RichSignals, movement: int) -> Lane:
    lane = layout.lanes[index]
    stops = tuple(
        replace(stop, phase=signals.phase(junction_of(layout, index, number), movement))
        for number, stop in enumerate(lane.stop_lines)
    )
    return replace(lane, stop_lines=stops)


def movement_of(lane: Lane) -> int:
    """Return the movement of a lane with stop lines; THROUGH for a lane without."""
    return lane.stop_lines[0].phase % 8 if lane.stop_lines else THROUGH
