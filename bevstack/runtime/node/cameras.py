"""State of one camera of the node: its calibration, its last images, and all that went wrong."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from bevstack.config import Config
from bevstack.datasets.preprocess import decoding_reduction
from bevstack.runtime.node.calibration import Calibration, calibration_from_info
from bevstack.runtime.node.inputs import CameraInfo, Image
from bevstack.runtime.node.windows import Arrival

_RECENT_US = 1_000_000  # a fault is shown for this long
_KEPT_IMAGES = 10
_RATE_OVER = 10  # images
_LONGEST_NAME = 60  # of a frame in a message
_IN_A_ROW = 2  # windows: one alone may be chance
_EXPLAINED_BY = ("late", "out_of_order", "stale", "rejected")  # an image that did come


class InputState(Enum):
    """State of a camera's input, the most severe last."""

    OK = "ok"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    LATE = "late"
    STALE = "stale"
    # Of the picture, which the stream judges (``types.health.CameraState``); it uses the cameras of
    # the first four all the same
    COVERED = "covered"
    TURNED = "turned"
    BLURRED = "blurred"
    NOISE = "noise"
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
        return self.severity >= InputState.SWAPPED.severity


PICTURE_REASONS: Mapping[InputState, str] = {
    InputState.COVERED: "most of the picture stays while the vehicle moves: clean the lens",
    InputState.BLURRED: "pictures are blurred: clean the lens",
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
    frame_fault: str = ""  # images and calibration name different frames


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
    calibration: Calibration | None = None  # of images of full size
    decoded: Calibration | None = None  # of the images as they are decoded
    reduction: int = 1  # they are decoded at this fraction of their size
    calibration_changes: int = 0
    received: int = 0
    used: int = 0
    counts: Counter[InputState] = field(default_factory=Counter)
    _images: dict[int, Image] = field(default_factory=dict)
    _arrivals_us: deque[int] = field(default_factory=lambda: deque(maxlen=_RATE_OVER))
    _faults: dict[InputState, tuple[int, str]] = field(default_factory=dict)  # time, reason
    _image_frame: str | None = None  # of the last good image
    _absence: tuple[InputState, int, str] | None = None  # state, time, reason
    _absent: int = 0  # windows in a row without an image
    _lagging: int = 0  # windows in a row with an image that came after the other cameras'

    def clear(self) -> None:
        """Forget images and faults, at the start of another drive."""
        self._images.clear()
        self._arrivals_us.clear()
        self._faults.clear()
        self._absence, self._absent, self._lagging = None, 0, 0

    def set_info(
        self, info: CameraInfo, *, rectified: bool, images_for: Config | None = None
    ) -> None:
        """Take a calibration; one that is known already changes nothing.

        Args:
            info: the calibration.
            rectified: see ``calibration_from_info``.
            images_for: decode images only as finely as this configuration needs; None: at full
                size.

        Raises:
            ValueError: the calibration is impossible.
        """
        if self.calibration is not None and self.calibration.is_of(info):
            return
        calibration = calibration_from_info(info, rectified=rectified)
        reduction = 1
        if images_for is not None:
            images, augmentation = images_for.images, images_for.augmentation
            reduction = decoding_reduction(calibration.size, images, augmentation)
        self.decoded = calibration
        if reduction > 1:
            self.decoded = calibration_from_info(info, rectified=rectified, reduction=reduction)
        self.calibration_changes += self.calibration is not None
        self.calibration, self.reduction = calibration, reduction

    def arrived(self, now_us: int) -> None:
        """Count an image, whatever comes of it."""
        self.received += 1
        self._absent = 0
        self._arrivals_us.append(now_us)

    def keep(self, image: Image) -> None:
        """Keep an image for its window."""
        self._image_frame = image.frame_id
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
        if state.value in _EXPLAINED_BY:
            self._absence = None  # the image was not missing

    def absent(self, now_us: int) -> None:
        """Record a window without an image of this camera: it is late, or missing if it goes on."""
        self._absent += 1
        self.counts[InputState.MISSING] += 1
        if self._absent < _IN_A_ROW or not self._is_overdue(now_us):
            reason = "no image came in time for the last window"
            if self._absence is None or self._absence[0] is not InputState.MISSING:
                self._absence = (InputState.LATE, now_us, reason)
            return
        reason = f"no image on {self.topic} in {self._absent} windows: check the camera"
        self._absence = (InputState.MISSING, now_us, f"{reason} and its driver")

    def lag(self, lag_us: int, limit_us: float, now_us: int) -> None:
        """Record a window whose image came this much later than those of the other cameras."""
        self._lagging = self._lagging + 1 if lag_us > limit_us else 0
        if self._lagging >= _IN_A_ROW:
            reason = f"images come {lag_us / 1000:.0f} ms later than those of the other cameras"
            self.fault(InputState.LATE, f"{reason}, which wait: check the driver", now_us)

    def status(self, now_us: int, silent_us: int) -> CameraStatus:
        """Return the state: the most severe fault of the last second, or silence."""
        age_us = now_us - self._arrivals_us[-1] if self._arrivals_us else None
        found = [
            (state, reason)
            for state, (at_us, reason) in self._faults.items()
            if now_us - at_us <= _RECENT_US
        ]
        if self._absence is not None and now_us - self._absence[1] <= _RECENT_US:
            found.append((self._absence[0], self._absence[2]))
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
            frame_fault=self._frame_fault(),
        )

    def _frame_fault(self) -> str:
        """Return a warning if the images name another frame than the calibration; else ""."""
        if self.calibration is None or self._image_frame is None:
            return ""
        image, own = self._image_frame, self.calibration.info.frame_id
        if image.lstrip("/") == own.lstrip("/"):
            return ""
        return (
            f"{self.name}: header.frame_id must be the same in images and camera_info; got "
            f"{image[:_LONGEST_NAME]!r} and {own[:_LONGEST_NAME]!r}, which counts: check the topics"
        )

    def _is_overdue(self, now_us: int) -> bool:
        """Return True if two images should have come by the camera's own rate."""
        times = self._arrivals_us
        if len(times) < 2:
            return bool(times)
        return now_us - times[-1] > 2 * (times[-1] - times[0]) / (len(times) - 1)

    def _rate_hz(self) -> float | None:
        if len(self._arrivals_us) < 2:
            return None
        elapsed_us = self._arrivals_us[-1] - self._arrivals_us[0]
        return 1e6 * (len(self._arrivals_us) - 1) / elapsed_us if elapsed_us > 0 else None
