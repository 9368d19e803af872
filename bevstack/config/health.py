"""Thresholds of camera health (``bevstack.runtime.health``)."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check, check_finite_fields
from bevstack.config.limits import check_section


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """Thresholds that turn times and pictures into the state of a camera.

    Pictures are judged in grey, reduced to ``width_px``: damage that vanishes at that size does not
    matter to a detector either. Levels are those of 8-bit grey, 0 to 255. False alarms and
    detection rates are in docs/health.md.
    """

    # A picture older than this is late, and its own pose compensates the motion. nuScenes' cameras
    # are read within 45 ms of each other; 150 ms are one and a half pictures of a rig of 10 Hz.
    max_camera_age_ms: float = 150.0
    width_px: int = 256  # of the reduced pictures; narrower ones keep their size

    # Mask noisy, blurred, covered and turned cameras, too. They are named in any case, and the
    # trust in their sectors is less; a mask of the first two costs more boxes than noise and blur
    # do, and traffic beside the vehicle can look like dirt or like a turn (docs/health.md).
    mask_hints: bool = False

    # Brightness of one picture.
    # Black if 99 % of the pixels lie below: 65 at night in the synthetic world, 4 to 7 under a cap.
    black_level: float = 20.0
    # Over-exposed if more of the pixels are saturated: at most 0.11 in real and synthetic pictures,
    # 0.52 in heavy snow, which still gives more boxes than a mask, and at least 0.62 in pictures
    # with eight times the light.
    saturated_share: float = 0.57

    # Frozen content: a mean difference that no two pictures of a working sensor have, since noise
    # alone changes them, while the vehicle drives this far.
    same_level: float = 0.3
    frozen_motion_m: float = 0.5

    # Noise and blur, which must last over this time and this number of pictures.
    lasting_s: float = 1.0
    lasting_pictures: int = 3
    # A picture is noisy if its noise (standard deviation) lies above this level and above this
    # multiple of what is known: the camera's own mean, the median of the other cameras.
    noise_level: float = 8.0
    noise_ratio: float = 1.5
    # A picture is blurred if its sharpness, the edges of the finest band (standard deviation below
    # 1 px) divided by those of the next band, lies below this value and below this part of what is
    # known. 0.62 at least in the synthetic world, at night, and 1.1 in nuScenes; 0.52 at most after
    # a blur of 2 px.
    min_sharpness: float = 0.56
    sharpness_ratio: float = 0.5
    min_texture: float = 5.0  # level of the coarse edges, without which blur has no meaning
    min_side_px: int = 64  # smaller pictures have no fine band of their own
    reference_s: float = 300.0  # over which a camera's own mean is taken

    # Covered: share of the largest connected part of the cells whose mean level varies by at most
    # ``cover_level`` over the last pictures of a drive, 1.4 m apart or more. Nine of them take 4 s
    # at 3 m/s; over six, dark streets at night reach shares of 0.53. Cells with edges that stay and
    # are sharper than ``cover_edge``, levels a pixel, are objects in focus: without that, a vehicle
    # that keeps beside the own one reaches 0.53. The share is 0.39 at most on clean drives; 0.45
    # under a patch over 0.65 of the picture.
    cover_pictures: int = 9
    cover_level: int = 2
    cover_edge: float = 6.0
    covered_share: float = 0.43

    # Motion of points, from pairs of pictures this near in time.
    max_pair_s: float = 0.2
    motion_period_s: float = 0.5  # between two examinations of a camera
    min_speed_mps: float = 3.0  # slower motion is not larger than the errors of tracked points
    motion_pairs: int = 8  # of the newest pairs that are judged together: 4 s
    min_points: int = 60  # in all these pairs
    # A turned camera: the robust loss that a rotation saves, in points that fit, and the share of
    # the regions of the picture that must agree. Where most regions agree, clean drives save 10.5
    # at most in eight pairs; a yaw of 3 degrees or more saves more than 10 in 93 of 100 cases.
    turn_gain: float = 10.0
    turn_agreement: float = 0.5
    min_turn_deg: float = 0.75  # visible part of the rotation: 3 degrees leave 1 at the least
    # Share of the moving points that move against the drive, beyond which nothing is concluded;
    # 0.75 and more beside a bus that overtakes and fills the picture.
    max_backward: float = 0.3
    max_turned: int = 2  # cameras at once; if more seem turned, the poses of the vehicle are wrong
    # A camera that is turned about its axis, by its upright edges: deviation, number of edges there
    # by that of edges without deviation, and least number of edge pixels in a picture. Deviations
    # reach 1 degree in the synthetic world, whose cameras are mounted with a roll of 0.5.
    min_tilt_deg: float = 2.0
    tilt_prominence: float = 1.25
    min_edges: float = 10.0
    # Swapped cameras: share of the points that fit the own and the other calibration.
    swap_own_share: float = 0.5
    swap_gain: float = 0.2

    def __post_init__(self) -> None:
        check_section("health", self)
        check_finite_fields("health", self)
        for name in (
            "max_camera_age_ms",
            "width_px",
            "lasting_pictures",
            "motion_pairs",
            "cover_pictures",
            "reference_s",
            "max_turned",
        ):
            check(f"health.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        for name in (
            "saturated_share",
            "covered_share",
            "turn_agreement",
            "max_backward",
            "swap_own_share",
            "swap_gain",
        ):
            check(f"health.{name}", getattr(self, name) <= 1, "be at most 1", getattr(self, name))
