"""Traffic lights at junctions and traffic signs beside the streets: positions and states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from bevstack.synthetic.population.population import Population
from bevstack.synthetic.population.scenery import place_at
from bevstack.synthetic.renderer.primitives import (
    C_INSTANCE,
    Kind,
    Pattern,
    PrimitiveList,
    Primitives,
    concatenate,
)
from bevstack.synthetic.streets.light_cycle import Signals
from bevstack.synthetic.streets.roads import CrossStreet, Path, Side
from bevstack.vocabulary import ROAD_SIGN, TRAFFIC_LIGHT

LIGHT_SIZE_M = (0.30, 0.36, 1.05)  # depth, width, height of the housing
POLE = (0.26, 0.28, 0.29)
HIGH_M, LOW_M = 5.4, 2.5  # lower edge of lights above the lanes and at the stop line

_Face = TypeVar("_Face")


@dataclass(frozen=True, kw_only=True)
class TrafficControl:
    """A traffic light or a traffic sign."""

    category: int  # of `tables.traffic_elements`
    lane: int  # index in `RoadLayout.lanes` of the lane that it governs
    centre_m: tuple[float, float, float]  # scene frame
    size_m: tuple[float, float, float]  # depth, width, height
    yaw_rad: float  # direction that its face points to
    phase: int = 0  # of a light
    meaning: int = 0  # attribute of a sign

    def attribute(self, signals: Signals, time_s: float) -> int:
        """Return OpenLane-V2's attribute at a time."""
        if self.category == ROAD_SIGN:
            return self.meaning
        return signals.colour(self.phase, time_s)

    def paint_state(self, signals: Signals, time_s: float) -> float:
        """Return the state of the face's paint at a time."""
        return self.attribute(signals, time_s)

    def pattern(self) -> Pattern:
        """Return the paint of the face."""
        return Pattern.TRAFFIC_LIGHT if self.category == TRAFFIC_LIGHT else Pattern.SIGN

    def paint(self, number: int) -> tuple[float, ...]:
        """Return both colours, state and seed of the face's paint.

        Args:
            number: index of the control; selects a sign without an attribute.
        """
        return (0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0, (7 * number % 10) / 10)


@dataclass(frozen=True)
class Approach:
    """Parallel lanes that approach a junction along one path."""

    path: Path
    forward: bool  # True if traffic drives in the path's direction
    near_s_m: float  # arc length of the light at the stop line
    far_s_m: float  # arc length of the lights beyond the junction
    pole_m: float  # offset of the poles
    lanes: tuple[tuple[int, float], ...]  # index and offset, from the kerb inwards
    phase: int
    junction: int = 0  # index in `RoadLayout.crossings`


def roadside(population: Population, forward: bool) -> Side:
    """Return the side of the main road next to the lanes of one direction."""
    layout = population.layout
    on_left = (layout.hand > 0) != forward
    return layout.left if on_left else layout.right


def main_lanes(population: Population, forward: bool) -> tuple[tuple[int, float], ...]:
    """Return index and offset of the main road's lanes in one direction, the outermost first."""
    layout = population.layout
    lanes = [
        (index, offset)
        for index, (lane, offset) in enumerate(
            zip(layout.lanes, layout.lane_offsets_m, strict=False)
        )
        if lane.is_forward == forward
    ]
    return tuple(sorted(lanes, key=lambda item: -abs(item[1])))


def approaches_of(population: Population) -> list[Approach]:
    """Return all approaches of all junctions."""
    layout = population.layout
    approaches = []
    first_cross = len(layout.lane_offsets_m)
    for number, crossing in enumerate(layout.crossings):
        for forward in (True, False):
            sign = 1.0 if forward else -1.0
            lanes = main_lanes(population, forward)
            if lanes:
                side = roadside(population, forward)
                near = crossing.centre_s_m - sign * (crossing.half_width_m + 5.4)
                far = crossing.centre_s_m + sign * (crossing.half_width_m + 5.4)
                pole = side.sign * (side.kerb_m + 0.55)
                approaches.append(
                    Approach(layout.centre, forward, near, far, pole, lanes, 0, number)
                )
            lane = first_cross + 2 * number + (0 if forward else 1)
            approach = _cross_approach(population, crossing, forward, lane)
            approaches.append(replace(approach, junction=number))
    return approaches


def _cross_approach(
    population: Population, crossing: CrossStreet, forward: bool, lane: int
) -> Approach:
    """Return the approach of one direction of a cross street."""
    layout = population.layout
    near, far = (layout.right, layout.left) if forward else (layout.left, layout.right)
    sign, middle = (1.0 if forward else -1.0), crossing.path.length_m / 2
    offset = -layout.hand * sign * crossing.half_width_m / 2
    return Approach(
        crossing.path,
        forward,
        middle - sign * (near.kerb_m + 5.4),
        middle + sign * (far.kerb_m + 5.4),
        2 * offset + np.sign(offset) * 0.55,
        ((lane, offset),),
        1,
    )


def add_traffic_control(population: Population) -> list[TrafficControl]:
    """Add lights at every approach of every junction and signs along the main road."""
    controls: list[TrafficControl] = []
    for approach in approaches_of(population):
        controls += _add_lights(population, approach)
    for forward in (True, False):
        if main_lanes(population, forward):
            controls += _add_signs(population, forward)
    return controls


def place_facing(approach: Approach, s_m: float, offset_m: float) -> tuple[float, float, float]:
    """Return position and yaw of a light or sign that faces the approaching traffic."""
    x, y, heading = (float(v) for v in approach.path.at(s_m, offset_m))
    return x, y, heading + (np.pi if approach.forward else 0.0)


def _add_lights(population: Population, approach: Approach) -> list[TrafficControl]:
    """Add one light above each lane beyond the junction and one on a pole at the stop line."""
    lights = []
    x, y, yaw = place_facing(approach, approach.far_s_m, approach.pole_m)
    if population.reserve(x, y, yaw, (0.3, 0.3)):
        inner = approach.lanes[-1][1]
        arm_length = abs(approach.pole_m - inner) + 0.3
        direction = np.sign(inner - approach.pole_m) * (1.0 if not approach.forward else -1.0)
        parts = PrimitiveList("pole")
        top = HIGH_M + LIGHT_SIZE_M[2]
        parts.add(Pattern.PLAIN, (0, 0, 0), (0.22, 0.22, top + 0.25), POLE, kind=Kind.POST)
        arm = (-0.1, direction * arm_length / 2, top + 0.05)
        parts.add(Pattern.PLAIN, arm, (0.14, arm_length, 0.14), POLE)
        population.scenery.append(place_at(parts.finish(), x, y, yaw))
        for lane, offset in approach.lanes:
            px, py, _ = place_facing(approach, approach.far_s_m, offset)
            lights.append(_light(lane, (px, py, HIGH_M), yaw, approach.phase))
    x, y, yaw = place_facing(approach, approach.near_s_m, approach.pole_m)
    if population.reserve(x, y, yaw, (0.3, 0.3)):
        parts = PrimitiveList("pole")
        parts.add(Pattern.PLAIN, (-0.2, 0, 0), (0.14, 0.14, 3.6), POLE, kind=Kind.POST)
        population.scenery.append(place_at(parts.finish(), x, y, yaw))
        lights.append(_light(approach.lanes[0][0], (x, y, LOW_M), yaw, approach.phase))
    return lights


def _light(
    lane: int, foot_m: tuple[float, float, float], yaw_rad: float, phase: int
) -> TrafficControl:
    centre = (foot_m[0], foot_m[1], foot_m[2] + LIGHT_SIZE_M[2] / 2)
    return TrafficControl(
        category=TRAFFIC_LIGHT,
        lane=lane,
        centre_m=centre,
        size_m=LIGHT_SIZE_M,
        yaw_rad=yaw_rad,
        phase=phase,
    )


@dataclass(frozen=True, kw_only=True)
class SignSpacing:
    """Height and distances of the signs along a street, in metres; low and high ends of draws."""

    low_m: float  # lower edge of a sign
    first_m: tuple[float, float]  # from the start of the street to the first sign
    gap_m: tuple[float, float]  # from sign to sign


class SignPlate(NamedTuple):
    """Place of a sign."""

    lane: int  # that it governs
    centre_m: tuple[float, float, float]  # scene frame
    size_m: tuple[float, float, float]  # depth, width, height
    yaw_rad: float


def place_signs(
    population: Population,
    forward: bool,
    spacing: SignSpacing,
    draw: Callable[[np.random.Generator], tuple[_Face, float]],
) -> Iterator[tuple[_Face, SignPlate]]:
    """Add poles at the kerb of the outermost lane of one direction, and yield their signs.

    Args:
        population: of the scene; the poles join its scenery.
        forward: True for the lanes in the direction of the main road.
        spacing: of the signs.
        draw: draws the face of a sign and its width in metres.

    Yields:
        Face and place of each sign for which there is room.
    """
    layout, rng = population.layout, population.rng
    side, lane = roadside(population, forward), main_lanes(population, forward)[0][0]
    s = float(rng.uniform(*spacing.first_m))
    while s < layout.centre.length_m - 10.0:
        approach = Approach(layout.centre, forward, s, s, 0.0, (), 0)
        x, y, yaw = place_facing(approach, s, side.sign * (side.kerb_m + 0.5))
        face, width = draw(rng)
        yaw += float(rng.normal(0, 0.06))
        free = not layout.junction_mask(np.array(s), 7.0)
        if free and population.reserve(x, y, yaw, (0.3, 0.3)):
            parts = PrimitiveList("pole")
            top = spacing.low_m + width
            parts.add(Pattern.PLAIN, (-0.06, 0, 0), (0.08, 0.08, top), POLE, kind=Kind.POST)
            population.scenery.append(place_at(parts.finish(), x, y, yaw))
            centre = (x, y, spacing.low_m + width / 2)
            yield face, SignPlate(lane, centre, (0.04, width, width), yaw)
        s += float(rng.uniform(*spacing.gap_m))


_SIGN_SPACING = SignSpacing(low_m=2.0, first_m=(10.0, 60.0), gap_m=(25.0, 90.0))


def _draw_sign(rng: np.random.Generator) -> tuple[int, float]:
    meaning = int(rng.choice([0, 4, 5, 6, 7, 8, 9, 10, 11, 12], p=[0.28] + [0.08] * 9))
    return meaning, float(rng.uniform(0.7, 0.95))


def _add_signs(population: Population, forward: bool) -> list[TrafficControl]:
    """Add signs on poles at the kerb, for the outermost lane of one direction."""
    return [
        TrafficControl(
            category=ROAD_SIGN,
            lane=plate.lane,
            centre_m=plate.centre_m,
            size_m=plate.size_m,
            yaw_rad=plate.yaw_rad,
            meaning=meaning,
        )
        for meaning, plate in place_signs(population, forward, _SIGN_SPACING, _draw_sign)
    ]


def control_parts(controls: Sequence[TrafficControl], first_instance: int) -> Primitives:
    """Return one primitive per control in the scene frame; instances start at `first_instance`."""
    parts = []
    for number, control in enumerate(controls):
        plate = PrimitiveList()
        x, y, z = control.centre_m
        plate.add(
            control.pattern(), (0, 0, z - control.size_m[2] / 2), control.size_m, (0.1, 0.1, 0.1)
        )
        placed = place_at(plate.finish(), x, y, control.yaw_rad)
        placed.codes[:, C_INSTANCE] = first_instance + number
        placed.paint[:] = control.paint(number)
        parts.append(placed)
    return concatenate(parts)
