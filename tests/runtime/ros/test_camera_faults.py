"""Eight faults of each of six cameras, for three durations, in bags that the node replays.

The detector judges the pictures as every stream does, but has no model: windows, states of the
cameras, masks and times are the node's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.store import MessageStore, open_store
from bevstack.runtime.detector import build
from bevstack.runtime.stream_protocol import FrameDetector
from tests.export.bags import stamp_us
from tests.runtime.node.inputs import PERIOD_US, START_US
from tests.runtime.ros.bags import on_topic, replay
from tests.runtime.ros.camera_faults import FAULTS, inject, killed, late
from tests.runtime.ros.six_cameras import CAMERAS, OFFSETS_US, WatchingDetector, drive
from tests.small_world import CONFIG

CYCLES = 60
FIRST = 10  # cycle of the first fault; each camera's starts one later
AFTER = 16  # cycles
DURATIONS_S = (0.3, 1.0, 3.0)
SECOND_US = 1_000_000


@dataclass(frozen=True)
class Run:
    """All that the node published, and its windows."""

    published: list[Publication]
    masks: dict[int, dict[str, bool]]  # by the time of the frame: the cameras that were used

    def states(self, camera: str) -> list[tuple[int, str, int]]:
        """Return times, states and levels of a camera in the diagnostics."""
        return [
            (p.timestamp_us, next(v.value for v in status.values if v.key == "state"), status.level)
            for p in self.published
            if p.topic == "/diagnostics"
            for status in p.message.status
            if status.name == f"bevstack: camera_{camera}"
        ]


class Runs:
    """Drives with faults, replayed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: MessageStore = open_store()
        self.clean = {raw: drive(self.store, CYCLES, raw=raw) for raw in (False, True)}

    def cut(self, cycles: int, *, raw: bool = False) -> list[Publication]:
        """Return the first cycles of the drive without faults."""
        end_us = START_US + cycles * PERIOD_US
        return [message for message in self.clean[raw] if message.timestamp_us < end_us]

    def run(
        self,
        messages: list[Publication],
        *,
        raw: bool = False,
        detector: FrameDetector | None = None,
    ) -> Run:
        """Write a bag, and replay it; one box a result suffices."""
        path = self.folder / "drive.mcap"
        write_bag(path, messages, self.store)
        watching = WatchingDetector()
        settings: dict[str, object] = {
            "image_transport": "raw" if raw else "compressed",
            "track": False,
            "score_threshold": 0.89,
        }
        parts, published = replay(path, detector or watching, settings, store=self.store)
        arrays = list(on_topic(published, "detections"))
        times = [stamp_us(message.header.stamp) for message in arrays]
        assert times == sorted(set(times)) and len(times) == parts.core.counts.steps
        assert parts.core.counts.refused == 0
        return Run(published, masks_of(watching, times))


def masks_of(detector: WatchingDetector, times: list[int]) -> dict[int, dict[str, bool]]:
    """Return the cameras that the detector used, by the time of the frame."""
    frames = detector.frames
    assert not frames or [frame.timestamp_us for frame in frames] == times
    if not frames:
        return {time_us: {} for time_us in times}
    return {
        frame.timestamp_us: dict(zip(frame.camera_names, frame.camera_mask.tolist(), strict=True))
        for frame in frames
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("faults"))


FAST = {("killed", 0, 1.0), ("late", 3, 0.3), ("frozen", 5, 0.3), ("miscoded", 2, 1.0)}
CASES = [
    pytest.param(
        name,
        number,
        duration_s,
        marks=() if (name, number, duration_s) in FAST else pytest.mark.slow,
        id=f"{name}-{camera}-{duration_s}s",
    )
    for name in FAULTS
    for number, camera in enumerate(CAMERAS)
    for duration_s in DURATIONS_S
]


@pytest.mark.parametrize("raw", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_drive_without_faults_gives_a_result_a_cycle_and_no_warning(
    runs: Runs, raw: bool
) -> None:
    run = runs.run(runs.clean[raw], raw=raw)
    assert len(run.masks) == CYCLES
    assert all(all(mask.values()) and len(mask) == 6 for mask in run.masks.values())
    assert {state for camera in CAMERAS for _, state, _ in run.states(camera)} == {"ok"}


@pytest.mark.parametrize(("name", "number", "duration_s"), CASES)
def test_a_fault_is_named_costs_no_results_and_passes(
    runs: Runs, name: str, number: int, duration_s: float
) -> None:
    camera, raw = CAMERAS[number], name == "miscoded"
    fault, state = FAULTS[name]
    if name == "late":  # 50 to 500 ms over the runs
        place = number * len(DURATIONS_S) + DURATIONS_S.index(duration_s)
        fault = late(50_000 + 450_000 * place // (len(CAMERAS) * len(DURATIONS_S) - 1))
    start_us = START_US + (FIRST + number) * PERIOD_US
    end_us = start_us + round(duration_s * SECOND_US)
    cycles = FIRST + number + round(10 * duration_s) + AFTER
    clean = runs.cut(cycles, raw=raw)
    messages = inject(clean, camera, fault, start_us=start_us, end_us=end_us)
    run = runs.run(messages, raw=raw)
    assert len(run.masks) >= 0.9 * cycles  # without the fault, each cycle has a result
    first_us = start_us + OFFSETS_US[camera]  # of the first faulty image
    named_us = [at_us for at_us, found, level in run.states(camera) if found == state and level]
    assert named_us and first_us <= named_us[0] <= first_us + SECOND_US
    for other in CAMERAS:
        if other != camera:
            assert {found for _, found, _ in run.states(other)} == {"ok"}
    last_us = max([end_us, *(m.timestamp_us for m in messages if _is_late(m, camera))])
    after = [mask for at_us, mask in run.masks.items() if at_us >= last_us]
    assert len(after) > 8 and all(all(mask.values()) for mask in after[1:])
    assert run.states(camera)[-1][1:] == ("ok", 0)


def _is_late(message: Publication, camera: str) -> bool:
    if not message.topic.startswith(f"/{camera}/image_raw"):
        return False
    return message.timestamp_us > stamp_us(message.message.header.stamp)


def test_the_same_number_of_results_comes_from_a_model(runs: Runs) -> None:
    clean = runs.cut(10)
    start_us, end_us = START_US + 3 * PERIOD_US, START_US + 7 * PERIOD_US
    messages = inject(clean, "CAM_BACK", killed, start_us=start_us, end_us=end_us)
    run = runs.run(messages, detector=build(CONFIG))
    assert len(run.masks) == 10
    assert ("missing", 2) in [found[1:] for found in run.states("CAM_BACK")]


def test_without_any_camera_diagnostics_go_on_and_no_result_comes(runs: Runs) -> None:
    messages = runs.clean[False]
    start_us = START_US + FIRST * PERIOD_US
    end_us = start_us + 3 * SECOND_US
    for camera in CAMERAS:
        messages = inject(messages, camera, killed, start_us=start_us, end_us=end_us)
    run = runs.run(messages)
    assert not [at_us for at_us in run.masks if start_us <= at_us < end_us]
    results = [p for p in run.published if p.topic != "/diagnostics"]
    assert not [p for p in results if start_us + 100_000 <= p.timestamp_us < end_us]
    for camera in CAMERAS:
        found = [(at, s, level) for at, s, level in run.states(camera) if start_us < at < end_us]
        assert len(found) >= 5  # 2 Hz
        assert all(
            s == "missing" and level == 2 for at, s, level in found if at > start_us + SECOND_US
        )
    after = [at_us for at_us in run.masks if at_us >= end_us]
    assert len(after) == CYCLES - FIRST - 30 and all(run.masks[after[0]].values())
