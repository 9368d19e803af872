"""State of a camera in one frame."""

from __future__ import annotations

import enum


class CameraState(enum.Enum):
    """State of one camera in one frame, most specific cause first.

    A frame's camera has one state. If several fit, the first one in the order of the members is
    taken, and OK is the last.
    """

    REJECTED = "rejected"  # the picture has another encoding or size than the calibration
    MISSING = "missing"  # no picture
    STALE = "stale"  # the picture is older than ``Frame.max_camera_age_s``
    OUT_OF_ORDER = "out_of_order"  # the picture is older than the one before it
    BLACK = "black"  # a dark picture without content
    OVER_EXPOSED = "over_exposed"  # a saturated picture
    FROZEN = "frozen"  # the same content while the vehicle moves
    NOISE = "noise"  # the picture is mostly noise
    BLURRED = "blurred"  # fine edges are missing
    COVERED = "covered"  # most of the picture stays while the vehicle drives: dirt or an object
    SWAPPED = "swapped"  # the picture moves as that of another camera of the rig
    TURNED = "turned"  # the picture does not move as the calibration and the ego poses predict
    LATE = "late"  # older than the limit of a moment, and compensated with its own pose
    DUPLICATE = "duplicate"  # the picture of the frame before
    OK = "ok"


# States in which a detector may attend to the camera.
USABLE = frozenset({CameraState.OK, CameraState.LATE, CameraState.DUPLICATE})
# States that are named, and whose cameras are used all the same. Covered and turned ones are too
# often named wrongly for a mask; noisy and blurred ones give more boxes than a mask leaves. Figures
# are in docs/health.md.
HINTS = frozenset({CameraState.NOISE, CameraState.BLURRED, CameraState.COVERED, CameraState.TURNED})


def used_states(*, mask_hints: bool) -> frozenset[CameraState]:
    """Return the states whose cameras a stream attends to; see ``HealthConfig``."""
    return USABLE if mask_hints else USABLE | HINTS
