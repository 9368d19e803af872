"""Random sequences of messages and faults, given to the node's core without ROS.

The node never raises, never goes back in time, never gives an old result, and its memory is
bounded. Life-cycle transitions succeed and fail in between.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from bevstack.runtime.node.diagnostics import Diagnostician
from bevstack.runtime.node.inputs import FileImage
from bevstack.runtime.node.lifecycle import TRANSITIONS, Lifecycle, State
from bevstack.runtime.node.steps import StepResult
from tests.runtime.node.inputs import (
    CAMERAS,
    JPEGS,
    PERIOD_US,
    START_US,
    file_image,
    info,
    make_core,
    mounted,
    odometry,
    pixel_image,
)

OFFSETS_MS = st.sampled_from((-4_000, -900, -120, -70, -30, -1, 0, 0, 0, 20, 600, 10**9))
IMAGES = st.sampled_from(
    ("good", "good", "good", "cut", "noise", "encoding", "step", "size", "zero")
)
NUMBERS = st.sampled_from((0.0, 1.0, -1.0, 1e-9, 1e300, float("nan"), float("inf")))
JUMPS_US = st.sampled_from((-10_000_000, -600_000, -200_000, 0, 6_000_000, 10**12))
STAMPS_MS = st.sampled_from((0, 0, 0, 10, 400, -9_000, -20_000, 3_000, 10**9, -(10**9)))
QUATERNIONS = st.sampled_from(
    ((1.0, 0, 0, 0), (0.5, 0.5, 0.5, 0.5), (0.0, 0, 0, 0), (2.0, 0, 0, 0), (np.nan, 0, 0, 1.0))
)
FRAMES = st.sampled_from(("base_link", "odom", "map", "loop", "", "/base_link", "\u00e9" * 300))


class Machine(RuleBasedStateMachine):
    """A node that gets anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.detector = make_core()
        self.author = Diagnostician(self.core, model="fake", times=True)
        self.now_us = START_US
        self.last: dict[str, int] = {}  # time of the last result, by drive
        self.good: set[tuple[str, int]] = set()  # images that may be used
        self.fails = False  # transitions
        labels = {transition.label for transition in TRANSITIONS}
        self.lifecycle = Lifecycle(dict.fromkeys(labels, self._change))
        self.lifecycle.change("configure")
        self.lifecycle.change("activate")

    @rule(camera=st.sampled_from(CAMERAS), offset_ms=OFFSETS_MS, kind=IMAGES)
    def send_image(self, camera: str, offset_ms: int, kind: str) -> None:
        stamp_us = self.now_us + 1000 * offset_ms
        self.core.add_image(camera, self._image(camera, stamp_us, kind), self.now_us)
        if kind == "good":
            self.good.add((camera, stamp_us))

    @rule()
    def send_whole_cycle(self) -> None:
        self.core.add_odometry(odometry(self.now_us))
        for number, camera in enumerate(CAMERAS):
            stamp_us = self.now_us + 1000 * number
            self.core.add_info(camera, info(camera), stamp_us)
            self.core.add_image(camera, file_image(camera, stamp_us), stamp_us)
            self.good.add((camera, stamp_us))
        self.now_us += 5000
        self.core.add_odometry(odometry(self.now_us))

    @rule(time_us=st.sampled_from((0, 1_000, 30_000, 60_000, PERIOD_US, 1_500_000)))
    def wait(self, time_us: int) -> None:
        self.now_us += time_us
        self._step()

    @rule(jump_us=JUMPS_US)
    def jump(self, jump_us: int) -> None:
        self.now_us = max(START_US, self.now_us + jump_us)
        self._step()

    @rule(number=NUMBERS, turned=QUATERNIONS, child=FRAMES, offset_ms=STAMPS_MS)
    def send_odometry(
        self, number: float, turned: tuple[float, ...], child: str, offset_ms: int
    ) -> None:
        stamp_us = self.now_us + 1000 * offset_ms
        place, turn = np.array((0.0, number, 0.0)), np.array(turned, dtype=np.float64)
        message = odometry(stamp_us, child=child, translation_m=place, rotation_wxyz=turn)
        self.core.add_odometry(message)

    @rule(camera=st.sampled_from(CAMERAS), number=NUMBERS, field=st.sampled_from("kdrp"))
    def send_info(self, camera: str, number: float, field: str) -> None:
        values = getattr(info(camera), field).copy()
        values.flat[0] = number
        self.core.add_info(camera, info(camera, **{field: values}), self.now_us)

    @rule(camera=st.sampled_from(CAMERAS), parent=FRAMES, child=FRAMES, turned=QUATERNIONS)
    def send_transform(
        self, camera: str, parent: str, child: str, turned: tuple[float, ...]
    ) -> None:
        turn = np.array(turned, dtype=np.float64)
        self.core.add_transform(dataclasses.replace(mounted(camera), parent=parent))
        other = dataclasses.replace(mounted(camera), child=child, rotation_wxyz=turn)
        self.core.add_transform(other)

    @rule(camera=st.sampled_from(CAMERAS), frame_id=FRAMES)
    def move_camera_to_another_frame(self, camera: str, frame_id: str) -> None:
        self.core.add_info(camera, info(camera, frame_id=frame_id), self.now_us)
        stamp_us = self.now_us + 1
        image = dataclasses.replace(file_image(camera, stamp_us), frame_id=frame_id)
        self.core.add_image(camera, image, self.now_us)
        self.good.add((camera, stamp_us))

    @rule(camera=st.sampled_from(CAMERAS), width=st.sampled_from((0, 39, 41, 1 << 20)))
    def send_info_of_another_size(self, camera: str, width: int) -> None:
        self.core.add_info(camera, info(camera, size=(24, width)), self.now_us)

    @rule(topic=st.sampled_from(("/tf", "/CAM_FRONT/camera_info", "/CAM_BACK/image_raw")))
    def send_undecodable(self, topic: str) -> None:
        self.core.add_undecodable(topic, "message must be another", self.now_us)

    @rule(
        label=st.sampled_from(sorted({t.label for t in TRANSITIONS} | {"x"})), fails=st.booleans()
    )
    def change_state(self, label: str, fails: bool) -> None:
        self.fails = fails
        before = self.lifecycle.state
        possible = {transition.label for transition in self.lifecycle.transitions()}
        change = self.lifecycle.change(label)
        assert bool(change.reason) == (fails or label not in possible)
        assert not change.reason or change.state is before

    @rule(cycles=st.integers(10, 80))
    def let_a_step_take_long(self, cycles: int) -> None:
        for _ in range(cycles):
            self.now_us += PERIOD_US
            for camera in CAMERAS[:2]:
                self.core.add_image(camera, file_image(camera, self.now_us), self.now_us)
                self.good.add((camera, self.now_us))
        self._step(newest=True)

    @rule(refuse=st.booleans())
    def let_the_detector_refuse(self, refuse: bool) -> None:
        self.detector.streams[-1].refuse = refuse

    @rule(
        name=st.sampled_from(("sync_timeout_ms", "max_camera_time_diff_ms", "max_age_ms", "x")),
        value=st.sampled_from((0, 1, 55.5, 1e9, "y", None)),
    )
    def set_parameter(self, name: str, value: object) -> None:
        try:
            self.core.parameters.set(name, value)
        except ValueError as error:
            assert str(error).startswith("parameter ")

    @invariant()
    def diagnostics_are_whole(self) -> None:
        found = self.author.statuses(self.now_us)
        assert len(found) >= len(CAMERAS) + 5
        assert all(isinstance(text, str) for s in found for pair in s.values for text in pair)
        assert all(status.message and status.level in (0, 1, 2) for status in found)

    @invariant()
    def memory_is_bounded(self) -> None:
        synchroniser = self.core._synchroniser
        assert len(synchroniser._open) <= 64
        assert all(len(camera._images) <= 10 for camera in self.core.cameras.values())
        assert len(self.core.motion.poses) <= 10_000

    def _image(self, camera: str, stamp_us: int, kind: str) -> Any:
        if kind in ("good", "cut", "noise"):
            data = {"good": JPEGS[0], "cut": JPEGS[0][:400], "noise": b"\xff\xd8" + bytes(300)}
            return file_image(camera, stamp_us, data[kind])
        if kind == "zero":
            return FileImage(timestamp_us=0, frame_id="", format="", data=b"")
        changes = {"encoding": "h264", "step": 1, "size": (0, 1 << 40)}
        return pixel_image(stamp_us, **{kind: changes[kind]})

    def _change(self) -> None:
        if self.fails:
            raise RuntimeError("out of memory")

    def _step(self, *, newest: bool = False) -> None:
        windows = self.core.close_due(self.now_us)
        computed = windows[-1:] if newest else windows
        if self.lifecycle.state is not State.ACTIVE:
            computed = []
        for window in windows:
            if window not in computed:
                self.core.skip(window)
        for window in computed:
            result = self.core.step(window, self.now_us)
            if result is not None:
                self._check(result)

    def _check(self, result: StepResult) -> None:
        assert self.now_us - result.timestamp_us <= 1000 * self.core.parameters["max_age_ms"]
        assert result.timestamp_us > self.last.get(result.drive, 0)
        self.last[result.drive] = result.timestamp_us
        frame = result.frame
        used = zip(
            frame.camera_names,
            frame.camera_timestamp_us,
            frame.camera_mask.tolist(),
            strict=True,
        )
        assert {(name, stamp) for name, stamp, works in used if works} <= self.good
        assert len(result.detections) == int(frame.camera_mask.sum())


def run_machine(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_few_random_sequences() -> None:
    run_machine(25, 15)


@pytest.mark.slow  # minutes
def test_a_thousand_random_sequences() -> None:
    run_machine(1_000, 40)
