"""Diagnostics of the node: one state a camera and a task, with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Iterator

from bevstack.export.messages.status import ERROR, OK, WARN, Status
from bevstack.runtime.node.cameras import CameraStatus
from bevstack.runtime.node.core import NodeCore
from bevstack.runtime.node.steps import StepResult
from bevstack.types import Reset
from bevstack.types.sectors import BEARINGS

_SHOWN_US = 2_000_000  # a passing fault is shown for this long
_NOT_KNOWN = "n/a"  # not 0: no step has run, or times are not measured


class Diagnostician:
    """Author of the diagnostics of a node.

    Args:
        core: the node.
        model: name of the weights.
        times: publish times of processing; False where results must not depend on the machine.
    """

    def __init__(self, core: NodeCore, *, model: str, times: bool) -> None:
        self.core = core
        self.model = model
        self.times = times
        self._fingerprint = core.detector.fingerprint()[:16]
        self._node: str = core.parameters["node_name"]

    def statuses(self, now_us: int, state: str = "active") -> list[Status]:
        """Return all states at a time on the node's clock.

        Args:
            now_us: the time.
            state: of the life cycle.
        """
        with self.core.lock:
            return self._statuses(now_us, state)

    def _statuses(self, now_us: int, state: str) -> list[Status]:
        cameras = self.core.camera_statuses(now_us)
        return [
            *(self._camera(camera) for camera in cameras),
            self._inference(now_us, cameras),
            self._motion(now_us),
            self._calibration(cameras),
            self._messages(now_us),
            self._sectors(now_us),
            *self._traffic(),
            self._status(
                "model",
                OK,
                self.model,
                ("fingerprint", self._fingerprint),
                ("mode", self.core.detector.mode),
                ("state", state),
            ),
        ]

    def _status(self, task: str, level: int, message: str, *values: tuple[str, object]) -> Status:
        return Status(
            name=f"{self._node}: {task}",
            level=level,
            message=message,
            hardware_id=self.model,
            values=tuple((key, str(value)) for key, value in values),
        )

    def _camera(self, camera: CameraStatus) -> Status:
        level = OK
        if camera.reason:
            level = ERROR if camera.state.loses_camera else WARN
        state = camera.state.value
        dropped = sum(camera.faults.values())
        values: list[tuple[str, object]] = [
            ("state", state),
            ("age_ms", _NOT_KNOWN if camera.age_us is None else f"{camera.age_us / 1000:.0f}"),
            ("rate_hz", _NOT_KNOWN if camera.rate_hz is None else f"{camera.rate_hz:.1f}"),
            ("received", camera.received),
            ("used", camera.used),
            ("faults", dropped),
            *((f"faults_{name}", count) for name, count in camera.faults.items()),
            ("calibration_changes", camera.calibration_changes),
        ]
        return Status(
            name=f"{self._node}: camera_{camera.name}",
            level=level,
            message=f"{state}: {camera.reason}" if camera.reason else state,
            hardware_id=camera.name,
            values=tuple((key, str(value)) for key, value in values),
        )

    def _inference(self, now_us: int, cameras: list[CameraStatus]) -> Status:
        core = self.core
        counts, faults, result = core.counts, core.faults, core.last_result
        level, message = OK, "running"
        total_ms = result.times_ms["total"] if result is not None else 0.0
        silent_us = core.parameters.microseconds("silent_after_ms")
        age_us = None if result is None else now_us - result.timestamp_us
        if self.times and total_ms > core.parameters["max_processing_time_ms"]:
            level, message = WARN, f"a step took {total_ms:.0f} ms: use a smaller model or a GPU"
        if result is not None and result.state.reset is Reset.RIG:
            level, message = WARN, "the rig changed, and the history was dropped"
        if _is_recent(faults.restart, now_us) and faults.restart is not None:
            level, message = WARN, f"another drive: {faults.restart[1]}"
        if age_us is None:
            level, message = ERROR, "no result yet: see the states of the cameras"
        elif age_us > 2 * silent_us:
            level, message = ERROR, f"no result for {age_us / 1e6:.1f} s: see the cameras' states"
        if all(camera.state.loses_camera for camera in cameras):
            level, message = ERROR, "all cameras are lost: see their states"
        elif faults.blind is not None:
            level, message = ERROR, faults.blind[1]
        if faults.step is not None:
            level, message = ERROR, f"the last frame was refused: {faults.step[1]}"
        return self._status(
            "inference",
            level,
            message,
            *self._stages(result),
            ("steps", counts.steps),
            ("skipped", counts.skipped + counts.dropped),
            ("without_camera", counts.blind),
            ("refused", counts.refused),
            ("too_old", counts.too_old),
            ("restarts", counts.restarts),
            ("reset", _NOT_KNOWN if result is None else result.state.reset.name),
        )

    def _stages(self, result: StepResult | None) -> Iterator[tuple[str, object]]:
        times_ms = result.times_ms if self.times and result is not None else {}
        for stage in ("images", "model", "tracking", "total", "cycle"):
            yield f"{stage}_ms", f"{times_ms[stage]:.1f}" if stage in times_ms else _NOT_KNOWN

    def _motion(self, now_us: int) -> Status:
        motion, faults = self.core.motion, self.core.faults
        level, message = OK, f"poses from {motion.source}"
        if motion.source == "none":
            level = WARN
            message = "the vehicle counts as standing: set ego_motion to odometry or tf"
        if motion.last_error:
            level, message = WARN, motion.last_error
        if faults.pose is not None:
            level = ERROR
            message = (
                f"frames have no pose, history and tracks are not used: {faults.pose[1]}: publish "
                f"{motion.base_frame} in {motion.odom_frame}, by {motion.source}"
            )
        last_us = motion.poses.last_us
        return self._status(
            "motion",
            level,
            message,
            ("source", motion.source),
            ("age_ms", _NOT_KNOWN if last_us is None else f"{(now_us - last_us) / 1000:.0f}"),
            ("frames_without_pose", self.core.counts.without_pose),
            ("errors", motion.errors),
        )

    def _calibration(self, cameras: list[CameraStatus]) -> Status:
        changes = sum(camera.calibration_changes for camera in cameras)
        frames = [camera.frame_fault for camera in cameras if camera.frame_fault]
        rig = self.core.faults.rig or (frames[0] if frames else "")
        level = WARN if rig or changes else OK
        message = rig or (f"{changes} changes since the start" if changes else "constant")
        return self._status(
            "calibration",
            level,
            message,
            ("camera_info_changes", changes),
            ("transform_changes", self.core.motion.static_changes),
        )

    def _messages(self, now_us: int) -> Status:
        fault, counts = self.core.faults.message, self.core.counts.undecodable
        recent = _is_recent(fault, now_us)
        return self._status(
            "messages",
            WARN if recent else OK,
            fault[1] if fault is not None and recent else "all messages were decoded",
            *((topic, count) for topic, count in sorted(counts.items())),
        )

    def _sectors(self, now_us: int) -> Status:
        result = self.core.last_result
        silent_us = self.core.parameters.microseconds("silent_after_ms")
        if result is None or now_us - result.timestamp_us > 2 * silent_us:
            return self._status("sectors", OK, "not known without a result")
        trust = result.state.sectors
        if trust is None:
            remedy = "fit it with tools/calibrate_sectors.py"
            return self._status("sectors", OK, f"the weights have no calibration of it: {remedy}")
        count = len(trust.trust)
        names = BEARINGS if count == len(BEARINGS) else [f"bearing_{i}" for i in range(count)]
        worst = names[int(trust.trust.mean(1).argmin())].replace("_", " ")
        rows = zip(names, trust.trust.tolist(), strict=True)
        texts = ((name, " ".join(f"{value:.2f}" for value in row)) for name, row in rows)
        return self._status("sectors", OK, f"from near to far; least: {worst}", *texts)

    def _traffic(self) -> Iterator[Status]:
        result = self.core.last_result
        if result is None or result.state.elements is None:
            return
        advice = [f"{cue.manoeuvre}: {cue.advice}" for cue in result.state.ego_cues]
        yield self._status(
            "traffic",
            OK,
            "; ".join(advice) or "no advice",
            ("elements", len(result.state.cues)),
            ("reset", result.state.cue_reset.name),
        )


def _is_recent(fault: tuple[int, str] | None, now_us: int) -> bool:
    return fault is not None and now_us - fault[0] <= _SHOWN_US
