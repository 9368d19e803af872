"""The node itself: it takes messages, closes windows, runs steps, and knows what is wrong.

It has no thread, no clock and no transport: the caller gives every message with the time on its own
clock, and asks for the windows that are due. So a bag replays with equal results at any speed.
Several threads may call it. While a step computes, messages and diagnostics do not wait; only one
step runs at a time.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from bevstack.config.health import HealthConfig
from bevstack.runtime.node.cameras import (
    PICTURE_REASONS,
    STATE_OF_ARRIVAL,
    CameraInput,
    CameraStatus,
    InputState,
)
from bevstack.runtime.node.inputs import CameraInfo, Image, Odometry, Transform
from bevstack.runtime.node.motion import Motion
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.node.pixels import check_image
from bevstack.runtime.node.records import AHEAD_US, BACK_US, Counts, Faults, fault_of_stamp
from bevstack.runtime.node.steps import (
    Assembled,
    Gathered,
    Stepper,
    StepResult,
    assemble,
    config_of_images,
    gather,
)
from bevstack.runtime.node.windows import Arrival, Synchroniser, Window
from bevstack.runtime.stream_protocol import FrameDetector
from bevstack.types.health import CameraState, used_states

_USED = used_states(mask_hints=HealthConfig().mask_hints)  # as streams do by default


_Method = TypeVar("_Method", bound=Callable[..., Any])


def locked(method: _Method) -> _Method:
    """Let a method of ``NodeCore`` hold its lock."""

    @functools.wraps(method)
    def hold(self: NodeCore, *args: Any, **keywords: Any) -> Any:
        with self.lock:
            return method(self, *args, **keywords)

    return cast(_Method, hold)


class NodeCore:
    """State of the node between messages.

    Args:
        detector: the detector; with the task "traffic" the results have cues.
        parameters: all settings.
        clock: seconds, for the times of the stages; see ``StepResult.times_ms``.

    Example:
        >>> core = NodeCore(bevstack.load("tiny_cpu_t4"), Parameters())
        >>> core.add_image("CAM_FRONT", image, now_us)
        >>> for window in core.close_due(now_us):
        ...     result = core.step(window, now_us)
    """

    def __init__(
        self,
        detector: FrameDetector,
        parameters: Parameters,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.detector = detector
        self.parameters = parameters
        self.motion = Motion(parameters)
        self.cameras = {
            name: CameraInput(name, parameters.image_topic(name), parameters.info_topic(name))
            for name in parameters.cameras
        }
        self.counts, self.faults = Counts(), Faults()
        self.last_result: StepResult | None = None
        self._synchroniser = self._new_synchroniser()
        self._stepper = Stepper(detector, track=parameters["track"], clock=clock)
        self._clock = clock
        self._images_for = config_of_images(detector, parameters["image_transport"])
        self.lock = threading.RLock()  # of all but the computation of a step
        self._step_lock = threading.Lock()
        self._must_restart = False  # history and tracks, before the next step
        self._now_us: int | None = None
        self._drive = ""
        self._last_us: int | None = None  # of the last result of this drive

    @locked
    def add_image(self, camera: str, image: Image, now_us: int) -> None:
        """Take an image; whatever is wrong with it is recorded with its camera."""
        self.advance(now_us)
        own = self.cameras[camera]
        own.arrived(now_us)
        max_age_us = self.parameters.microseconds("max_age_ms")
        fault = fault_of_stamp(image.timestamp_us, now_us, max_age_us)
        if fault is not None:
            own.fault(*fault, now_us)
            return
        try:
            size = check_image(image)
            if own.calibration is not None:
                own.calibration.check_size(size)
        except ValueError as error:
            own.fault(InputState.REJECTED, str(error), now_us)
            return
        arrival = self._synchroniser.add(camera, image.timestamp_us, now_us)
        if arrival is Arrival.TAKEN:
            own.keep(image)
        else:
            own.fault(STATE_OF_ARRIVAL[arrival], f"an image came {arrival.value}", now_us)

    @locked
    def add_info(self, camera: str, info: CameraInfo, now_us: int) -> None:
        """Take a calibration; an impossible one is recorded, and the last good one stays."""
        self.advance(now_us)
        own = self.cameras[camera]
        try:
            rectified = self.parameters["images_rectified"]
            own.set_info(info, rectified=rectified, images_for=self._images_for)
        except ValueError as error:
            own.fault(InputState.REJECTED, str(error), now_us)

    @locked
    def add_odometry(self, message: Odometry) -> None:
        """Take the vehicle's pose."""
        self.motion.add_odometry(message)

    @locked
    def add_transform(self, message: Transform) -> None:
        """Take a transform."""
        self.motion.add_transform(message)

    @locked
    def add_undecodable(self, topic: str, reason: str, now_us: int) -> None:
        """Record a message that is none of its type."""
        self.advance(now_us)
        self.counts.undecodable[topic] += 1
        self.faults.message = (now_us, f"{topic}: {reason}")
        for camera in self.cameras.values():
            if topic in (camera.topic, camera.info_topic):
                camera.arrived(now_us)
                camera.fault(InputState.REJECTED, reason, now_us)

    @locked
    def add_unpublishable(self, reason: str, now_us: int) -> None:
        """Record a result that no message can hold."""
        self.counts.refused += 1
        self.faults.step = (now_us, reason)

    @locked
    def advance(self, now_us: int) -> None:
        """Move the node's clock; a jump starts another drive."""
        before = self._now_us
        self._now_us = self.motion.now_us = now_us
        if before is None:
            return
        if now_us < before - BACK_US:
            self._restart(f"time went back by {(before - now_us) / 1e6:.1f} s", now_us)
        elif now_us > before + AHEAD_US:
            self._restart(f"time went ahead by {(now_us - before) / 1e6:.1f} s", now_us)

    @locked
    def close_due(self, now_us: int) -> list[Window]:
        """Return the windows to step, in the order of their stamps."""
        self.advance(now_us)
        self._take_up_parameters()
        waiting = [name for name, camera in self.cameras.items() if camera.calibration is None]
        windows = self._synchroniser.close_due(
            now_us,
            self.motion.poses_until_us,
            uncalibrated=waiting,
            without_poses=self.motion.waits_for_first_pose,
        )
        self.counts.windows += len(windows)
        self.counts.dropped = self._synchroniser.dropped
        return windows

    @locked
    def close_all(self) -> list[Window]:
        """Return all windows, at the end of the input."""
        windows = self._synchroniser.close_all()
        self.counts.windows += len(windows)
        return windows

    @locked
    def next_deadline_us(self) -> int | None:
        """Return the time when the next window is due at the latest; None without one."""
        return self._synchroniser.next_deadline_us()

    @locked
    def skip(self, window: Window) -> None:
        """Drop a window, because a newer one is due."""
        self.counts.skipped += 1
        self._drop(window)

    def step(self, window: Window, now_us: int) -> StepResult | None:
        """Run a window; None if there is no result, for a reason that is recorded."""
        with self._step_lock:
            started = self._clock()
            gathered = self._gather(window, now_us)
            if gathered is None:
                return None
            try:
                assembled = assemble(gathered)
                if assembled.frame is None:
                    self._record_blind(assembled, now_us)
                    return None
                result = self._stepper.step(assembled.frame, gathered, started)
            except (ValueError, RuntimeError, MemoryError) as error:
                self._fail(error, now_us)
                return None
            return self._succeed(result, assembled, now_us)

    @locked
    def camera_statuses(self, now_us: int) -> list[CameraStatus]:
        """Return the state of every camera."""
        silent_us = self.parameters.microseconds("silent_after_ms")
        return [camera.status(now_us, silent_us) for camera in self.cameras.values()]

    @locked
    def is_too_old(self, result: StepResult, now_us: int) -> bool:
        """Return True, and count it, if a result must not be published any more."""
        return self._is_old(result.timestamp_us, now_us)

    def _is_old(self, time_us: int, now_us: int) -> bool:
        too_old: bool = now_us - time_us > self.parameters.microseconds("max_age_ms")
        self.counts.too_old += too_old
        return too_old

    def _drop(self, window: Window) -> None:
        for name, stamp_us in window.stamps_us.items():
            self.cameras[name].take(stamp_us)

    @locked
    def _gather(self, window: Window, now_us: int) -> Gathered | None:
        """Take what a step needs; None if its result would not go forward in time."""
        if self._must_restart:
            self._stepper.restart()
            self._must_restart = False
        time_us = window.reference_us(self.parameters.reference_camera)
        if self._last_us is not None and time_us <= self._last_us:
            self.skip(window)
            return None
        if self._is_old(time_us, now_us):
            self._drop(window)
            return None
        for name in self._synchroniser.expected(now_us) - window.stamps_us.keys():
            self.cameras[name].absent(now_us)
        limit_us = self.parameters.microseconds("late_after_ms")
        for name, lag_us in window.lags_us().items():
            self.cameras[name].lag(lag_us, limit_us, now_us)
        if not self._drive:
            self._drive = f"drive {self.counts.restarts} at {window.first_us}"
        return gather(
            window,
            self.cameras,
            self.motion,
            time_us=time_us,
            drive=self._drive,
            now_us=now_us,
        )

    @locked
    def _record_refused(self, assembled: Assembled, now_us: int) -> None:
        for name, reason in assembled.refused.items():
            self.cameras[name].fault(InputState.REJECTED, reason, now_us)

    def _record_health(self, health: Mapping[str, CameraState], now_us: int) -> None:
        """Record what the stream found in pictures; times are judged by the node itself."""
        for name, found in health.items():
            state = InputState(found.value)
            if state in PICTURE_REASONS:
                self.cameras[name].fault(state, PICTURE_REASONS[state], now_us)

    @locked
    def _record_blind(self, assembled: Assembled, now_us: int) -> None:
        self._record_refused(assembled, now_us)
        self.counts.blind += 1
        self.faults.blind = (now_us, "no camera works: see their states")

    @locked
    def _succeed(self, result: StepResult, assembled: Assembled, now_us: int) -> StepResult | None:
        """Record a result; None if another drive has started while it was computed."""
        self._record_refused(assembled, now_us)
        if result.drive != self._drive:
            return None
        self._record_health(result.state.health, now_us)
        frame = result.frame
        for name, image in zip(frame.camera_names, frame.images, strict=True):
            usable = result.state.health.get(name, CameraState.OK) in _USED
            self.cameras[name].used += image is not None and usable
        self.counts.steps += 1
        self.last_result, self._last_us = result, result.timestamp_us
        self.faults.step = self.faults.blind = None
        self.faults.rig = result.warnings[0] if result.warnings else self.faults.rig
        self.faults.pose = (now_us, result.pose_gap) if result.pose_gap else None
        self.counts.without_pose += bool(result.pose_gap)
        return result

    @locked
    def _fail(self, error: Exception, now_us: int) -> None:
        self.counts.refused += 1
        self._record_health(self._stepper.health, now_us)
        self.faults.step = (now_us, " ".join(str(error).split())[:500] or type(error).__name__)
        if not isinstance(error, ValueError):  # the state after such an error is unknown
            self._must_restart = True

    def _restart(self, reason: str, now_us: int) -> None:
        """Start another drive: memory, tracks, poses and open windows are dropped."""
        self.counts.restarts += 1
        self.faults.restart = (now_us, reason)
        self._synchroniser.clear()
        self._must_restart = True
        self.motion.clear()
        for camera in self.cameras.values():
            camera.clear()
        self._drive, self._last_us = "", None

    def _new_synchroniser(self) -> Synchroniser:
        parameters = self.parameters
        return Synchroniser(
            self.cameras,
            tolerance_us=parameters.microseconds("max_camera_time_diff_ms"),
            timeout_us=parameters.microseconds("sync_timeout_ms"),
            silent_us=parameters.microseconds("silent_after_ms"),
        )

    def _take_up_parameters(self) -> None:
        """Use the present values of parameters that may change at run time."""
        parameters, own = self.parameters, self._synchroniser
        own.tolerance_us = parameters.microseconds("max_camera_time_diff_ms")
        own.timeout_us = parameters.microseconds("sync_timeout_ms")
        own.silent_us = parameters.microseconds("silent_after_ms")
        self.motion.poses.max_extrapolation_us = parameters.microseconds("max_extrapolation_ms")
