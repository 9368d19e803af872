"""Parameters of the tracking of traffic lights and signs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from bevstack.config.checks import check


@dataclass(frozen=True, kw_only=True)
class ElementTrackingConfig:
    """Association and filtering of lights and signs in 3D (``bevstack.tracking.elements``).

    All defaults are own choices; each has its reason beside it.
    """

    # A housing that is smaller than its prior looks too far in every frame: errors of the distance
    # are common to successive frames. The factor on the standard deviation along the line of sight
    # keeps a filter that assumes independent errors from trusting them too much.
    range_inflation: float = 2.0
    # Smallest error of a direction: one pixel of a 70 degree, 1600 px camera is 0.8 mrad; rolling,
    # pitching and the time between image and pose add the rest.
    bearing_sigma_rad: float = 0.004
    position_noise_m: float = 0.05  # per square root of a second: drift of the world's pose
    # Hypothesis "moves": speed of city traffic before any measurement, and its random acceleration.
    moving_speed_sigma_mps: float = 6.0
    moving_acceleration_mps2: float = 2.0
    moving_prior_log_odds: float = -3.0  # most elements stand still
    moving_limit: float = 12.0  # largest absolute value of the log-odds, so that they can turn
    # The gate is the 0.999 quantile of chi-square with three degrees of freedom.
    gate: float = 16.27
    size_ratio_sigma: float = 0.35  # of the natural logarithm of heights in pixels, box jitter
    size_ratio_limit: float = 0.9  # a box 2.5 times as high is another element
    start_score: float = 0.2  # smallest score of a box that starts a track
    update_score: float = 0.05  # smallest score of a box that continues a track
    # Log-odds that the element exists. A box adds at most 1.5, as successive false boxes are alike.
    existence_limit: float = 4.0
    drop_below: float = -1.5
    # Loss per second while the element should be visible but is not: from the limit, a track
    # lasts 4.6 s, which covers a lorry that passes; a track of one box lasts 0-2 s.
    missed_per_s: float = 1.2
    # The same while its place lies in the box of another element at its distance, of which it is a
    # part: it ends after 0.7 s. A far light behind a near one is farther by another factor.
    covered_per_s: float = 8.0
    covered_log_range: float = 0.4
    unseen_per_s: float = 0.1  # loss per second while it is outside all images
    max_unseen_s: float = 20.0  # outside all images
    visible_range_m: float = 120.0  # lights are below 4 px beyond it at 1600 px
    visible_face_rad: float = 1.2  # angle of the face to the line of sight; lamps have visors
    max_elements: int = 128  # of a stream; the best are kept

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            finite = isinstance(value, int | float) and math.isfinite(value)
            check(f"element_tracking.{name}", finite, "be a finite number", value)
            if name not in ("moving_prior_log_odds", "drop_below"):
                check(f"element_tracking.{name}", value > 0, "be positive", value)
