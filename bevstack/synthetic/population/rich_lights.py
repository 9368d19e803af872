"""Traffic lights of the preset `lights`: several heads for each approach, and for pedestrians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bevstack.synthetic.population.population import Population
from bevstack.synthetic.population.rich_control import (
    HORIZONTAL_RED_LEFT,
    HORIZONTAL_RED_RIGHT,
    PEDESTRIAN,
    VERTICAL,
    LightStates,
    RichLight,
)
from bevstack.synthetic.population.scenery import place_at
from bevstack.synthetic.population.traffic import DT_S, LEAD_IN_S
from bevstack.synthetic.population.traffic_control import (
    HIGH_M,
    LIGHT_SIZE_M,
    LOW_M,
    POLE,
    Approach,
    approaches_of,
    place_facing,
)
from bevstack.synthetic.population.turning import turns_at
from bevstack.synthetic.renderer.primitives import Kind, Pattern, PrimitiveList
from bevstack.synthetic.streets.roads import CrossStreet, Side
from bevstack.synthetic.streets.signal_plan import (
    ACROSS,
    NEAR,
    THROUGH,
    WALK_CROSS,
    WALK_MAIN,
    RichSignals,
)
from bevstack.vocabulary import TRAFFIC_LIGHT

_WALK_SIZE_M = (0.25, 0.36, 0.68)  # depth, width, height of a housing for pedestrians
_MARGIN_S = 2.0  # timelines start and end this long before and after the tracks
_COLOURS = ((0.05, 0.05, 0.055), (0.05, 0.09, 0.07), (0.55, 0.42, 0.06), (0.16, 0.17, 0.18))


@dataclass(frozen=True)
class _Style:
    """Properties that the lights of a scene share."""

    housing: int
    colour: tuple[float, float, float]
    rim: bool
    scale: float
    arrows: bool  # in the lamps of lanes for turns alone
    straight_arrows: bool  # in the lamps of lanes that lead straight on alone
    beside: bool  # a light for turns hangs beside the one at the stop line
    mains_hz: float


def _draw_style(population: Population) -> _Style:
    rng, hand = population.rng, population.layout.hand
    flat = HORIZONTAL_RED_LEFT if hand > 0 else HORIZONTAL_RED_RIGHT
    return _Style(
        housing=flat if rng.random() < 0.35 else VERTICAL,
        colour=_COLOURS[int(rng.choice(len(_COLOURS), p=[0.45, 0.2, 0.2, 0.15]))],
        rim=bool(rng.random() < 0.3),
        scale=float(rng.uniform(1.0, 1.25)),
        arrows=bool(rng.random() < 0.75),
        straight_arrows=bool(rng.random() < 0.35),
        beside=bool(rng.random() < 0.6),
        # beside the mains' 100 or 120 half-waves, so that dark exposures come and go
        mains_hz=float(rng.choice([100.0, 120.0]) + rng.uniform(0.7, 5.0))
        if rng.random() < 0.4
        else 0.0,
    )


class _Heads:
    """Builder of the lights of a scene.

    Args:
        population: receives poles and arms.
    """

    def __init__(self, population: Population) -> None:
        self.lights: list[RichLight] = []
        self.style = _draw_style(population)
        self._population = population
        signals = population.layout.signals
        assert isinstance(signals, RichSignals)
        self._signals = signals
        end = (population.steps - 1) * DT_S - LEAD_IN_S
        self._range_s = (-LEAD_IN_S - _MARGIN_S, end + _MARGIN_S)
        count = len(population.layout.crossings)
        self._flash_offsets_us = population.rng.integers(0, 1_000_000, count).tolist()

    def add(
        self,
        foot_m: tuple[float, float, float],
        yaw_rad: float,
        junction: int,
        movement: int,
        lanes: tuple[int, ...],
        manoeuvres: tuple[str, ...] = (),
    ) -> None:
        """Add a light whose lowest point is given; without lanes it is for pedestrians."""
        style, plan = self.style, self._signals
        size = tuple(style.scale * v for v in LIGHT_SIZE_M)
        if style.housing != VERTICAL:
            size = (size[0], size[2], size[1])
        shape, housing = self._shape(movement, manoeuvres), style.housing
        if not lanes:
            size, shape, housing = _WALK_SIZE_M, "pedestrian", PEDESTRIAN
        times, colours = plan.states(plan.phase(junction, movement), *self._range_s)
        depth, width, height = (round(v, 3) for v in size)
        self.lights.append(
            RichLight(
                category=TRAFFIC_LIGHT,
                lane=lanes[0] if lanes else -1,
                centre_m=(foot_m[0], foot_m[1], foot_m[2] + height / 2),
                size_m=(depth, width, height),
                yaw_rad=yaw_rad,
                states=LightStates(
                    times_us=tuple(round(t * 1e6) for t in times),
                    colours=colours,
                    flash_hz=plan.flash_hz
                    if any(s == "flashing" for c in colours for _, s in c)
                    else 0.0,
                    flash_offset_us=self._flash_offsets_us[junction],
                ),
                lanes=lanes,
                junction=junction,
                movement=movement,
                shape=shape,
                housing=housing,
                road_user="vehicle" if lanes else "pedestrian",
                manoeuvres=manoeuvres,
                colour=style.colour,
                rim=style.rim and bool(lanes),
                mains_hz=style.mains_hz,
                dark_share=0.18 if style.mains_hz else 0.0,
            )
        )

    def _shape(self, movement: int, manoeuvres: tuple[str, ...]) -> str:
        if movement in (ACROSS, NEAR) and self.style.arrows:
            return manoeuvres[0]
        only_straight = movement == THROUGH and manoeuvres == ("straight",)
        return "straight" if only_straight and self.style.straight_arrows else "circle"


def add_rich_lights(population: Population) -> list[RichLight]:
    """Add the lights of every approach and of every zebra crossing, with their poles."""
    heads = _Heads(population)
    for approach in approaches_of(population):
        _add_far(population, approach, heads)
        _add_near(population, approach, heads)
    for number, crossing in enumerate(population.layout.crossings):
        _add_walk_lights(population, number, crossing, heads)
    return heads.lights


def _movement(population: Population, approach: Approach, lane: int) -> int:
    """Return the movement of a lane at the junction of an approach."""
    phases = [stop.phase for stop in population.layout.lanes[lane].stop_lines]
    return next(phase % 8 for phase in phases if phase // 8 == approach.junction)


def _manoeuvres(population: Population, approach: Approach, lane: int) -> tuple[str, ...]:
    """Return the manoeuvres that a lane allows at the junction of an approach."""
    layout = population.layout
    crossing = layout.crossings[approach.junction]
    names = {
        turn.manoeuvre
        for turn in turns_at(layout, approach.junction, crossing)
        if turn.lane is layout.lanes[lane]
    }
    straight = _movement(population, approach, lane) not in (ACROSS, NEAR)
    return (*(("straight",) if straight else ()), *sorted(names))


def _add_far(population: Population, approach: Approach, heads: _Heads) -> None:
    """Add a light above each lane beyond the junction, and often one on their pole."""
    x, y, yaw = place_facing(approach, approach.far_s_m, approach.pole_m)
    if not population.reserve(x, y, yaw, (0.3, 0.3)):
        return
    inner = approach.lanes[-1][1]
    arm_length = abs(approach.pole_m - inner) + 0.6
    direction = np.sign(inner - approach.pole_m) * (1.0 if not approach.forward else -1.0)
    parts = PrimitiveList("pole")
    top = HIGH_M + heads.style.scale * LIGHT_SIZE_M[2 if heads.style.housing == VERTICAL else 1]
    parts.add(Pattern.PLAIN, (0, 0, 0), (0.22, 0.22, top + 0.25), POLE, kind=Kind.POST)
    arm = (-0.1, direction * arm_length / 2, top + 0.05)
    parts.add(Pattern.PLAIN, arm, (0.14, arm_length, 0.14), POLE)
    population.scenery.append(place_at(parts.finish(), x, y, yaw))
    for lane, offset in approach.lanes:
        px, py, _ = place_facing(approach, approach.far_s_m, offset)
        movement = _movement(population, approach, lane)
        manoeuvres = _manoeuvres(population, approach, lane)
        heads.add((px, py, HIGH_M), yaw, approach.junction, movement, (lane,), manoeuvres)
    if population.rng.random() < 0.5:
        px, py = x + 0.3 * np.cos(yaw), y + 0.3 * np.sin(yaw)
        _add_through(population, approach, heads, (px, py, 3.2), yaw)


def _add_through(
    population: Population,
    approach: Approach,
    heads: _Heads,
    foot_m: tuple[float, float, float],
    yaw_rad: float,
) -> None:
    """Add a light for all lanes that lead straight on, if there are any."""
    lanes = [
        lane
        for lane, _ in approach.lanes
        if _movement(population, approach, lane) not in (ACROSS, NEAR)
    ]
    if not lanes:
        return
    names = {name for lane in lanes for name in _manoeuvres(population, approach, lane)}
    movement = _movement(population, approach, lanes[0])
    manoeuvres = tuple(sorted(names, key=("straight", "left", "right").index))
    heads.add(foot_m, yaw_rad, approach.junction, movement, tuple(lanes), manoeuvres)


def _add_near(population: Population, approach: Approach, heads: _Heads) -> None:
    """Add a light at the stop line, and beside it one for the turn across opposite traffic."""
    x, y, yaw = place_facing(approach, approach.near_s_m, approach.pole_m)
    if not population.reserve(x, y, yaw, (0.3, 0.3)):
        return
    parts = PrimitiveList("pole")
    parts.add(Pattern.PLAIN, (-0.2, 0, 0), (0.14, 0.14, 3.7), POLE, kind=Kind.POST)
    population.scenery.append(place_at(parts.finish(), x, y, yaw))
    _add_through(population, approach, heads, (x, y, LOW_M), yaw)
    lane, offset = approach.lanes[-1]
    movement = _movement(population, approach, lane)
    if movement == ACROSS and heads.style.beside:
        gap = 0.62 if heads.style.housing == VERTICAL else 1.4
        step = np.sign(offset - approach.pole_m) * gap
        px, py, _ = place_facing(approach, approach.near_s_m, approach.pole_m + step)
        manoeuvres = _manoeuvres(population, approach, lane)
        heads.add((px, py, LOW_M), yaw, approach.junction, movement, (lane,), manoeuvres)


def _add_walk_lights(
    population: Population, number: int, crossing: CrossStreet, heads: _Heads
) -> None:
    """Add the lights of a junction's zebra crossings, each at the far end of its crossing."""
    layout = population.layout
    for side in (layout.left, layout.right):
        for end in (-1.0, 1.0):
            s = crossing.centre_s_m + end * (crossing.half_width_m + 0.9)
            _add_walk_light(population, s, side, (number, WALK_CROSS, end), heads)
            s = crossing.centre_s_m + end * (crossing.half_width_m + 2.6)
            _add_walk_light(population, s, side, (number, WALK_MAIN, end), heads)


def _add_walk_light(
    population: Population, s_m: float, side: Side, walk: tuple[int, int, float], heads: _Heads
) -> None:
    """Add a light on a pole, which faces the people who walk towards it."""
    number, movement, end = walk
    beside = 1.6 if movement == WALK_CROSS else 0.6
    x, y, heading = population.layout.centre.at(s_m, side.sign * (side.kerb_m + beside))
    along = np.pi if end > 0 else 0.0
    yaw = float(heading) + (along if movement == WALK_CROSS else -side.sign * np.pi / 2)
    if not population.reserve(float(x), float(y), yaw, (0.2, 0.2)):
        return
    parts = PrimitiveList("pole")
    parts.add(Pattern.PLAIN, (-0.18, 0, 0), (0.11, 0.11, 3.0), POLE, kind=Kind.POST)
    population.scenery.append(place_at(parts.finish(), float(x), float(y), yaw))
    heads.add((float(x), float(y), 2.25), yaw, number, movement, ())
