"""Configuration of tracking."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from bevstack.config.checks import check


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How boxes of successive frames become tracks (``bevstack.tracking``).

    A camera knows the direction of an object better than its distance, and both the worse the
    farther it is: so deviations are stated along the line of sight and across it. Defaults were
    chosen on 400 samples of the synthetic validation split (weights/README.md, Scores).
    """

    # deviation of the random accelerations between two frames, along each axis
    acceleration_mps2: float = 0.3
    # deviation of a box's centre: this many metres, and so many more a metre of distance
    range_sigma_m: float = 0.3  # along the line of sight, from above
    range_sigma_per_m: float = 0.06
    bearing_sigma_m: float = 0.3  # across it
    bearing_sigma_per_m: float = 0.02
    # deviation of a box's velocity, along each axis: what stands is known to stand, how fast
    # something moves its places say better
    speed_sigma_mps: float = 0.1
    speed_sigma_per_mps: float = 1.5  # a m/s of the speed that the box has
    first_speed_sigma_mps: float = 3.0  # of a track's first box
    # a box belongs to a track of its class at most this far from where the track is expected
    reach_m: float = 0.5
    reach_per_m: float = 0.1  # and so much more a metre of distance
    # after this time what was remembered weighs as much as what is new
    score_half_life_s: float = 0.5
    yaw_half_life_s: float = 1.0
    size_half_life_s: float = 1.0
    new_score: float = 0.6  # what the score of a box is worth that no earlier box speaks for
    unseen_half_life_s: float = 3.0  # in which the score of a track without a box halves
    max_unseen_s: float = 3.0  # a track without a box for longer ends

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            finite = isinstance(value, int | float) and 0 <= value < math.inf
            check(f"tracking.{name}", finite, "be finite and not negative", value)
        for name in (
            "range_sigma_m",
            "bearing_sigma_m",
            "speed_sigma_mps",
            "first_speed_sigma_mps",
            "score_half_life_s",
            "yaw_half_life_s",
            "size_half_life_s",
            "unseen_half_life_s",
        ):
            check(f"tracking.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        check("tracking.new_score", self.new_score <= 1, "be at most 1", self.new_score)
