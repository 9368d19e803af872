"""Parameters of cues: states of lights over time, relevance to the vehicle, advice."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from bevstack.config.checks import check
from bevstack.config.element_tracking import ElementTrackingConfig


def _check_numbers(section: str, config: object, signed: tuple[str, ...] = ()) -> None:
    for name in (item.name for item in fields(config)):  # type: ignore[arg-type]
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        check(f"{section}.{name}", math.isfinite(value), "be finite", value)
        if name not in signed:
            check(f"{section}.{name}", value >= 0, "not be negative", value)


@dataclass(frozen=True, kw_only=True)
class LightConfig:
    """Hidden Markov filter of a light's state (``bevstack.planning.lights``).

    Rates are per second: the inverse of a mean duration. They are own choices from common signal
    plans: cycles of 60-120 s, yellow of 3-6 s (3 s at 50 km/h in Germany, 3-6 s in the USA).
    """

    green_to_yellow: float = 1 / 25
    green_to_red: float = 1 / 400  # the yellow was not seen, or the signal has none
    green_to_flashing: float = 1 / 400  # end of green in Austria or Mexico
    yellow_to_red: float = 1 / 3.5  # yellow lasts 2-6 s
    yellow_to_green: float = 1 / 500  # not in any signal plan: an error of an earlier state
    red_to_green: float = 1 / 30
    # Red and yellow together announce green in Germany, the United Kingdom, Poland and elsewhere,
    # not in the USA. 0 excludes it; the default expects it at every tenth green.
    red_to_red_yellow: float = 1 / 300
    red_yellow_to_green: float = 1 / 1.5  # 1-2 s by law
    red_to_yellow: float = 1 / 5000  # no signal plan shows yellow after red
    flashing_green_to_yellow: float = 1 / 4
    to_off: float = 1 / 3600  # a signal is switched off once an hour, at night or by a fault
    off_to_any: float = 1 / 300  # to each of the steady colours
    to_flashing: float = 1 / 1200  # of the same colour; of off: to flashing yellow
    flashing_to_steady: float = 1 / 120
    # Two speeds of flashing stand for all: 1-2 Hz by most standards, halves of equal length.
    flash_slow_hz: float = 1.1
    flash_fast_hz: float = 1.7
    shape_change: float = 1 / 600  # one lamp of a housing follows another shape
    # Shares of time before the first look: off, red, yellow, green, red and yellow; then those of
    # flashing red, yellow and green, which an operator or a fault switches on.
    steady_prior: tuple[float, ...] = (0.04, 0.40, 0.06, 0.36, 0.02)
    flashing_prior: tuple[float, ...] = (0.04, 0.04, 0.04)
    # Probability that an image shows a lit lamp as off: half-waves of LED lamps, shutter beats.
    dark_probability: float = 0.03
    # A head finds no box for a dark housing this many times as often as for a lit lamp.
    dark_missed_ratio: float = 3.0
    # Probability that a frame's scores carry no information although they look certain.
    confusion: float = 0.02
    # Share of a frame's evidence that is new: blur, rain and glare persist over frames.
    independence: float = 0.9
    # Class shares in the head's training, which its probabilities contain: (off, red, yellow,
    # green, red_yellow), as balanced sampling leaves them.
    head_color_prior: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2, 0.2)
    # Edge to planning.
    report_probability: float = 0.6  # of a state that is named; below it: unknown
    green_probability: float = 0.9  # of green, before it is named
    strong_frame: float = 0.7  # probability in one frame of red or yellow that ends green
    green_looks: int = 2  # consistent frames before green is named
    green_span_s: float = 0.2  # or this span of consistent frames, if images come fast
    stale_after_s: float = 1.0  # without a look, the state is unknown
    # Images that come at this rate or faster, over this span, show flashing: three images at the
    # lowest rate. The evidence itself then decides.
    flashing_span_s: float = 0.25
    flashing_min_hz: float = 8.0
    flashing_gap_s: float = 0.6  # a longer pause starts the span again
    # Images may come 12 % later than their rate demands.
    flashing_jitter: float = 0.12

    def __post_init__(self) -> None:
        _check_numbers("lights", self)
        for name, count in (("head_color_prior", 5), ("steady_prior", 5), ("flashing_prior", 3)):
            shares = getattr(self, name)
            positive = len(shares) == count and all(0 < share < math.inf for share in shares)
            check(f"lights.{name}", positive, f"hold {count} positive shares", shares)
        for name in ("dark_probability", "confusion"):
            value = getattr(self, name)
            check(f"lights.{name}", 0 < value < 0.5, "be between 0 and 0.5", value)
        ratio = self.dark_missed_ratio
        check("lights.dark_missed_ratio", ratio >= 1, "be at least 1", ratio)
        check("lights.green_looks", self.green_looks >= 2, "be at least 2", self.green_looks)


@dataclass(frozen=True, kw_only=True)
class EvidenceWeights:
    """Factors of pieces of evidence for elements whose relevance the head predicts, too.

    The head has seen place, heading and arrow in the same image, so the pieces repeat part of its
    evidence. ``tools/fit_relevance.py`` fitted these on the validation drives of `lights_drives`
    with the packaged weights; 1 is no change. Lamps for people are excluded with the factor 1.
    """

    heading: float = 0.0
    lateral: float = 0.0
    motion: float = 1.0  # not fitted: it rejects tail lamps
    arrow: float = 0.0
    nearest: float = 1.0  # not fitted: it rejects lights that were passed
    agreement: float = 0.0
    learned: float = 1.38
    offset: float = -1.48  # log-odds beside the prior

    def __post_init__(self) -> None:
        _check_numbers("relevance.with_head", self, ("offset",))


@dataclass(frozen=True, kw_only=True)
class RelevanceConfig:
    """Evidence that an element governs the vehicle (``bevstack.planning.relevance``).

    Each piece gives log-odds and can be switched off. Log-odds are limited, so that heading, place,
    motion or the head alone never decide.
    """

    use_heading: bool = True  # the face looks at the vehicle
    use_lateral: bool = True  # offset from the predicted path
    use_motion: bool = True  # height, and a place that does not move with traffic
    use_arrow: bool = True  # shape of the lamp against the manoeuvre
    use_nearest: bool = True  # the nearest junction first, nothing that was passed
    use_agreement: bool = True  # lights of one junction that show one state
    use_learned: bool = True  # the head's own log-odds
    use_map: bool = True  # a map that names the lanes of a light

    # Before any evidence: about one in four of the elements in view governs the own lane.
    prior_log_odds: float = -1.0
    heading_sigma_rad: float = 0.26  # aim of a light along its lane
    facing_rad: float = 0.61  # 35 degrees: lights of one group face alike
    lane_width_m: float = 3.5
    right_hand_traffic: bool = True  # poles stand at this side of the road
    over_lane_sigma_m: float = 0.7
    pole_offset_m: float = 3.5  # of a pole beside the outermost lane from that lane's centre
    pole_sigma_m: float = 1.2
    pole_share: float = 0.25  # of the lights, on poles at the near side
    far_share: float = 0.1  # of the lights, anywhere across the road
    path_sigma_m: float = 0.5  # the vehicle's own offset in its lane
    path_sigma_per_m: float = 0.02  # and its growth with the distance: heading and curvature
    curvature_limit_per_m: float = 0.1  # turning circle of 10 m
    curvature_reach_m: float = 25.0  # the path is straight beyond it
    min_height_m: float = 2.0  # of a light above the road; tail lamps and signs on cars are lower
    height_sigma_m: float = 0.3
    # These exclude an element although its place is right, so they exceed the sum of heading,
    # place, height and agreement, which is about 6 for a light above the own lane.
    arrow_log_odds: float = -8.0  # of an arrow against the manoeuvre, or a lamp for people
    superseded_log_odds: float = -8.0  # of a full lamp beside an arrow for the manoeuvre
    further_log_odds: float = -8.0  # of a light behind the next junction
    passed_log_odds: float = -12.0
    junction_gap_m: float = 30.0  # along the path, between lights of two junctions
    agreement_log_odds: float = 2.0
    learned_limit: float = 6.0
    with_head: EvidenceWeights = field(default_factory=EvidenceWeights)  # if the head predicts it
    map_log_odds: float = 8.0
    map_sigma_m: float = 1.0  # error of a light's place in the map
    map_gate: float = 16.27  # 0.999 quantile of chi-square with three degrees of freedom
    map_lane_reach_m: float = 3.0  # largest distance of the vehicle from its lane's centre line
    limit: float = 3.5  # of heading, lateral position and motion

    def __post_init__(self) -> None:
        signed = tuple(
            f"{name}_log_odds" for name in ("prior", "arrow", "superseded", "further", "passed")
        )
        _check_numbers("relevance", self, signed)


@dataclass(frozen=True, kw_only=True)
class CueConfig:
    """From detected elements to cues (``bevstack.planning``)."""

    tracking: ElementTrackingConfig = field(default_factory=ElementTrackingConfig)
    lights: LightConfig = field(default_factory=LightConfig)
    relevance: RelevanceConfig = field(default_factory=RelevanceConfig)
    relevant: float = 0.5  # probability from which a light counts as governing
    relevant_go: float = 0.8  # probability of relevance that green needs
    # Existence below which an element gives no cue. One box of score 0.4 reaches it.
    min_confidence: float = 0.4
    front_half_angle_rad: float = (
        0.52  # a camera within 30 degrees of straight ahead is a front one
    )
    # A light outside all images for longer may be left out for one inside that speaks for it: its
    # state has been unknown for 4 s, and a bend that hides it for a moment is over.
    outside_after_s: float = 5.0
    # A light speaks for another one if both were seen in one state for this time, and in two for
    # no longer than names take to follow two or three changes of one signal.
    alike_after_s: float = 1.0
    differ_at_most_s: float = 1.0
    max_gap_s: float = 3.0  # a longer pause starts again: a signal changes in it
    max_speed_mps: float = 70.0  # a faster pose has jumped
    sign_memory_m: float = 500.0  # way for which a passed sign stays valid without a junction

    def __post_init__(self) -> None:
        _check_numbers("cues", self)
