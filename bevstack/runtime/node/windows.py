"""Synchronisation of cameras by the stamps of their images, with a deadline.

Images whose stamps lie close together form a window. A window is complete when every expected
camera has an image in it. It closes when it is complete, or a given time after its first image
arrived; cameras without an image are then missing in it. Windows close in the order of their
stamps. A camera that is silent is not expected, so a dead one delays nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

_MAX_OPEN = 8  # windows; the oldest closes when there are more
_MAX_WAITING = 64  # while a step computes, none closes; the oldest is dropped then


class Arrival(Enum):
    """Use of an image that arrived."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"  # the stamp of the camera's last image again
    OUT_OF_ORDER = "out of order"  # older than an image of the camera that came earlier
    LATE = "late"  # its window is closed


@dataclass
class Window:
    """Stamps of images that belong together."""

    opened_at_us: int  # on the node's clock
    stamps_us: dict[str, int] = field(default_factory=dict)  # by camera
    arrivals_us: dict[str, int] = field(default_factory=dict)  # by camera, on the node's clock

    @property
    def first_us(self) -> int:
        """Return the earliest stamp."""
        return min(self.stamps_us.values())

    @property
    def last_us(self) -> int:
        """Return the latest stamp."""
        return max(self.stamps_us.values())

    def add(self, camera: str, stamp_us: int, now_us: int) -> None:
        """Add the image of a camera."""
        self.stamps_us[camera] = stamp_us
        self.arrivals_us[camera] = now_us

    def lags_us(self) -> dict[str, int]:
        """Return the time from stamp to arrival of each camera, beyond that of the middle one."""
        ages = {name: at_us - self.stamps_us[name] for name, at_us in self.arrivals_us.items()}
        middle = sorted(ages.values())[(len(ages) - 1) // 2] if ages else 0
        return {name: age - middle for name, age in ages.items()}

    def fits(self, stamp_us: int, tolerance_us: int) -> bool:
        """Return True if a stamp is close to all stamps of the window."""
        first, last = min(self.first_us, stamp_us), max(self.last_us, stamp_us)
        return last - first <= tolerance_us

    def reference_us(self, camera: str) -> int:
        """Return the stamp of the reference camera; without it, that of the middle image."""
        if camera in self.stamps_us:
            return self.stamps_us[camera]
        stamps = sorted(self.stamps_us.values())
        return stamps[(len(stamps) - 1) // 2]


class Synchroniser:
    """Windows of a rig.

    Args:
        cameras: names of all cameras.
        tolerance_us: largest difference of two stamps of a window.
        timeout_us: time from a window's first arrival to its closing.
        silent_us: a camera without an image for this long is not expected.
    """

    def __init__(
        self,
        cameras: Collection[str],
        *,
        tolerance_us: int,
        timeout_us: int,
        silent_us: int = 1_000_000,
    ) -> None:
        self.cameras = tuple(cameras)
        self.tolerance_us = tolerance_us
        self.timeout_us = timeout_us
        self.silent_us = silent_us
        self.dropped = 0  # windows, since the start
        self._open: list[Window] = []  # in the order of their stamps
        self._last_closed: Window | None = None
        self._last_stamp_us: dict[str, int] = {}
        self._last_arrival_us: dict[str, int] = {}

    def clear(self) -> None:
        """Forget all images, at the start of another drive."""
        self._open.clear()
        self._last_closed = None
        self._last_stamp_us.clear()
        self._last_arrival_us.clear()

    @property
    def newest_us(self) -> int | None:
        """Return the latest stamp of all images so far."""
        return max(self._last_stamp_us.values(), default=None)

    def add(self, camera: str, stamp_us: int, now_us: int) -> Arrival:
        """Take an image, or state why it is of no use."""
        last_us = self._last_stamp_us.get(camera)
        if last_us is not None and stamp_us <= last_us:
            return Arrival.DUPLICATE if stamp_us == last_us else Arrival.OUT_OF_ORDER
        if not self.expected(now_us):
            self._last_closed = None  # all cameras were silent: it is a start
        self._last_stamp_us[camera] = stamp_us
        self._last_arrival_us[camera] = now_us
        if self._is_late(camera, stamp_us):
            return Arrival.LATE
        for window in self._open:
            if camera not in window.stamps_us and window.fits(stamp_us, self.tolerance_us):
                window.add(camera, stamp_us, now_us)
                return Arrival.TAKEN
        self._open.append(Window(now_us, {camera: stamp_us}, {camera: now_us}))
        self._open.sort(key=lambda window: window.first_us)
        if len(self._open) > _MAX_WAITING:
            self._close(1)
            self.dropped += 1
        return Arrival.TAKEN

    def close_due(
        self,
        now_us: int,
        poses_until_us: int | None = None,
        *,
        uncalibrated: Collection[str] = (),
        without_poses: bool = False,
    ) -> list[Window]:
        """Close and return the windows that are due, in the order of their stamps.

        Args:
            now_us: on the node's clock.
            poses_until_us: a complete window with a later stamp waits for its pose, until its time
                is over. None: windows wait for no pose.
            uncalibrated: cameras without a calibration yet. The first window of a drive waits for
                theirs, until its time is over.
            without_poses: no pose has come yet. The first window of a drive waits for one, too.
        """
        missing = set(self.cameras) if without_poses else set(uncalibrated)
        due = [
            index
            for index, window in enumerate(self._open)
            if now_us >= window.opened_at_us + self.timeout_us
            or (
                self._is_complete(window, now_us)
                and _has_pose(window, poses_until_us)
                and not (self._last_closed is None and window.stamps_us.keys() & missing)
            )
        ]
        count = max(due[-1] + 1 if due else 0, len(self._open) - _MAX_OPEN)
        return self._close(count)

    def close_all(self) -> list[Window]:
        """Close and return all windows, at the end of a drive."""
        return self._close(len(self._open))

    def next_deadline_us(self) -> int | None:
        """Return the time when the next window closes at the latest; None without one."""
        opened = [window.opened_at_us for window in self._open]
        return min(opened) + self.timeout_us if opened else None

    def expected(self, now_us: int) -> frozenset[str]:
        """Return the cameras that a window waits for."""
        return frozenset(
            camera
            for camera, arrived_us in self._last_arrival_us.items()
            if now_us - arrived_us <= self.silent_us
        )

    @property
    def last_arrivals_us(self) -> Mapping[str, int]:
        """Return the time when the last image of each camera arrived, on the node's clock."""
        return MappingProxyType(self._last_arrival_us)

    def _is_late(self, camera: str, stamp_us: int) -> bool:
        last = self._last_closed
        if last is None or stamp_us > last.first_us + self.tolerance_us:
            return False
        belongs = camera not in last.stamps_us and last.fits(stamp_us, self.tolerance_us)
        return belongs or stamp_us <= last.last_us

    def _is_complete(self, window: Window, now_us: int) -> bool:
        if len(window.stamps_us) == len(self.cameras):
            return True
        # At a start, the cameras that come later are waited for.
        if self._last_closed is None:
            return False
        return self.expected(now_us) <= window.stamps_us.keys()

    def _close(self, count: int) -> list[Window]:
        closed = self._open[:count]
        del self._open[:count]
        if closed:
            self._last_closed = closed[-1]
        return closed


def _has_pose(window: Window, poses_until_us: int | None) -> bool:
    return poses_until_us is None or window.last_us <= poses_until_us
