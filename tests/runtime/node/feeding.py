"""A drive of synthetic messages fed to a node's core, with faults in some cameras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bevstack.runtime.node.core import NodeCore
from bevstack.runtime.node.inputs import Image
from bevstack.runtime.node.steps import StepResult
from tests.runtime.node.inputs import (
    CAMERAS,
    JPEGS,
    OFFSETS_US,
    PERIOD_US,
    SIZE,
    START_US,
    file_image,
    info,
    odometry,
    picture,
    pixel_image,
)

# What a fault turns an image into: images with the time of their arrival.
Fault = Callable[[str, int], list[tuple[int, Image]]]


def healthy(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    return [(stamp_us, file_image(camera, stamp_us))]


def killed(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    return []


def late(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    return [(stamp_us + 250_000, file_image(camera, stamp_us))]


def stale(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    return [(stamp_us, file_image(camera, stamp_us - 3_000_000))]


def duplicated(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    return 2 * healthy(camera, stamp_us)


def reordered(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    back = file_image(camera, stamp_us - PERIOD_US // 2)
    return [*healthy(camera, stamp_us), (stamp_us, back)]


def truncated(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    return [(stamp_us, file_image(camera, stamp_us, JPEGS[0][:-150]))]


def miscoded(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    name = f"{camera.lower()}_optical_frame"
    return [(stamp_us, pixel_image(stamp_us, encoding="16UC1", frame_id=name))]


def misshapen(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    small = picture()[: SIZE[0] // 2]
    return [(stamp_us, pixel_image(stamp_us, size=(SIZE[0] // 2, SIZE[1]), data=small.reshape(-1)))]


def unstamped(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    return [(stamp_us, file_image(camera, 0))]


def in_another_time(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
    return [(stamp_us, file_image(camera, stamp_us + 10**12))]


# Name -> images, and the state that diagnostics must give.
FAULTS: dict[str, tuple[Fault, str]] = {
    "killed": (killed, "missing"),
    "late": (late, "late"),
    "stale": (stale, "stale"),
    "duplicated": (duplicated, "duplicate"),
    "reordered": (reordered, "out_of_order"),
    "truncated": (truncated, "rejected"),
    "miscoded": (miscoded, "rejected"),
    "misshapen": (misshapen, "rejected"),
    "unstamped": (unstamped, "rejected"),
    "in_another_time": (in_another_time, "rejected"),
}


@dataclass
class Feed:
    """Messages of a rig in the order of their arrival, and the results of the node.

    Args:
        core: the node.
        faults: by camera.
    """

    core: NodeCore
    faults: dict[str, Fault] = field(default_factory=dict)
    start_us: int = START_US
    results: list[tuple[int, StepResult]] = field(default_factory=list)
    now_us: int = START_US
    pending: list[tuple[int, Callable[[int], None]]] = field(default_factory=list)

    def run(self, cycles: int) -> list[tuple[int, StepResult]]:
        """Feed some cycles, and return the results of them with their times."""
        before = len(self.results)
        end_us = self.start_us + cycles * PERIOD_US
        events = sorted([*self.pending, *self._events(cycles)], key=lambda event: event[0])
        for now_us, deliver in events:
            if now_us < end_us:
                self._pass_time(now_us)
                deliver(now_us)
                self._step(now_us)
        self.pending = [event for event in events if event[0] >= end_us]
        self.start_us = end_us
        self._pass_time(end_us - 1)
        return self.results[before:]

    def _events(self, cycles: int) -> Iterator[tuple[int, Callable[[int], None]]]:
        for cycle in range(cycles):
            start_us = self.start_us + cycle * PERIOD_US
            for pose_us in range(start_us, start_us + PERIOD_US, PERIOD_US // 10):
                yield pose_us, lambda now_us: self.core.add_odometry(odometry(now_us))
            for camera in CAMERAS:
                stamp_us = start_us + OFFSETS_US[camera]
                for at_us, image in self.faults.get(camera, healthy)(camera, stamp_us):
                    yield at_us, self._image(camera, image)

    def _image(self, camera: str, image: Image) -> Callable[[int], None]:
        def deliver(now_us: int) -> None:
            self.core.add_info(camera, info(camera, now_us), now_us)
            self.core.add_image(camera, image, now_us)

        return deliver

    def _pass_time(self, now_us: int) -> None:
        while True:
            deadline_us = self.core.next_deadline_us()
            if deadline_us is None or deadline_us > now_us:
                break
            self._step(deadline_us)
        self.now_us = now_us
        self.core.advance(now_us)

    def _step(self, now_us: int) -> None:
        for window in self.core.close_due(now_us):
            result = self.core.step(window, now_us)
            if result is not None:
                self.results.append((now_us, result))
