"""Random sequences of messages and faults: the node never raises, and never goes back in time."""

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


class Machine(RuleBasedStateMachine):
    """A node that gets anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.detector = make_core()
        self.author = Diagnostician(self.core, model="fake", times=True)
        self.now_us = START_US
        self.last: dict[str, int] = {}  # time of the last result, by drive
        self.good: set[tuple[str, int]] = set()  # images that may be used

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

    @rule(number=NUMBERS, place=st.integers(0, 6), child=st.sampled_from(("base_link", "x", "")))
    def send_odometry(self, number: float, place: int, child: str) -> None:
        values = np.array((0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0))
        values[place] = number
        self.core.add_odometry(
            odometry(self.now_us, child=child, translation_m=values[:3], rotation_wxyz=values[3:])
        )

    @rule(camera=st.sampled_from(CAMERAS), number=NUMBERS, field=st.sampled_from("kdrp"))
    def send_info(self, camera: str, number: float, field: str) -> None:
        values = getattr(info(camera), field).copy()
        values.flat[0] = number
        self.core.add_info(camera, info(camera, **{field: values}), self.now_us)

    @rule(camera=st.sampled_from(CAMERAS), parent=st.sampled_from(("base_link", "odom", "loop")))
    def send_transform(self, camera: str, parent: str) -> None:
        self.core.add_transform(dataclasses.replace(mounted(camera), parent=parent))

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

    def _image(self, camera: str, stamp_us: int, kind: str) -> Any:
        if kind in ("good", "cut", "noise"):
            data = {"good": JPEGS[0], "cut": JPEGS[0][:400], "noise": b"\xff\xd8" + bytes(300)}
            return file_image(camera, stamp_us, data[kind])
        if kind == "zero":
            return FileImage(timestamp_us=0, frame_id="", format="", data=b"")
        changes = {"encoding": "h264", "step": 1, "size": (0, 1 << 40)}
        return pixel_image(stamp_us, **{kind: changes[kind]})

    def _step(self) -> None:
        for window in self.core.close_due(self.now_us):
            result = self.core.step(window, self.now_us)
            if result is None:
                continue
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
    run_machine(8, 25)


@pytest.mark.slow  # minutes
def test_a_thousand_random_sequences() -> None:
    run_machine(1_000, 40)
