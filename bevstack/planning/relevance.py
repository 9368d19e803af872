"""Probability that a traffic light or sign governs the vehicle, for every manoeuvre.

Pieces of evidence are log-odds that are summed, as if they were independent given the answer. Each
can be switched off in ``RelevanceConfig``. Letters: E elements, M manoeuvres, S lamp shapes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from bevstack.config.cues import EvidenceWeights, RelevanceConfig
from bevstack.planning.lights import UNKNOWN_STATE
from bevstack.vocabulary import LAMP_SHAPES, MANOEUVRES

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Manoeuvres that an arrow governs; a left arrow governs a turn back too where none has its own.
_ARROWS = {
    "straight": ("straight",),
    "left": ("left", "u_turn"),
    "right": ("right",),
    "slight_left": ("left", "straight"),
    "slight_right": ("right", "straight"),
    "u_turn": ("u_turn",),
}
_NOT_FOR_CARS = ("pedestrian", "bicycle", "tram")
_FACES_RAD = 2.4  # range of headings that a camera sees as a face
_CANDIDATE = -2.0  # log-odds of heading and motion below which a light marks no junction
_MARGIN = 0.7  # log-odds by which a light of a group must be worse to be of another lane
_ARROW_SURE = 0.6  # probability of an arrow that supersedes full lamps


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Elements around the vehicle, in the ego frame, and the path that it takes."""

    is_light: Flags  # (E,) False: a sign
    position_m: Floats  # (E, 3)
    covariance_m2: Floats  # (E, 3, 3)
    yaw_rad: Floats  # (E,) direction that the face points to
    yaw_variance: Floats  # (E,)
    moving_log_odds: Floats  # (E,)
    shape: Floats  # (E, S) probabilities of the lit lamp's shape
    pedestrian: Floats  # (E,) probability that it is for pedestrians
    state: Integers  # (E,) row of lights.STATE_NAMES
    learned: Floats  # (E, M) log-odds of the head; 0: no evidence
    map_governs: Floats  # (E, M) 1: a map names the vehicle's lane, -1: other lanes, 0: unknown
    curvature_per_m: float  # of the vehicle's path, positive to the left

    def __len__(self) -> int:
        """Return E."""
        return len(self.is_light)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Log-odds of each piece of evidence, (E, M); a piece that is switched off is 0."""

    heading: Floats
    lateral: Floats
    motion: Floats
    arrow: Floats
    nearest: Floats
    agreement: Floats
    learned: Floats
    map: Floats

    def log_odds(self, config: RelevanceConfig) -> Floats:  # (E, M)
        """Return the sum with the prior."""
        total = self.heading + self.lateral + self.motion + self.arrow
        total = total + self.nearest + self.agreement + self.learned + self.map
        return np.asarray(config.prior_log_odds + total)

    def probabilities(self, config: RelevanceConfig) -> Floats:  # (E, M)
        """Return the probability that each element governs each manoeuvre."""
        return np.asarray(1 / (1 + np.exp(-np.clip(self.log_odds(config), -50, 50))))


def weigh_evidence(around: Surroundings, config: RelevanceConfig) -> Evidence:
    """Weigh all pieces of evidence that are switched on."""
    nothing = np.zeros((len(around), len(MANOEUVRES)))

    def piece(used: bool, values: Floats) -> Floats:
        if not used:
            return nothing
        full = values if values.ndim == 2 else values[:, None]
        return nothing + np.nan_to_num(full, nan=0.0)

    heading, motion = heading_log_odds(around, config), motion_log_odds(around, config)
    lateral, arrow = lateral_log_odds(around, config), arrow_log_odds(around, config)
    # Junctions are marked by lights that face the vehicle and stand still.
    marks = around.is_light & (path_distance_m(around) > 0)
    if config.use_heading:
        marks &= heading > _CANDIDATE
    if config.use_motion:
        marks &= motion > _CANDIDATE
    junction = junctions(around, marks, config)
    people = piece(config.use_arrow, people_log_odds(around, config))
    if config.use_arrow:
        arrow = arrow + superseded_log_odds(around, junction, lateral, config)
    known = around.map_governs != 0 if config.use_map else np.zeros_like(nothing, bool)
    agreement = agreement_log_odds(
        around,
        junction,
        piece(config.use_lateral, lateral) + piece(config.use_arrow, arrow) + people,
        config,
    )
    learned = np.clip(around.learned, -config.learned_limit, config.learned_limit)
    evidence = Evidence(
        heading=piece(config.use_heading, heading),
        # A map that knows the lanes of a light overrides its place and the agreement.
        lateral=np.where(known, 0.0, piece(config.use_lateral, lateral)),
        motion=piece(config.use_motion, motion),
        arrow=piece(config.use_arrow, arrow),
        nearest=piece(config.use_nearest, nearest_log_odds(around, junction, config)),
        agreement=np.where(known, 0.0, piece(config.use_agreement, agreement)),
        learned=piece(config.use_learned, learned),
        map=piece(config.use_map, config.map_log_odds * around.map_governs),
    )
    evidence = _beside_head(evidence, config.with_head)
    return replace(evidence, arrow=evidence.arrow + people)


def _beside_head(evidence: Evidence, weights: EvidenceWeights) -> Evidence:
    """Weigh the pieces of elements whose relevance the head predicts."""
    predicted = (np.nan_to_num(evidence.learned) != 0).any(1, keepdims=True)  # (E, 1)
    factors = asdict(weights)
    offset = np.where(predicted, factors.pop("offset"), 0.0)
    pieces = {
        name: np.where(predicted, factor, 1.0) * getattr(evidence, name)
        for name, factor in factors.items()
    }
    # A map decides against all of them.
    known = evidence.map != 0
    pieces["learned"] = np.where(known, evidence.learned, pieces["learned"] + offset)
    return replace(evidence, **pieces)


def path_distance_m(around: Surroundings) -> Floats:  # (E,)
    """Return the distance along the predicted path to the point beside each element."""
    return around.position_m[:, 0]


def path_offset_m(around: Surroundings, config: RelevanceConfig) -> Floats:  # (E,)
    """Return the offset of each element from the predicted path, positive to the left.

    The path is an arc that continues straight after ``curvature_reach_m``.
    """
    ahead, reach = np.maximum(around.position_m[:, 0], 0), config.curvature_reach_m
    curvature = _curvature(around, config)
    bent = np.minimum(ahead, reach)
    path = curvature * bent**2 / 2 + curvature * reach * np.maximum(ahead - reach, 0)
    return np.asarray(around.position_m[:, 1] - path)


def heading_log_odds(around: Surroundings, config: RelevanceConfig) -> Floats:  # (E,)
    """Return evidence 1: the face looks against the path; faces of other roads look anywhere."""
    ahead = np.clip(around.position_m[:, 0], 0, config.curvature_reach_m)
    turned = around.yaw_rad - np.pi - _curvature(around, config) * ahead
    difference = (turned + np.pi) % (2 * np.pi) - np.pi
    variance = config.heading_sigma_rad**2 + around.yaw_variance
    density = np.exp(-(difference**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    # A heading that is not known has a density as flat as that of the alternative.
    flat = np.where(variance > 1.0, density, 1 / _FACES_RAD)
    return _limited(np.log(np.maximum(density, 1e-30) / np.maximum(flat, 1e-30)), config)


def lateral_log_odds(around: Surroundings, config: RelevanceConfig) -> Floats:  # (E,)
    """Return evidence 2: place across the path of lights for the own and for other lanes."""
    offset = path_offset_m(around, config)
    distance = np.maximum(around.position_m[:, 0], 0)
    path = config.path_sigma_m + config.path_sigma_per_m * distance
    variance = np.maximum(around.covariance_m2[:, 1, 1], 0) + path**2

    def density(center_m: float, sigma_m: float) -> Floats:
        total = variance + sigma_m**2
        exponent = -((offset - center_m) ** 2) / (2 * total)
        return np.asarray(np.exp(exponent) / np.sqrt(2 * np.pi * total))

    pole = config.pole_offset_m * (-1 if config.right_hand_traffic else 1)
    width, over = config.lane_width_m, 1 - config.pole_share - config.far_share
    # Signs stand beside the road; few hang above it.
    over_share = np.where(around.is_light, over, 0.2)
    pole_share = np.where(around.is_light, config.pole_share, 0.7)
    own = over_share * density(0, config.over_lane_sigma_m)
    own = own + pole_share * density(pole, config.pole_sigma_m) + 0.1 * density(0, 2 * width)
    lanes = [density(k * width, config.over_lane_sigma_m) for k in (-2, -1, 1, 2)]
    foreign = 0.7 * sum(lanes, np.zeros(len(around))) / 4 + 0.3 * density(0, 3 * width)
    return _limited(np.log(np.maximum(own, 1e-30) / np.maximum(foreign, 1e-30)), config)


def motion_log_odds(around: Surroundings, config: RelevanceConfig) -> Floats:  # (E,)
    """Return evidence 3: high above the road and fixed to the world; tail lamps are neither.

    A lamp that keeps its distance while the vehicle drives moves with traffic.
    """
    sigma = np.sqrt(np.maximum(around.covariance_m2[:, 2, 2], 0) + config.height_sigma_m**2)
    least = np.where(around.is_light, config.min_height_m, config.min_height_m / 2)
    high = 0.5 * (1 + erf((around.position_m[:, 2] - least) / (math.sqrt(2) * sigma)))
    # 99 % of lights hang higher; 30 % of what looks like one.
    height = np.log((0.99 * high + 0.01 * (1 - high)) / (0.3 * high + 0.7 * (1 - high)))
    moving = -np.maximum(around.moving_log_odds, 0)
    return np.asarray(np.clip(height + moving, -2 * config.limit, config.limit))


def arrow_log_odds(around: Surroundings, config: RelevanceConfig) -> Floats:  # (E, M)
    """Return evidence 4: arrows govern their manoeuvres alone; full lamps govern all.

    It is the mean over the possible shapes.
    """
    table = np.zeros((len(LAMP_SHAPES), len(MANOEUVRES)))
    for row, shape in enumerate(LAMP_SHAPES):
        for column, manoeuvre in enumerate(MANOEUVRES):
            if shape in _ARROWS:
                governs = manoeuvre in _ARROWS[shape]
                table[row, column] = 1.0 if governs else config.arrow_log_odds
    mean = _shares(around.shape) @ table
    return np.asarray(np.where(around.is_light[:, None], mean, 0.0))


def people_log_odds(around: Surroundings, config: RelevanceConfig) -> Floats:  # (E,)
    """Return the part of evidence 4 that lamps for people, bicycles and trams lose."""
    rows = [LAMP_SHAPES.index(name) for name in _NOT_FOR_CARS]
    share = _shares(around.shape)[:, rows].sum(1)
    share = share + np.clip(np.nan_to_num(around.pedestrian), 0, 1)
    return np.where(around.is_light, share * config.arrow_log_odds, 0.0)


def superseded_log_odds(
    around: Surroundings,
    junction: Integers,  # (E,)
    lateral: Floats,  # (E,)
    config: RelevanceConfig,
) -> Floats:  # (E, M)
    """Return the part of evidence 4 that full lamps lose to an arrow at their junction."""
    shares = _shares(around.shape)
    loss = np.zeros((len(around), len(MANOEUVRES)))
    full = shares[:, LAMP_SHAPES.index("circle")] >= _ARROW_SURE
    for column, manoeuvre in enumerate(MANOEUVRES):
        own = [row for row, name in enumerate(LAMP_SHAPES) if name == manoeuvre]
        arrows = (shares[:, own].sum(1) >= _ARROW_SURE) & around.is_light & (lateral > -1)
        for place in np.unique(junction[arrows & (junction >= 0)]):
            loss[full & (junction == place), column] = config.superseded_log_odds
    return loss


def junctions(
    around: Surroundings,
    marks: Flags,  # (E,) lights that mark a junction
    config: RelevanceConfig,
) -> Integers:  # (E,) 0 for the nearest junction ahead, then 1, ...; -1: none
    """Number the junctions ahead by gaps between the lights along the path."""
    distance = path_distance_m(around)
    number = np.full(len(around), -1, np.int64)
    order = [row for row in np.argsort(distance, kind="stable") if marks[row]]
    for previous, row in zip([-1, *order], order, strict=False):
        gap = distance[row] - distance[previous] if previous >= 0 else 0.0
        base = number[previous] if previous >= 0 else 0
        number[row] = base + int(gap > config.junction_gap_m)
    return number


def nearest_log_odds(
    around: Surroundings,
    junction: Integers,  # (E,)
    config: RelevanceConfig,
) -> Floats:  # (E,)
    """Return evidence 5: lights of a further junction count less, passed elements not at all."""
    further = np.where((junction > 0) & around.is_light, config.further_log_odds, 0.0)
    return np.where(path_distance_m(around) <= 0, config.passed_log_odds, further)


def agreement_log_odds(
    around: Surroundings,
    junction: Integers,  # (E,)
    own: Floats,  # (E, M) evidence of place and arrow
    config: RelevanceConfig,
) -> Floats:  # (E, M)
    """Return evidence 6: lights of a junction that face alike, of one shape, in one state.

    If they agree, each may be taken for the vehicle's. If not, they are for several lanes, and
    those with the weaker evidence of place and arrow lose.
    """
    result = np.zeros((len(around), len(MANOEUVRES)))
    shape = _shares(around.shape).argmax(1)
    for row in np.flatnonzero(junction >= 0):
        turned = np.abs((around.yaw_rad - around.yaw_rad[row] + np.pi) % (2 * np.pi) - np.pi)
        group = (junction == junction[row]) & (shape == shape[row]) & (turned <= config.facing_rad)
        known = np.unique(around.state[group & (around.state != UNKNOWN_STATE)])
        if len(known) <= 1:
            result[row] = config.agreement_log_odds
        else:
            worse = own[row] < own[group].max(0) - _MARGIN
            result[row] = np.where(worse, -config.agreement_log_odds, 0.0)
    return result


def _curvature(around: Surroundings, config: RelevanceConfig) -> float:
    limit = config.curvature_limit_per_m
    return float(np.clip(np.nan_to_num(around.curvature_per_m), -limit, limit))


def _limited(log_odds: Floats, config: RelevanceConfig) -> Floats:
    return np.clip(log_odds, -config.limit, config.limit)


def _shares(probabilities: Floats) -> Floats:
    rows = np.maximum(np.nan_to_num(probabilities), 0)
    total = rows.sum(1, keepdims=True)
    return np.where(total > 0, rows / np.where(total > 0, total, 1), 1 / rows.shape[1])
