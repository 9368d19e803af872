"""State of one camera of the node: its calibration, its last images, and all that went wrong."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from bevstack.runtime.node.calibration import Calibration, calibration_from_info
from bevstack.runtime.node.inputs import CameraInfo, Image
from bevstack.runtime.node.windows import Arrival

_RECENT_US = 1_000_000  # a fault is shown for this long
_KEPT_IMAGES = 10
_RATE_OVER = 10  # images


class InputState(Enum):
    """State of a camera's input, the most severe last."""

    OK = "ok"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    LATE = "late"
    STALE = "stale"
    # Of the picture, which the stream judges (``types.health.CameraState``)
    BLURRED = "blurred"
    NOISE = "noise"
    TURNED = "turned"
    SWAPPED = "swapped"
    FROZEN = "frozen"
    OVER_EXPOSED = "over_exposed"
    BLACK = "black"
    MISSING = "missing"
    NO_TRANSFORM = "no_transform"
    WAITING_CAMERA_INFO = "waiting_camera_info"
    REJECTED = "rejected"

    @property
    def severity(self) -> int:
        """Return the place in the order above."""
        return list(InputState).index(self)

    @property
    def loses_camera(self) -> bool:
        """Return True if the camera cannot be used, not just some of its images."""
        return self.severity >= InputState.BLURRED.severity


PICTURE_REASONS: Mapping[InputState, str] = {
    InputState.BLURRED: "pictures are blurred or covered: clean the lens",
    InputState.NOISE: "pictures are mostly noise: check the camera",
    InputState.TURNED: "pictures do not move as the calibration predicts: calibrate the rig again",
    InputState.SWAPPED: "pictures move as another camera's: check the topics and cables",
    InputState.FROZEN: "the picture stays the same while the vehicle moves: restart the camera",
    InputState.OVER_EXPOSED: "pictures are saturated: check the exposure",
    InputState.BLACK: "pictures are black: check the lens cap and the exposure",
}
STATE_OF_ARRIVAL: Mapping[Arrival, InputState] = {
    Arrival.DUPLICATE: InputState.DUPLICATE,
    Arrival.OUT_OF_ORDER: InputState.OUT_OF_ORDER,
    Arrival.LATE: InputState.LATE,
}


@dataclass(frozen=True, kw_only=True)
class CameraStatus:
    """State of a camera at one moment, for diagnostics."""

    name: str
    state: InputState
    reason: str  # "" if all is well
    age_us: int | None  # since the last image arrived
    rate_hz: float | None
    received: int
    used: int
    faults: Mapping[str, int]  # number of images by the state that they had
    calibration_changes: int


@dataclass
class CameraInput:
    """Input of one camera.

    Args:
        name: of the camera.
        topic: of its images, for messages.
        info_topic: of its calibration, for messages.
    """

    name: str
    topic: str
    info_topic: str
    calibration: Calibration | None = None
    calibration_changes: int = 0
    received: int = 0
    used: int = 0
    counts: Counter[InputState] = field(default_factory=Counter)
    _images: dict[int, Image] = field(default_factory=dict)
    _arrivals_us: deque[int] = field(default_factory=lambda: deque(maxlen=_RATE_OVER))
    _faults: dict[InputState, tuple[int, str]] = field(default_factory=dict)  # time, reason

    def clear(self) -> None:
        """Forget images and faults, at the start of another drive."""
        self._images.clear()
        self._arrivals_us.clear()
        self._faults.clear()

    def set_info(self, info: CameraInfo, *, rectified: bool) -> None:
        """Take a calibration; one that is known already changes nothing.

        Raises:
            ValueError: the calibration is impossible.
        """
        if self.calibration is not None and self.calibration.is_of(info):
            return
        calibration = calibration_from_info(info, rectified=rectified)
        self.calibration_changes += self.calibration is not None
        self.calibration = calibration

    def arrived(self, now_us: int) -> None:
        """Count an image, whatever comes of it."""
        self.received += 1
        self._arrivals_us.append(now_us)

    def keep(self, image: Image) -> None:
        """Keep an image for its window."""
        self._images[image.timestamp_us] = image
        while len(self._images) > _KEPT_IMAGES:
            del self._images[min(self._images)]

    def take(self, stamp_us: int | None) -> Image | None:
        """Return the image of a stamp, and drop it with all earlier ones."""
        image = None if stamp_us is None else self._images.get(stamp_us)
        if stamp_us is not None:
            for stamp in [stamp for stamp in self._images if stamp <= stamp_us]:
                del self._images[stamp]
        return image

    def fault(self, state: InputState, reason: str, now_us: int) -> None:
        """Record a fault."""
        self.counts[state] += 1
        self._faults[state] = (now_us, reason)

    def status(self, now_us: int, silent_us: int) -> CameraStatus:
        """Return the state: the most severe fault of the last second, or silence."""
        age_us = now_us - self._arrivals_us[-1] if self._arrivals_us else None
        found = [
            (state, reason)
            for state, (at_us, reason) in self._faults.items()
            if now_us - at_us <= _RECENT_US
        ]
        if age_us is None or age_us > silent_us:
            since = "yet" if age_us is None else f"for {age_us / 1e6:.1f} s"
            found.append(
                (
                    InputState.MISSING,
                    f"no image on {self.topic} {since}: check the camera and its driver",
                )
            )
        state, reason = max(found, key=lambda f: f[0].severity, default=(InputState.OK, ""))
        return CameraStatus(
            name=self.name,
            state=state,
            reason=reason,
            age_us=age_us,
            rate_hz=self._rate_hz(),
            received=self.received,
            used=self.used,
            faults={
                state.value: count
                for state, count in sorted(self.counts.items(), key=lambda item: item[0].severity)
            },
            calibration_changes=self.calibration_changes,
        )

    def _rate_hz(self) -> float | None:
        if len(self._arrivals_us) < 2:
            return None
        elapsed_us = self._arrivals_us[-1] - self._arrivals_us[0]
        return 1e6 * (len(self._arrivals_us) - 1) / elapsed_us if elapsed_us > 0 else None
