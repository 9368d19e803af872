"""Random road layouts: centre line, lanes, strips beside them, cross streets and signals.

Scene frame: x, y in metres on the ground, z up. Along a path, `s` is the arc length and the lateral
offset `d` is positive to the left.

Letters: K vertices of a path, P points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.streets.light_cycle import Signals

STEP_M = 0.5
BEHIND_M, AHEAD_M = 100.0, 120.0  # road before the ego's start and beyond its farthest point
_CROSS_LENGTH_M = 95.0  # of each arm of a cross street
TOP_SPEED_MPS = 15.5  # of the ego; determines the length of the road
_TURN_SHARE = 0.55  # probability that the ego turns, if the layout has a junction
_TURN_SPEED_SHARE = 0.65  # speed of a turning ego relative to the top speed
_TURN_CLEAR_M = 32.0  # between the street that the ego turns into and any other street


@dataclass(frozen=True)
class Path:
    """A polyline with arc length and heading."""

    points_m: NDArray[np.float64]  # (K, 2)
    heading_rad: NDArray[np.float64]  # (K,) unwrapped
    s_m: NDArray[np.float64]  # (K,)

    @property
    def length_m(self) -> float:
        """Return the arc length of the last vertex."""
        return float(self.s_m[-1])

    def at(
        self, s_m: NDArray[np.float64] | float, offset_m: NDArray[np.float64] | float = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return x, y and heading at arc lengths; the path continues straight beyond both ends."""
        s = np.asarray(s_m, dtype=np.float64)
        heading = np.interp(s, self.s_m, self.heading_rad)
        beyond = np.minimum(s, 0.0) + np.maximum(s - self.s_m[-1], 0.0)
        x = np.interp(s, self.s_m, self.points_m[:, 0]) + beyond * np.cos(heading)
        y = np.interp(s, self.s_m, self.points_m[:, 1]) + beyond * np.sin(heading)
        return x - offset_m * np.sin(heading), y + offset_m * np.cos(heading), heading

    def shifted(self, offset_m: float, reverse: bool = False) -> Path:
        """Return the parallel path at an offset, in the opposite direction if `reverse`."""
        x, y, _ = self.at(self.s_m, offset_m)
        points = np.stack([x, y], axis=1)
        return path_through(points[::-1] if reverse else points)

    def nearest_s(self, x_m: float, y_m: float) -> float:
        """Return the arc length of the nearest vertex."""
        return float(self.s_m[np.argmin(np.hypot(*(self.points_m - (x_m, y_m)).T))])


def path_through(points_m: NDArray[np.float64]) -> Path:
    """Return the path through vertices (K, 2)."""
    delta = np.diff(points_m, axis=0)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(delta[:, 0], delta[:, 1]))])
    heading = np.unwrap(np.arctan2(delta[:, 1], delta[:, 0]))
    heading = np.concatenate([heading[:1], (heading[1:] + heading[:-1]) / 2, heading[-1:]])
    return Path(points_m, heading, s)


@dataclass(frozen=True)
class StopLine:
    """Line at which the vehicles of a lane wait while its signal is red."""

    s_m: float
    phase: int  # 0 main road, 1 cross street


@dataclass(frozen=True)
class Lane:
    """A lane with its speed limit and stop lines."""

    path: Path
    speed_limit_mps: float
    stop_lines: tuple[StopLine, ...]
    is_main: bool
    is_forward: bool  # the ego's direction


@dataclass(frozen=True)
class CrossStreet:
    """A street that crosses the centre line."""

    path: Path  # from the right end to the left end
    centre_s_m: float  # arc length of the road's centre line at the crossing
    half_width_m: float
    walk_m: float


@dataclass(frozen=True)
class EgoTurn:
    """Street into which the ego turns, and the distance that it may drive there."""

    crossing: int  # index in `RoadLayout.crossings`
    arm: float  # +1 into the left arm, -1 into the right one
    reach_m: float  # longest distance that the ego may drive there


@dataclass(frozen=True)
class Side:
    """Strips beside the lanes on one side, from the lanes outwards; widths in metres."""

    sign: float  # +1 left of the centre line, -1 right
    lanes_edge_m: float  # distance of the lanes' edge from the centre line
    bike_m: float
    parking_m: float
    walk_m: float

    @property
    def kerb_m(self) -> float:
        """Return the distance of the kerb from the centre line."""
        return self.lanes_edge_m + self.bike_m + self.parking_m

    @property
    def back_m(self) -> float:
        """Return the distance of the sidewalk's far edge from the centre line."""
        return self.kerb_m + self.walk_m


@dataclass(frozen=True, kw_only=True)
class RoadLayout:
    """The streets of one scene."""

    centre: Path
    lane_width_m: float
    median_m: float
    hand: float  # +1: traffic drives on the right, -1: on the left
    left: Side
    right: Side
    lanes: tuple[Lane, ...]
    lane_offsets_m: tuple[float, ...]  # of the main lanes, in the order of `lanes`
    crossings: tuple[CrossStreet, ...]
    signals: Signals
    turn: EgoTurn | None

    def ego_arm(self) -> tuple[CrossStreet, float, float] | None:
        """Return the street into which the ego turns and the range of its arm; None without a turn.

        The range of arc lengths starts beyond the main road's sidewalk.
        """
        if self.turn is None:
            return None
        street = self.crossings[self.turn.crossing]
        middle = street.path.length_m / 2
        if self.turn.arm > 0:
            return street, middle + self.left.back_m, street.path.length_m
        return street, 0.0, middle - self.right.back_m

    def junction_mask(self, s_m: NDArray[np.float64], margin_m: float) -> NDArray[np.bool_]:
        """Return a mask of the arc lengths at which the centre line is inside a junction."""
        mask = np.zeros(np.shape(s_m), bool)
        for crossing in self.crossings:
            mask |= np.abs(s_m - crossing.centre_s_m) < crossing.half_width_m + margin_m
        return mask


def near_junction(
    layout: RoadLayout, x_m: NDArray[np.float64], y_m: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return a mask of the points (P,) inside a junction or on its zebra crossings."""
    near = np.zeros(np.shape(x_m), bool)
    for crossing in layout.crossings:
        x, y, heading = (float(v) for v in layout.centre.at(crossing.centre_s_m))
        along = np.cos(heading) * (x_m - x) + np.sin(heading) * (y_m - y)
        across = np.cos(heading) * (y_m - y) - np.sin(heading) * (x_m - x)
        inside = (across > -layout.right.kerb_m - 7.0) & (across < layout.left.kerb_m + 7.0)
        near |= inside & (np.abs(along) < crossing.half_width_m + 9.0)
    return near


def _centre_line(rng: np.random.Generator, length_m: float) -> tuple[Path, NDArray[np.float64]]:
    """Draw a path of a given length; return it and its curvature (K,) in 1/m."""
    count = int(length_m / STEP_M) + 1
    s = np.arange(count) * STEP_M
    curvature = np.zeros(count)
    style = rng.random()
    if style < 0.40:  # gentle bends
        for _ in range(int(rng.integers(1, 4))):
            middle, half = rng.uniform(0, length_m), rng.uniform(20, 60)
            bend = rng.choice([-1, 1]) / rng.uniform(60, 250)
            curvature += bend * np.clip(1.5 - np.abs(s - middle) / half, 0, 1)
    elif style < 0.76:  # one sharp bend
        radius, angle = rng.uniform(22, 45), np.deg2rad(rng.uniform(45, 95))
        start = rng.uniform(BEHIND_M - 20, length_m - AHEAD_M + 50)
        inside = (s > start) & (s < start + radius * angle)
        curvature[inside] = rng.choice([-1, 1]) / radius
        curvature = np.convolve(curvature, np.full(13, 1 / 13), mode="same")
    heading = np.concatenate([[0.0], np.cumsum((curvature[1:] + curvature[:-1]) / 2 * STEP_M)])
    middle = (heading[1:] + heading[:-1]) / 2
    steps = STEP_M * np.stack([np.cos(middle), np.sin(middle)], axis=1)
    points = np.concatenate([[[0.0, 0.0]], np.cumsum(steps, axis=0)])
    return Path(points, heading, s), curvature


def _place_crossings(
    rng: np.random.Generator, centre: Path, curvature: NDArray[np.float64]
) -> tuple[CrossStreet, ...]:
    """Draw cross streets on straight parts of the centre line, away from each other."""
    crossings: list[CrossStreet] = []
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.25, 0.35, 0.25, 0.15]))):
        s = rng.uniform(25.0, centre.length_m - 45.0)
        near = np.abs(centre.s_m - s) < 45.0
        crowded = any(abs(c.centre_s_m - s) < 55.0 for c in crossings)
        if crowded or np.abs(curvature[near]).max() > 0.006:
            continue
        yaw = float(centre.at(s)[2]) + np.pi / 2 + rng.uniform(-0.2, 0.2)
        path = _street_across(centre, s, yaw, _CROSS_LENGTH_M)
        crossings.append(CrossStreet(path, s, rng.uniform(3.3, 3.9), rng.uniform(1.8, 3.5)))
    return tuple(sorted(crossings, key=lambda c: c.centre_s_m))


def _street_across(centre: Path, s_m: float, yaw_rad: float, arm_m: float) -> Path:
    """Return a straight path across the centre line, with two arms of equal length."""
    x, y, _ = (float(v) for v in centre.at(s_m))
    along = np.arange(-arm_m, arm_m + STEP_M, STEP_M)
    points = np.stack([x + along * np.cos(yaw_rad), y + along * np.sin(yaw_rad)], axis=1)
    return path_through(points)


def _plan_turn(
    rng: np.random.Generator, centre: Path, crossings: tuple[CrossStreet, ...], travel_m: float
) -> tuple[tuple[CrossStreet, ...], EgoTurn | None]:
    """Choose the street into which the ego turns, and extend it.

    Returns:
        The cross streets, one of them extended, and the turn; None if the ego does not turn.
    """
    if not crossings or rng.random() > _TURN_SHARE:
        return crossings, None
    reach = _TURN_SPEED_SHARE * travel_m + 40.0
    arm_m = float(np.ceil(max(_CROSS_LENGTH_M, reach + 0.8 * AHEAD_M)))
    choices = [(n, arm) for n in range(len(crossings)) for arm in (-1.0, 1.0)]
    for choice in rng.permutation(len(choices)):
        number, arm = choices[choice]
        crossing = crossings[number]
        if crossing.centre_s_m < BEHIND_M - 10.0:
            continue  # too close to the beginning of the road
        yaw = float(crossing.path.heading_rad[0])
        extended = replace(crossing, path=_street_across(centre, crossing.centre_s_m, yaw, arm_m))
        s = arm_m + arm * np.arange(30.0, arm_m, 5.0)
        x, y, _ = extended.path.at(s)
        remaining = crossings[:number] + crossings[number + 1 :]
        other_paths = [centre.points_m[np.abs(centre.s_m - crossing.centre_s_m) > 40.0]]
        other_paths += [street.path.points_m for street in remaining]
        points = np.concatenate(other_paths)[::4]
        distances = np.hypot(x[:, None] - points[:, 0], y[:, None] - points[:, 1])
        if distances.min() > _TURN_CLEAR_M:
            streets = (*crossings[:number], extended, *crossings[number + 1 :])
            return streets, EgoTurn(number, arm, reach)
    return crossings, None


def _draw_side(rng: np.random.Generator, sign: float, edge_m: float) -> Side:
    bike = float(rng.choice([0.0, 1.6], p=[0.65, 0.35]))
    parking = float(rng.uniform(2.3, 2.7)) if rng.random() < 0.55 else 0.0
    return Side(sign, edge_m, bike, parking, float(rng.uniform(1.8, 4.8)))


def _main_lanes(
    centre: Path,
    offsets: list[tuple[float, bool]],
    crossings: tuple[CrossStreet, ...],
    limit: float,
) -> list[Lane]:
    """Return the main road's lanes at their offsets, with a stop line before each junction."""
    lanes = []
    for offset, forward in offsets:
        path = centre.shifted(offset, reverse=not forward)
        stops = []
        for crossing in crossings:
            gap = crossing.half_width_m + 5.0
            at = crossing.centre_s_m + (-gap if forward else gap)
            x, y, _ = centre.at(at, offset)
            stops.append(StopLine(path.nearest_s(float(x), float(y)), 0))
        ordered = tuple(sorted(stops, key=lambda stop: stop.s_m))
        lanes.append(Lane(path, limit, ordered, True, forward))
    return lanes


def _cross_lanes(
    crossing: CrossStreet, hand: float, left: Side, right: Side, limit: float
) -> list[Lane]:
    """Return a cross street's lanes, one per direction; forward leads from right to left."""
    lanes = []
    for forward in (True, False):
        offset = -hand * crossing.half_width_m / 2 * (1 if forward else -1)
        path = crossing.path.shifted(offset, reverse=not forward)
        near_side = right if forward else left
        stop = StopLine(crossing.path.length_m / 2 - near_side.kerb_m - 5.0, 1)
        lanes.append(Lane(path, limit, (stop,), False, forward))
    return lanes


def make_layout(rng: np.random.Generator, hand: float, travel_m: float) -> RoadLayout:
    """Draw the streets of a scene.

    Args:
        rng: source of all draws.
        hand: +1 if traffic drives on the right, -1 if it drives on the left.
        travel_m: longest distance that the ego may drive.
    """
    centre, curvature = _centre_line(rng, BEHIND_M + travel_m + AHEAD_M)
    width, median = float(rng.uniform(3.2, 3.7)), 0.0
    forward = int(rng.choice([1, 2, 3], p=[0.4, 0.42, 0.18]))
    backward = int(rng.choice([0, 1, 2, 3], p=[0.15, 0.4, 0.33, 0.12]))
    if backward and rng.random() < 0.3:
        median = float(rng.uniform(1.0, 3.0))
    ego_side = _draw_side(rng, -hand, median / 2 + forward * width)
    opposite_side = _draw_side(rng, hand, median / 2 + backward * width if backward else 0.6)
    left, right = (opposite_side, ego_side) if hand > 0 else (ego_side, opposite_side)
    crossings = _place_crossings(rng, centre, curvature)
    crossings, turn = _plan_turn(rng, centre, crossings, travel_m)
    offsets = [(-hand * (median / 2 + (i + 0.5) * width), True) for i in range(forward)]
    offsets += [(hand * (median / 2 + (i + 0.5) * width), False) for i in range(backward)]
    limit = float(rng.uniform(7.0, 14.0))
    lanes = _main_lanes(centre, offsets, crossings, limit)
    for crossing in crossings:
        lanes += _cross_lanes(crossing, hand, left, right, float(rng.uniform(6.0, 10.0)))
    # pedestrians cross the main road while it has red, at 1.3 m/s
    walk_s = (left.kerb_m + right.kerb_m) / 1.3 - 3.5
    cross_s = max(rng.uniform(6, 11), min(walk_s, 14.0))
    signals = Signals(rng.uniform(0, 40), rng.uniform(9, 16), cross_s)
    if turn is not None:  # green starts early enough for the ego to turn within the scene
        green_s = rng.uniform(-0.6 * signals.main_s, 0.25 * travel_m / TOP_SPEED_MPS)
        signals = replace(signals, offset_s=-green_s % signals.cycle_s)
    return RoadLayout(
        centre=centre,
        lane_width_m=width,
        median_m=median,
        hand=hand,
        left=left,
        right=right,
        lanes=tuple(lanes),
        lane_offsets_m=tuple(offset for offset, _ in offsets),
        crossings=crossings,
        signals=signals,
        turn=turn,
    )
