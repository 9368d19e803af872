"""Thresholds of camera health (``bevstack.runtime.health``)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from bevstack.config.checks import check
from bevstack.config.limits import check_section


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """Thresholds that turn times and pictures into the state of a camera.

    Pictures are judged in grey, reduced to ``width_px``: damage that vanishes at that size does not
    matter to a detector either. Levels are those of 8-bit grey, 0 to 255. False alarms and
    detection rates are not measured yet (docs/health.md).
    """

    # A picture older than this is late, and its own pose compensates the motion. nuScenes' cameras
    # are read within 45 ms of each other; 150 ms are one and a half pictures of a rig of 10 Hz.
    max_camera_age_ms: float = 150.0
    width_px: int = 256  # of the reduced pictures; narrower ones keep their size

    # Mask noisy, blurred, swapped and turned cameras, too. They are named in any case; how often
    # these states are wrong on clean drives is not measured yet.
    mask_slow_states: bool = False

    # Brightness of one picture.
    # Black if 99 % of the pixels lie below: 65 at night in the synthetic world, 4 to 7 under a cap.
    black_level: float = 20.0
    # Over-exposed if more of the pixels are saturated: at most 0.05 in real and synthetic pictures.
    saturated_share: float = 0.4

    # Frozen content: a mean difference that no two pictures of a working sensor have, since noise
    # alone changes them, while the vehicle drives this far.
    same_level: float = 0.3
    frozen_motion_m: float = 0.5

    # Clarity, which must be bad over this time and in this number of pictures.
    lasting_s: float = 1.0
    lasting_pictures: int = 3
    noise_level: float = 8.0  # standard deviation: 4.7 at most in the synthetic world, at night
    # Edges of the finest band (standard deviation below 1 px) divided by those of the next band:
    # 0.78 at least in the synthetic world, 1.1 in nuScenes; 0.5 at most after a blur of 2 px.
    min_sharpness: float = 0.62
    min_detail: float = 3.0  # level of the finest edges: 8 at least; a covered lens has none

    # Covered: share of the cells whose mean level varies by at most ``cover_level`` over the last
    # pictures of a drive, 2.5 m apart or more. At most 0.40 of them in the synthetic world, 0.74 at
    # least under a patch over all of the picture but its corners.
    cover_pictures: int = 6
    cover_level: int = 2
    covered_share: float = 0.65

    # Motion of points, from pairs of pictures this near in time.
    max_pair_s: float = 0.2
    motion_period_s: float = 0.5  # between two examinations of a camera
    min_speed_mps: float = 3.0  # slower motion is not larger than the errors of tracked points
    motion_pairs: int = 8  # of the newest pairs that are judged together: 4 s
    min_points: int = 60  # in all these pairs
    # A turned camera: significance of the rotation and of its halves in standard deviations.
    turn_significance: float = 3.0
    turn_agreement: float = 0.8
    min_turn_deg: float = 0.75  # visible part of the rotation: 3 degrees leave 1 at the least
    max_backward: float = 0.1  # share of overtaking points, beyond which nothing is concluded
    # A camera that is turned about its axis, by its upright edges: deviation, number of edges there
    # by that of edges without deviation, and least number of edge pixels in a picture. Deviations
    # reach 1 degree in the synthetic world, whose cameras are mounted with a roll of 0.5.
    min_tilt_deg: float = 2.0
    tilt_prominence: float = 1.25
    min_edges: float = 10.0
    # Swapped cameras: share of the points that fit the own and the other calibration.
    swap_own_share: float = 0.4
    swap_gain: float = 0.3

    def __post_init__(self) -> None:
        check_section("health", self)
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            finite = isinstance(value, int | float) and 0 <= value < math.inf
            check(f"health.{name}", finite, "be finite and not negative", value)
        for name in (
            "max_camera_age_ms",
            "width_px",
            "lasting_pictures",
            "motion_pairs",
            "cover_pictures",
        ):
            check(f"health.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        for name in (
            "saturated_share",
            "covered_share",
            "max_backward",
            "swap_own_share",
            "swap_gain",
        ):
            check(f"health.{name}", getattr(self, name) <= 1, "be at most 1", getattr(self, name))
