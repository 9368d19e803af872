"""Configuration of tracking."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check, check_finite_fields
from bevstack.config.limits import check_section


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Association and filtering of the boxes of successive frames (``bevstack.tracking``).

    A camera measures the direction of an object more exactly than its distance, and both errors
    grow with the distance. Therefore the standard deviations of a position are given along the
    line of sight and across it. All defaults are own choices on synthetic validation splits: those
    of the association and of starts by AMOTA (docs/evaluation.md), the remaining ones by NDS on 400
    samples (docs/history/tiny_cpu_t4.md).
    """

    # Standard deviation of the random acceleration between two frames, along each axis.
    acceleration_mps2: float = 0.6
    # Standard deviation of a box's centre in the bird's-eye view, along the line of sight (range)
    # and across it (bearing): sigma_m + sigma_per_m * distance.
    range_sigma_m: float = 0.3
    range_sigma_per_m: float = 0.06  # metres per metre of distance
    bearing_sigma_m: float = 0.3
    bearing_sigma_per_m: float = 0.01  # metres per metre of distance
    # Standard deviation of a box's velocity along each axis: sigma_mps + sigma_per_mps * speed.
    # A detector recognises standing objects reliably. The speed of a moving object follows more
    # exactly from its positions.
    speed_sigma_mps: float = 0.1
    speed_sigma_per_mps: float = 1.5  # m/s per m/s of the box's speed
    first_speed_sigma_mps: float = 6.0  # of the velocity of a track's first box
    # Largest distance between a box and the predicted position of a track of the same class, in the
    # bird's-eye view: reach_m + reach_per_m * (mean distance of both from the vehicle). With 0.5 m
    # and 0.1 m per metre, more tracks break near the vehicle.
    reach_m: float = 2.0
    reach_per_m: float = 0.05  # metres per metre of distance
    # A box nearer than this to a better box of its class, or to one with a track, starts no track.
    # A detector gives several boxes for one object; each would be a false track.
    start_gap_m: float = 1.0
    # Half-lives of a track's exponential averages: after this time, the average so far and the new
    # box have equal weight.
    score_half_life_s: float = 0.5
    yaw_half_life_s: float = 1.0
    size_half_life_s: float = 1.0
    # Factor, 0 to 1, on the score of a box that starts a track after the first frame.
    new_score: float = 0.8
    unseen_half_life_s: float = 3.0  # time in which the score of a track without a box halves
    max_unseen_s: float = 2.0  # a track ends after this time without a box

    def __post_init__(self) -> None:
        check_section("tracking", self)
        check_finite_fields("tracking", self)
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
