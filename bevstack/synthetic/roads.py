"""Random road layouts: a centre line with turns, lanes, strips beside it, cross streets, signals.

Scene frame: x, y in metres on the ground, z up. Along a path, `s` runs forward and the offset `d`
is positive to the left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEP_M = 0.5
BEHIND_M, AHEAD_M = 100.0, 120.0  # road before the ego's start and beyond its farthest point
_CROSS_LENGTH_M = 95.0  # of each arm of a cross street


@dataclass(frozen=True)
class Path:
    """A polyline with arc length and heading."""

    points_m: np.ndarray  # (K, 2)
    heading_rad: np.ndarray  # (K,) unwrapped
    s_m: np.ndarray  # (K,)

    @property
    def length_m(self) -> float:
        """Length."""
        return float(self.s_m[-1])

    def at(
        self, s_m: np.ndarray | float, offset_m: np.ndarray | float = 0.0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions x, y and heading at arc lengths; straight on beyond either end."""
        s = np.asarray(s_m, dtype=np.float64)
        heading = np.interp(s, self.s_m, self.heading_rad)
        beyond = np.minimum(s, 0.0) + np.maximum(s - self.s_m[-1], 0.0)
        x = np.interp(s, self.s_m, self.points_m[:, 0]) + beyond * np.cos(heading)
        y = np.interp(s, self.s_m, self.points_m[:, 1]) + beyond * np.sin(heading)
        return x - offset_m * np.sin(heading), y + offset_m * np.cos(heading), heading

    def shifted(self, offset_m: float, reverse: bool = False) -> Path:
        """The parallel path at an offset, driven backwards if `reverse`."""
        x, y, _ = self.at(self.s_m, offset_m)
        points = np.stack([x, y], axis=1)
        return path_through(points[::-1] if reverse else points)

    def nearest_s(self, x_m: float, y_m: float) -> float:
        """Arc length of the nearest vertex."""
        return float(self.s_m[np.argmin(np.hypot(*(self.points_m - (x_m, y_m)).T))])


def path_through(points_m: np.ndarray) -> Path:
    """A path through vertices (K, 2)."""
    delta = np.diff(points_m, axis=0)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(delta[:, 0], delta[:, 1]))])
    heading = np.unwrap(np.arctan2(delta[:, 1], delta[:, 0]))
    heading = np.concatenate([heading[:1], (heading[1:] + heading[:-1]) / 2, heading[-1:]])
    return Path(points_m, heading, s)


@dataclass(frozen=True)
class StopLine:
    """Where a lane waits while its signal is red."""

    s_m: float
    phase: int  # 0 main road, 1 cross street


@dataclass(frozen=True)
class Lane:
    """A lane and what may be driven on it."""

    path: Path
    speed_limit_mps: float
    stop_lines: tuple[StopLine, ...]
    is_main: bool
    is_forward: bool  # the ego's direction


@dataclass(frozen=True)
class CrossStreet:
    """A street that crosses the centre line."""

    path: Path  # from the right end to the left end
    centre_s_m: float  # where it meets the road's centre line
    half_width_m: float
    walk_m: float


@dataclass(frozen=True)
class Side:
    """What lies beside the lanes on one side, from the lanes outwards; widths in metres."""

    sign: float  # +1 left of the centre line, -1 right
    lanes_edge_m: float  # distance of the lanes' edge from the centre line
    bike_m: float
    parking_m: float
    walk_m: float

    @property
    def kerb_m(self) -> float:
        """Distance of the kerb from the centre line."""
        return self.lanes_edge_m + self.bike_m + self.parking_m

    @property
    def back_m(self) -> float:
        """Distance of the walk's far edge from the centre line."""
        return self.kerb_m + self.walk_m


@dataclass(frozen=True)
class Signals:
    """One cycle for all junctions: main green, all wait, cross green, all wait."""

    offset_s: float
    main_s: float
    cross_s: float
    clear_s: float = 3.0
    yellow_s: float = 2.0

    @property
    def cycle_s(self) -> float:
        """Time after which all repeats."""
        return self.main_s + self.cross_s + 2 * self.clear_s

    def is_red(self, phase: int, time_s: float) -> bool:
        """Whether the lanes of a phase must wait."""
        t = (time_s + self.offset_s) % self.cycle_s
        if phase == 0:
            return t >= self.main_s
        start = self.main_s + self.clear_s
        return not start <= t < start + self.cross_s

    def red_window(self, phase: int, time_s: float) -> tuple[float, float]:
        """Begin and end of the time in which a phase is red: the one at a time, or the next."""
        begin = self.main_s if phase == 0 else self.main_s + self.clear_s + self.cross_s
        length = self.cycle_s - (self.main_s if phase == 0 else self.cross_s)
        start = time_s - (time_s + self.offset_s - begin) % self.cycle_s
        if time_s >= start + length:
            start += self.cycle_s
        return start, start + length

    def colour(self, phase: int, time_s: float) -> int:
        """What the lights of a phase show, as OpenLane-V2's attribute: 1 red, 2 green, 3 yellow.

        Yellow are the first seconds of the time in which the lanes must wait.
        """
        if not self.is_red(phase, time_s):
            return 2
        return 1 if self.is_red(phase, time_s - self.yellow_s) else 3


@dataclass(frozen=True, kw_only=True)
class RoadLayout:
    """The streets of one scene."""

    centre: Path
    lane_width_m: float
    median_m: float
    hand: float  # +1: traffic keeps right, -1: left
    left: Side
    right: Side
    lanes: tuple[Lane, ...]
    lane_offsets_m: tuple[float, ...]  # of the main lanes, in the order of `lanes`
    crossings: tuple[CrossStreet, ...]
    signals: Signals

    def junction_mask(self, s_m: np.ndarray, margin_m: float) -> np.ndarray:
        """True where the centre line lies within a junction."""
        mask = np.zeros(np.shape(s_m), bool)
        for crossing in self.crossings:
            mask |= np.abs(s_m - crossing.centre_s_m) < crossing.half_width_m + margin_m
        return mask


def near_junction(layout: RoadLayout, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    """Which points (P,) lie where two carriageways meet, or on the zebras around."""
    near = np.zeros(np.shape(x_m), bool)
    for crossing in layout.crossings:
        x, y, heading = (float(v) for v in layout.centre.at(crossing.centre_s_m))
        along = np.cos(heading) * (x_m - x) + np.sin(heading) * (y_m - y)
        across = np.cos(heading) * (y_m - y) - np.sin(heading) * (x_m - x)
        inside = (across > -layout.right.kerb_m - 7.0) & (across < layout.left.kerb_m + 7.0)
        near |= inside & (np.abs(along) < crossing.half_width_m + 9.0)
    return near


def _centre_line(rng: np.random.Generator, length_m: float) -> tuple[Path, np.ndarray]:
    """A path of the length with its curvature (K,) in 1/m."""
    count = int(length_m / STEP_M) + 1
    s = np.arange(count) * STEP_M
    curvature = np.zeros(count)
    style = rng.random()
    if style < 0.40:  # gentle bends
        for _ in range(int(rng.integers(1, 4))):
            middle, half = rng.uniform(0, length_m), rng.uniform(20, 60)
            bend = rng.choice([-1, 1]) / rng.uniform(60, 250)
            curvature += bend * np.clip(1.5 - np.abs(s - middle) / half, 0, 1)
    elif style < 0.76:  # one turn
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
    rng: np.random.Generator, centre: Path, curvature: np.ndarray
) -> tuple[CrossStreet, ...]:
    crossings: list[CrossStreet] = []
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.25, 0.35, 0.25, 0.15]))):
        s = rng.uniform(25.0, centre.length_m - 45.0)
        near = np.abs(centre.s_m - s) < 45.0
        crowded = any(abs(c.centre_s_m - s) < 55.0 for c in crossings)
        if crowded or np.abs(curvature[near]).max() > 0.006:
            continue
        x, y, heading = (float(v) for v in centre.at(s))
        turn = heading + np.pi / 2 + rng.uniform(-0.2, 0.2)
        along = np.arange(-_CROSS_LENGTH_M, _CROSS_LENGTH_M + STEP_M, STEP_M)
        points = np.stack([x + along * np.cos(turn), y + along * np.sin(turn)], axis=1)
        crossings.append(
            CrossStreet(path_through(points), s, rng.uniform(3.3, 3.9), rng.uniform(1.8, 3.5))
        )
    return tuple(sorted(crossings, key=lambda c: c.centre_s_m))


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
    """One lane each way; the path of the street runs from the main road's right to its left."""
    lanes = []
    for forward in (True, False):
        offset = -hand * crossing.half_width_m / 2 * (1 if forward else -1)
        path = crossing.path.shifted(offset, reverse=not forward)
        near = right if forward else left
        stop = StopLine(_CROSS_LENGTH_M - near.kerb_m - 5.0, 1)
        lanes.append(Lane(path, limit, (stop,), False, forward))
    return lanes


def make_layout(rng: np.random.Generator, hand: float, travel_m: float) -> RoadLayout:
    """Draws the streets of a scene.

    Args:
        rng: source of all draws.
        hand: +1 where traffic keeps right, -1 where it keeps left.
        travel_m: the longest way the ego may drive.
    """
    centre, curvature = _centre_line(rng, BEHIND_M + travel_m + AHEAD_M)
    width, median = float(rng.uniform(3.2, 3.7)), 0.0
    forward = int(rng.choice([1, 2, 3], p=[0.4, 0.42, 0.18]))
    backward = int(rng.choice([0, 1, 2, 3], p=[0.15, 0.4, 0.33, 0.12]))
    if backward and rng.random() < 0.3:
        median = float(rng.uniform(1.0, 3.0))
    with_ego = _draw_side(rng, -hand, median / 2 + forward * width)
    against = _draw_side(rng, hand, median / 2 + backward * width if backward else 0.6)
    left, right = (against, with_ego) if hand > 0 else (with_ego, against)
    crossings = _place_crossings(rng, centre, curvature)
    offsets = [(-hand * (median / 2 + (i + 0.5) * width), True) for i in range(forward)]
    offsets += [(hand * (median / 2 + (i + 0.5) * width), False) for i in range(backward)]
    limit = float(rng.uniform(7.0, 14.0))
    lanes = _main_lanes(centre, offsets, crossings, limit)
    for crossing in crossings:
        lanes += _cross_lanes(crossing, hand, left, right, float(rng.uniform(6.0, 10.0)))
    on_foot_s = (left.kerb_m + right.kerb_m) / 1.3 - 3.5  # who walks crosses while main has red
    cross_s = max(rng.uniform(6, 11), min(on_foot_s, 14.0))
    signals = Signals(rng.uniform(0, 40), rng.uniform(9, 16), cross_s)
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
    )
