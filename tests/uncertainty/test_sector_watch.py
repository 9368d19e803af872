"""Views of sectors: which cameras see a place, now and in the model's history."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bevstack.types import Frame
from bevstack.types.health import CameraState
from bevstack.uncertainty.sector_watch import SectorWatch
from bevstack.uncertainty.sectors import BLIND, DOUBTFUL, LATE, REMEMBERED, SEEN, sector_places
from tests.uncertainty.rigs import HEIGHT_M, NAMES, SIZE, odd_sector_model, ring_frame

STEP_US = 500_000


def sees(yaw_deg: float, half_fov_deg: float, place: np.ndarray) -> bool:
    """Return True if a level camera at the origin sees a place, by angles alone."""
    x, y, z = place
    turn = math.atan2(y, x) - math.radians(yaw_deg)
    turn = math.atan2(math.sin(turn), math.cos(turn))
    if abs(turn) >= math.radians(half_fov_deg):
        return False
    # Rows: the focal length in pixels is W / 2 / tan(half_fov).
    depth = math.hypot(x, y) * math.cos(turn)
    limit = SIZE[0] / SIZE[1] * math.tan(math.radians(half_fov_deg))
    return abs(HEIGHT_M - z) / depth < limit


def reference(yaws: tuple[float, ...], half: float, kinds: dict[float, int]) -> np.ndarray:
    places = sector_places()
    found = np.full(places.shape[:-1], BLIND)
    for index in np.ndindex(*found.shape):
        own = [kinds[yaw] for yaw in yaws if sees(yaw, half, places[index])]
        found[index] = min(own, default=BLIND)
    return found


def first(frame: Frame, states: dict[str, CameraState] | None = None) -> np.ndarray:
    return SectorWatch(odd_sector_model()).kinds(frame, states or {})


@pytest.mark.parametrize(
    ("yaws", "half"), [((0.0, 90.0, 180.0, 270.0), 40.0), ((20.0, 140.0, 250.0), 55.0)]
)
def test_kinds_of_view_equal_those_by_angles(yaws: tuple[float, ...], half: float) -> None:
    states = {NAMES[0]: CameraState.LATE, NAMES[1]: CameraState.TURNED}
    kinds = {yaws[0]: LATE, yaws[1]: DOUBTFUL} | dict.fromkeys(yaws[2:], SEEN)
    frame = ring_frame(yaws_deg=yaws, half_fov_deg=half)
    wanted = reference(yaws, half, kinds)
    assert np.array_equal(first(frame, states), wanted)
    assert len(np.unique(wanted)) == 4


def test_a_lost_camera_lowers_the_trust_where_it_looks_alone() -> None:
    def trust(frame: Frame) -> np.ndarray:
        return SectorWatch(odd_sector_model()).look(frame, {}).trust

    whole, without = trust(ring_frame()), trust(ring_frame(lost=("CAM_LEFT",)))
    lower = (without < whole).any(1)
    # 40 degrees on both sides of 90: the sectors at 45, 90 and 135 degrees
    assert lower.tolist() == [False, True, True, True, False, False, False, False]
    assert np.array_equal(whole[~lower], without[~lower]) and (without[2] < 0.1).all()


def test_places_that_the_history_has_seen_are_remembered_in_their_new_direction() -> None:
    watch = SectorWatch(odd_sector_model())
    watch.kinds(ring_frame(), {})
    # The vehicle turns by 90 degrees: its front camera, now lost, looks where the left one did.
    turned = ring_frame(lost=("CAM_FRONT",), time_us=1_600_000_000_000_000 + STEP_US, yaw_deg=90.0)
    kind = watch.kinds(turned, {})
    assert (kind[0] == REMEMBERED).mean() > 0.9 and (kind[2] == SEEN).mean() > 0.9
    assert set(np.unique(first(turned)[0])) == {BLIND}


def test_a_place_that_lay_behind_no_camera_is_not_remembered() -> None:
    watch = SectorWatch(odd_sector_model())
    watch.kinds(ring_frame(lost=("CAM_FRONT",)), {})
    again = ring_frame(lost=("CAM_FRONT",), time_us=1_600_000_000_000_000 + STEP_US)
    assert (watch.kinds(again, {})[0] == BLIND).all()


def test_a_doubtful_camera_leaves_nothing_to_remember() -> None:
    watch = SectorWatch(odd_sector_model())
    watch.kinds(ring_frame(), {"CAM_FRONT": CameraState.COVERED})
    later = ring_frame(lost=("CAM_FRONT",), time_us=1_600_000_000_000_000 + STEP_US)
    assert (watch.kinds(later, {})[0] == BLIND).all()


@pytest.mark.parametrize(
    "change",
    [
        {"time_us": 1_600_000_000_000_000 + 2_000_000},  # beyond 1.75 s
        {"time_us": 1_600_000_000_000_000 - STEP_US},
        {"time_us": 1_600_000_000_000_000 + STEP_US, "scene": "b"},
        {"time_us": 1_600_000_000_000_000 + STEP_US, "posed": False},
        {"time_us": 1_600_000_000_000_000 + STEP_US, "x_m": 900.0},  # a jump
    ],
)
def test_history_does_not_count_after_a_gap_or_a_jump(change: dict) -> None:
    watch = SectorWatch(odd_sector_model())
    watch.kinds(ring_frame(), {})
    kind = watch.kinds(ring_frame(lost=("CAM_FRONT",), **change), {})
    assert (kind[0] == BLIND).all()


def test_a_model_without_history_remembers_nothing() -> None:
    watch = SectorWatch(odd_sector_model(memory_s=0.0))
    watch.kinds(ring_frame(), {})
    later = ring_frame(lost=("CAM_FRONT",), time_us=1_600_000_000_000_000 + STEP_US)
    assert (watch.kinds(later, {})[0] == BLIND).all()


def test_the_same_frame_twice_is_judged_once() -> None:
    watch, frame = SectorWatch(odd_sector_model()), ring_frame()
    assert watch.kinds(frame, {}) is watch.kinds(frame, {})
    blind = replace(frame, images=[None] * 4, camera_mask=None)
    assert (watch.look(blind, {}).trust < 0.5).all()
