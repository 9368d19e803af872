"""Traffic lights and signs: states, boxes compared with masks, and their lanes."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bevstack.synthetic import WorldSpec
from bevstack.synthetic.recording.camera import Sensor, freeze, take_picture
from bevstack.synthetic.recording.traffic_element_labels import control_rows
from bevstack.synthetic.renderer.patterns import paint
from bevstack.synthetic.renderer.primitives import Pattern
from bevstack.synthetic.scene import Scene, build_scene
from bevstack.synthetic.streets.light_cycle import Signals
from bevstack.tables.traffic_elements import read_lanes, read_traffic_elements
from bevstack.vocabulary import CAMERA_CHANNELS, ROAD_SIGN, TRAFFIC_LIGHT
from tests.synthetic.conftest import SMALL

RED, GREEN, YELLOW = 1, 2, 3
NOISELESS = Sensor(
    supersampling=1, gains=np.ones(3), noise=np.zeros((2, 2), np.float32), noise_at=(0, 0)
)


@pytest.fixture(scope="module")
def junction() -> Scene:
    """Build a scene by day in which the ego approaches a visible traffic light."""
    spec = WorldSpec(seed=5, train_scenes=40, samples_per_scene=9, weather="overcast")
    for name in spec.split_scenes["train"]:
        scene = build_scene(spec, name)
        ahead = [
            c
            for c in scene.controls
            if c.category == TRAFFIC_LIGHT and 12 < forward(scene, c, 1.0) < 40 and c.phase == 0
        ]
        if ahead:
            return scene
    raise AssertionError("no scene shows a light ahead")


def forward(scene: Scene, control, time_s: float) -> float:
    x, y, yaw = scene.ego.pose[round(10 * (time_s + 1))]
    dx, dy = control.centre_m[0] - x, control.centre_m[1] - y
    lateral = abs(np.cos(yaw) * dy - np.sin(yaw) * dx)
    return float(np.cos(yaw) * dx + np.sin(yaw) * dy) if lateral < 8 else -1.0


def test_lights_go_from_green_over_yellow_to_red_and_never_show_green_to_both():
    signals = Signals(offset_s=4.0, main_s=12.0, cross_s=8.0)
    for phase in (0, 1):
        shown = [signals.colour(phase, t) for t in np.arange(0.0, 52.0, 0.1)]
        changes = {(a, b) for a, b in itertools.pairwise(shown) if a != b}
        assert changes == {(GREEN, YELLOW), (YELLOW, RED), (RED, GREEN)}
        assert shown.count(YELLOW) == pytest.approx(2 * 20, abs=2)  # two cycles of 26 s, 2 s each
        for t in np.arange(0.0, 52.0, 0.1):
            assert (signals.colour(phase, t) == GREEN) != signals.is_red(phase, t)


def test_lit_lamp_is_the_one_of_the_state():
    heights = {RED: 5 / 6, YELLOW: 3 / 6, GREEN: 1 / 6}
    for state in heights:
        for colour, v in heights.items():
            *rgb, emission = paint(
                Pattern.TRAFFIC_LIGHT, 0, 0.5, v, 0, 0, (0.1,) * 3, (0.1,) * 3, float(state), 0.0
            )
            assert (emission == 1.0) == (state == colour)
            dominant = {
                RED: rgb[0] > 2 * rgb[1],
                GREEN: rgb[1] > 2 * rgb[0],
                YELLOW: rgb[0] > rgb[1],
            }
            assert dominant[colour]
    behind = paint(Pattern.TRAFFIC_LIGHT, 1, 0.5, 0.5, 0, 0, (0.1,) * 3, (0.1,) * 3, 1.0, 0.0)
    assert behind[3] == 0.0  # the state is not visible from behind


def plate(meaning: int) -> np.ndarray:
    """Paint the face of a sign (24, 24, 3), row 0 at the top."""
    grid = (np.arange(24) + 0.5) / 24
    return np.array(
        [
            [
                paint(Pattern.SIGN, 0, u, v, 0, 0, (0,) * 3, (0,) * 3, float(meaning), 0.2)[:3]
                for u in grid
            ]
            for v in grid[::-1]
        ]
    )


def test_signs_of_all_meanings_differ_and_left_mirrors_right():
    plates = {m: plate(m) for m in (0, 4, 5, 6, 7, 8, 9, 10, 11, 12)}
    for a in plates:
        for b in plates:
            assert a == b or np.abs(plates[a] - plates[b]).mean() > 0.03, (a, b)
    for left, right in ((5, 6), (11, 12)):
        np.testing.assert_allclose(plates[left][:, ::-1], plates[right])
    white = plates[5].min(axis=2) > 0.8  # the head of an arrow to the left is at the left
    columns = np.nonzero(white.any(axis=0))[0]
    assert columns[0] < 5 and columns[-1] < 18
    assert white[:, columns[0]].sum() <= 2 < 8 < white[:, columns[-1]].sum()


def test_boxes_of_lights_are_those_of_their_pixels(junction: Scene):
    compared = 0
    for camera in junction.rig.cameras:
        moment = freeze(junction, 1.0 + camera.time_offset_us * 1e-6)
        picture = take_picture(junction, moment, camera, NOISELESS)
        for row in control_rows(junction, 2, camera, picture, 1):
            index = next(
                i
                for i, c in enumerate(junction.controls)
                if np.allclose(
                    junction.placement.to_world(*c.centre_m[:2]), row["translation"][:2], atol=1e-3
                )
                and abs(c.centre_m[2] - row["translation"][2]) < 1e-3
            )
            mask = picture.instance == len(junction.objects) + index
            assert mask.sum() == picture.control_visible_px[index]
            (left, top), (right, bottom) = row["points"]
            rows, columns = np.nonzero(mask)
            assert left - 1 < columns.min() and columns.max() + 1 < right + 1
            assert top - 1 < rows.min() and rows.max() + 1 < bottom + 1
            if row["visibility"] == 1.0 and mask.sum() > 40:
                area = (np.ptp(columns) + 1) * (np.ptp(rows) + 1)
                # Pixels are counted by their centres: up to one is lost at each side.
                assert area > 0.6 * (right - left) * (bottom - top)
                compared += 1
    assert compared >= 2


def test_the_image_shows_the_colour_of_the_row(junction: Scene):
    """Check that the most saturated pixel of a large light has the colour of its attribute."""
    shown = Counter()
    for sample in range(junction.samples):
        camera = junction.rig.cameras[0]
        moment = freeze(junction, 0.5 * sample + camera.time_offset_us * 1e-6)
        picture = take_picture(junction, moment, camera, NOISELESS)
        for row in control_rows(junction, sample, camera, picture, 1):
            (left, top), (right, bottom) = (np.round(p).astype(int) for p in row["points"])
            if row["category"] != TRAFFIC_LIGHT or bottom - top < 9 or row["visibility"] < 0.99:
                continue
            patch = picture.image[top:bottom, left:right, ::-1].reshape(-1, 3).astype(int)
            red, green, _ = patch[np.argmax(np.ptp(patch, axis=1))]
            colour = RED if red > 1.8 * green else GREEN if green > 1.5 * red else YELLOW
            assert colour == row["attribute"]
            shown[colour] += 1
    assert sum(shown.values()) >= 2


def test_lanes_run_towards_the_lights_that_govern_them(junction: Scene):
    lights = [c for c in junction.controls if c.category == TRAFFIC_LIGHT]
    assert lights
    for control in lights:
        lane = junction.layout.lanes[control.lane]
        s = lane.path.nearest_s(*control.centre_m[:2])
        x, y, heading = lane.path.at(s)
        looks = np.cos(control.yaw_rad - heading)
        assert looks < -0.9  # against those who come
        assert np.hypot(x - control.centre_m[0], y - control.centre_m[1]) < 9.0
        assert any(stop.phase == control.phase for stop in lane.stop_lines)


def test_tables_of_a_world_name_images_and_lanes_that_are_there(world: Path, devkit):
    folder = world / SMALL.version
    elements, lanes = read_traffic_elements(folder), read_lanes(folder)
    data = {row["token"]: row for row in devkit.sample_data}
    assert len(elements) > 200
    assert {e.category for e in elements} == {TRAFFIC_LIGHT, ROAD_SIGN}
    assert {RED, GREEN, 0} <= {e.attribute for e in elements}
    assert {e.camera for e in elements} == set(CAMERA_CHANNELS)
    scene_of = {row["token"]: row["scene_token"] for row in devkit.sample}
    for element in elements:
        row = data[element.sample_data_token]
        assert f"/{element.camera}/" in row["filename"] and row["is_key_frame"]
        assert row["sample_token"] == element.sample_token
        assert lanes[element.lane_token].scene_token == scene_of[element.sample_token]
        left, top, right, bottom = element.box_px
        assert 0 <= left < right <= 160 and 0 <= top < bottom <= 90
        assert (element.attribute in (RED, GREEN, YELLOW)) == (element.category == TRAFFIC_LIGHT)
    tokens = [e.token for e in elements]
    assert len(set(tokens)) == len(tokens)
