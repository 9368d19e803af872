"""A small world with the traffic of the preset `lights`: tables, geometry, states and pictures."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from bevstack.synthetic import WorldSpec, make_world
from bevstack.tables.traffic_elements import read_lanes, read_traffic_elements
from bevstack.tables.traffic_states import read_ego_lanes, read_timelines
from bevstack.types.traffic import Lamp, TrafficElement
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT
from tests.small_world import build_once

SPEC = WorldSpec(
    seed=3,
    train_scenes=0,
    val_scenes=0,
    test_scenes=8,
    samples_per_scene=4,
    image_size=(270, 480),
    lidar_azimuths=64,
    traffic="rich",
    front_sweeps=True,
)
FRONT_M = 3.6  # from the ego's origin to its front bumper

Rows = list[dict[str, Any]]


class World(NamedTuple):
    root: Path
    folder: Path

    def rows(self, table: str) -> Rows:
        """Return the raw rows of a table."""
        rows: Rows = json.loads((self.folder / f"{table}.json").read_text())
        return rows


@pytest.fixture(scope="session")
def lights(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the world of SPEC."""

    def build(folder: Path) -> None:
        make_world(folder / "world", SPEC)

    root = build_once(tmp_path_factory, "lights_world", build) / "world"
    return World(root, root / SPEC.version)


def states_by_hand(row: dict[str, Any], time_us: int) -> list[dict[str, str]]:
    """Return the lamps that are lit at a time, by a loop over a row of traffic_state.json."""
    state: list[dict[str, str]] = row["lamps"][0]
    for start, lamps in zip(row["timestamp_us"], row["lamps"], strict=True):
        if start <= time_us:
            state = lamps
    lit = []
    for lamp in state:
        if lamp["status"] == "flashing":
            half_waves = 2 * (time_us - row["flash_offset_us"]) * row["flash_hz"] // 1_000_000
            if half_waves % 2 == 0:
                lit.append({**lamp, "status": "on"})
        else:
            lit.append(lamp)
    return lit


def test_the_readers_take_every_row_and_check_lanes_and_boxes(lights: World) -> None:
    lanes = read_lanes(lights.folder)
    elements = read_traffic_elements(lights.folder, lanes=lanes, image_size=SPEC.image_size)
    assert len(elements) == len(lights.rows("traffic_element")) > 200
    assert len(read_timelines(lights.folder)) == len(lights.rows("traffic_state"))
    assert len(read_ego_lanes(lights.folder, lanes=lanes)) == 32
    users = {element.road_user for element in elements if element.category == TRAFFIC_LIGHT}
    assert users == {"vehicle", "pedestrian"}
    limits = [e.speed_limit_mps for e in elements if e.meaning == "speed_limit"]
    assert limits and all(limit is not None and 5.5 < limit < 22.3 for limit in limits)
    manifest = json.loads((lights.root / "world.json").read_text())
    assert manifest["files"] == sum(path.is_file() for path in lights.root.rglob("*"))


def test_lamps_of_a_row_are_those_of_the_timeline_at_the_images_time(lights: World) -> None:
    times = {row["token"]: row["timestamp"] for row in lights.rows("sample_data")}
    timelines = {row["instance_token"]: row for row in lights.rows("traffic_state")}
    read = read_timelines(lights.folder)
    colours = ["unknown", "red", "green", "yellow"]
    seen, shown = set(), set()
    for row in lights.rows("traffic_element"):
        assert ("lamp_pixels" in row) == (row["category"] == TRAFFIC_LIGHT)
        if row["category"] != TRAFFIC_LIGHT:
            continue
        time_us = times[row["sample_data_token"]]
        expected = states_by_hand(timelines[row["instance_token"]], time_us)
        assert row["lamps"] == expected
        lit = tuple(Lamp(**lamp) for lamp in expected)
        assert read[row["instance_token"]].lit_at(time_us) == lit
        names = {lamp["color"] for lamp in expected}
        first = next((c for c in ("red", "yellow", "green") if c in names), "unknown")
        hidden = row["lamp_pixels"] < 1  # the image does not show them
        first = "unknown" if hidden else first
        assert colours[row["attribute"]] == first
        assert TRAFFIC_ELEMENT_ATTRIBUTES[row["attribute"]] == first
        seen |= names
        shown |= {(hidden, bool(names))}
    assert shown == {(False, True), (False, False), (True, True), (True, False)}
    assert seen == {"red", "yellow", "green"}


def test_neighbouring_lanes_differ_at_the_same_moment(lights: World) -> None:
    ego = read_ego_lanes(lights.folder)
    by_sample: dict[str, list[TrafficElement]] = defaultdict(list)
    for element in read_traffic_elements(lights.folder):
        if element.camera == "CAM_FRONT" and element.road_user == "vehicle" and element.lamps:
            by_sample[element.sample_token].append(element)
    differ = 0
    for sample, elements in by_sample.items():
        own = [e for e in elements if ego[sample].lane_token in e.lane_tokens]
        if own and own[0].yaw_rad is not None:
            parallel = [e for e in elements if np.cos((e.yaw_rad or 0.0) - own[0].yaw_rad) > 0.97]
            differ += any(
                {p.color for p in e.lamps or ()} != {p.color for p in own[0].lamps or ()}
                for e in parallel
            )
    assert differ >= 5


def test_lanes_continue_and_stop_lines_lie_before_junctions(lights: World) -> None:
    lanes = read_lanes(lights.folder)
    assert any(len(lane.successors) > 1 for lane in lanes.values())
    turns = {m for lane in lanes.values() for m in lane.manoeuvres}
    assert turns == {"straight", "left", "right"}
    for lane in lanes.values():
        for successor in lane.successors:
            gap = np.hypot(*(lane.points_m[-1] - lanes[successor].points_m[0]))
            assert gap < 0.5
        length = np.hypot(*np.diff(lane.points_m, axis=0).T).sum()
        if lane.stop_line_s_m:  # one connection for each manoeuvre that is allowed
            assert tuple(sorted(lane.manoeuvres)) == tuple(
                sorted(lanes[s].manoeuvres[0] for s in lane.successors)
            )
        assert all(length - 3.0 < s < length for s in lane.stop_line_s_m)


def test_a_connection_bends_to_the_side_of_its_manoeuvre(lights: World) -> None:
    bends = defaultdict(list)
    for lane in read_lanes(lights.folder).values():
        if not lane.stop_line_s_m and len(lane.manoeuvres) == 1:
            first, last = lane.points_m[1] - lane.points_m[0], lane.points_m[-1] - lane.points_m[-2]
            angle = np.arctan2(first[0] * last[1] - first[1] * last[0], first @ last)
            bends[lane.manoeuvres[0]].append(np.degrees(angle))
    assert min(bends["left"]) > 45 and max(bends["right"]) < -45
    assert np.abs(bends["straight"]).max() < 20


def test_ego_is_in_its_lane_and_knows_the_way_to_its_stop_line(lights: World) -> None:
    lanes, ego = read_lanes(lights.folder), read_ego_lanes(lights.folder)
    poses = {row["token"]: row for row in lights.rows("ego_pose")}
    stopped = 0
    for row in lights.rows("sample_data"):
        if not row["is_key_frame"] or "LIDAR_TOP" not in row["filename"]:
            continue
        place = ego[row["sample_token"]]
        lane = lanes[place.lane_token]
        position = np.array(poses[row["ego_pose_token"]]["translation"][:2])
        gaps = np.hypot(*(lane.points_m - position).T)
        assert gaps.min() < 2.0
        if place.stop_line_m is not None and lane.stop_line_s_m:
            steps = np.hypot(*np.diff(lane.points_m, axis=0).T)
            along = np.concatenate([[0.0], np.cumsum(steps)])[gaps.argmin()]
            if lane.stop_line_s_m[0] - along > 1.0:
                # the nearest point of the centre line is at most half of its spacing away
                assert place.stop_line_m == pytest.approx(lane.stop_line_s_m[0] - along, abs=0.6)
                stopped += 1
    assert stopped > 5


def test_ego_never_crosses_its_stop_line_at_red(lights: World) -> None:
    lanes, ego = read_lanes(lights.folder), read_ego_lanes(lights.folder)
    samples = {row["token"]: row for row in lights.rows("sample")}
    timelines = {row["instance_token"]: row for row in lights.rows("traffic_state")}
    governing: dict[str, str] = {}
    for element in read_traffic_elements(lights.folder):
        if element.category == TRAFFIC_LIGHT:
            for token in element.lane_tokens:
                governing.setdefault(token, element.instance_token)
    checked = 0
    for token, sample in samples.items():
        here, following = ego[token], ego.get(sample["next"])
        if (
            following is None
            or here.stop_line_m is None
            or not lanes[here.lane_token].stop_line_s_m
        ):
            continue
        behind = following.stop_line_m is None or following.stop_line_m > here.stop_line_m
        after = -1.0 if behind else following.stop_line_m - FRONT_M
        if here.stop_line_m - FRONT_M > 0.0 > after and here.lane_token in governing:
            row = timelines[governing[here.lane_token]]
            moments = np.linspace(sample["timestamp"], samples[sample["next"]]["timestamp"], 11)
            colours = [{p["color"] for p in states_by_hand(row, int(t))} for t in moments]
            assert any("red" not in c for c in colours)
            checked += 1
    assert checked >= 1


def test_lamps_have_their_colour_in_the_pictures(lights: World) -> None:
    files = {row["token"]: row["filename"] for row in lights.rows("sample_data")}
    raw = {row["token"]: row for row in lights.rows("traffic_element")}
    right = total = 0
    for element in read_traffic_elements(lights.folder):
        left, top, end, bottom = element.box_px
        size = max(end - left, bottom - top)
        if not element.lamps or len(element.lamps) > 1 or size < 18 or element.visibility < 0.95:
            continue
        inside = left > 1 and top > 1 and end < 479 and bottom < 269
        if raw[element.token]["is_dark"] or element.lamps[0].shape != "circle" or not inside:
            continue
        picture = cv2.imread(str(lights.root / files[element.sample_data_token]))
        box = picture[round(top) : round(bottom), round(left) : round(end)].reshape(-1, 3)
        value = box[box.max(axis=1).argmax()].astype(int)
        bright = box[box.max(axis=1) > 0.9 * value.max()].mean(axis=0)
        hue = float(cv2.cvtColor(bright[None, None].astype(np.uint8), cv2.COLOR_BGR2HSV)[0, 0, 0])
        ranges = {"red": ((0, 10), (165, 180)), "yellow": ((11, 36),), "green": ((50, 95),)}
        right += any(a <= hue <= b for a, b in ranges[element.lamps[0].color])
        total += 1
    assert total >= 20
    assert right >= 0.9 * total  # haze, glare and glow wash out some of them


def test_front_camera_of_test_scenes_has_images_at_twelve_hertz(lights: World) -> None:
    rows = [r for r in lights.rows("sample_data") if not r["is_key_frame"]]
    assert {r["filename"].split("/")[1] for r in rows} == {"CAM_FRONT"}
    assert len(rows) == 8 * 3 * 5 and all((lights.root / r["filename"]).is_file() for r in rows)
    front = [r for r in lights.rows("sample_data") if "/CAM_FRONT/" in r["filename"]]
    first = sorted(r["timestamp"] for r in front)[:16]
    assert np.diff(first).max() <= 83_334  # 12 Hz


def test_flashing_alternates_at_its_rate() -> None:
    from bevstack.synthetic.streets.signal_plan import FLASHING, THROUGH, RichSignals
    from bevstack.types.traffic import ElementTimeline

    plan = RichSignals(
        0.0, 8.0, 8.0, flash_hz=1.25, flash_green_s=0.0, offsets_s=(0.0,), modes=(FLASHING,)
    )
    assert plan.colours(THROUGH, 3.0) == (("yellow", "flashing"),)
    lamps = ((Lamp("yellow", "circle", "flashing"),),)
    line = ElementTimeline("i", "s", np.array([0]), lamps, plan.flash_hz, 100_000)
    # 0.8 s a period, looked at in the middle of each of 16 intervals of 0.1 s
    lit = [bool(line.lit_at(150_000 + k * 100_000)) for k in range(16)]
    assert lit == [True] * 4 + [False] * 4 + [True] * 4 + [False] * 4


@pytest.mark.parametrize("movement", range(6))
def test_states_of_a_plan_equal_its_colours_at_every_moment(movement: int) -> None:
    from bevstack.synthetic.streets.signal_plan import draw_signals

    for seed in range(4):
        rng = np.random.default_rng(seed)
        plan = draw_signals(rng, 2, protected=seed % 2 == 0, night=False, walk_s=6.0)
        phase = plan.phase(1, movement)
        times, states = plan.states(phase, -3.0, 60.0)
        for time_s in rng.uniform(-3.0, 60.0, 200):
            index = max(k for k, t in enumerate(times) if t <= time_s)
            if min(abs(t - time_s) for t in times) > 1e-6:
                assert states[index] == plan.colours(phase, float(time_s))


def has_green(is_red: Callable[[int, float], bool], movement: int, time_s: float) -> bool:
    """Return True if a movement has green at a time."""
    return not is_red(8 + movement, time_s)


def test_conflicting_movements_never_have_green_together() -> None:
    from bevstack.synthetic.streets.signal_plan import (
        ACROSS,
        CROSS,
        NORMAL,
        THROUGH,
        draw_signals,
    )

    plan = draw_signals(np.random.default_rng(5), 2, protected=True, night=False, walk_s=6.0)
    assert plan.modes[1] == NORMAL
    green_together = {
        tuple(m for m in (THROUGH, ACROSS, CROSS) if has_green(plan.is_red, m, t))
        for t in np.arange(0.0, 80.0, 0.05)
    }
    assert green_together == {(), (THROUGH,), (ACROSS,), (CROSS,)}


def test_traffic_is_left_out_of_the_manifest_of_old_worlds() -> None:
    assert {"traffic", "front_sweeps"} & WorldSpec().to_json().keys() == set()
    assert {"traffic", "front_sweeps"} <= SPEC.to_json().keys()
    with pytest.raises(ValueError, match=r"WorldSpec.traffic must be 'simple' or 'rich'; got 'x'"):
        WorldSpec(traffic="x")
