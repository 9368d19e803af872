"""Weather and light: shares of the mix, appearance of images, words in descriptions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bevstack.synthetic import WorldSpec
from bevstack.synthetic.recording.camera import freeze, take_picture
from bevstack.synthetic.recording.recording import SensorDraws
from bevstack.synthetic.renderer.ground_light import darken_ground
from bevstack.synthetic.renderer.weather import Drop, choose_weather, draw_light, see_through_drops
from bevstack.synthetic.scene import build_scene
from bevstack.synthetic.spec import WEATHERS

SPEC = WorldSpec(seed=2, train_scenes=4, samples_per_scene=3, image_size=(90, 160), rig="n015")


def picture(weather: str, channel: int = 0, name: str = "scene-2003") -> np.ndarray:
    spec = replace(SPEC, weather=weather)
    scene = build_scene(spec, name)
    camera = scene.rig.cameras[channel]
    return take_picture(
        scene, freeze(scene, 0.5), camera, SensorDraws(spec, scene).sensor(channel)
    ).image.astype(float)


def test_mix_shows_night_and_rain_in_a_small_number_of_scenes():
    for phase in (0.0, 0.31, 0.77):
        many = Counter(choose_weather("mix", i, phase) for i in range(2000))
        assert set(many) == set(WEATHERS)
        assert many["sun"] / 2000 == pytest.approx(0.40, abs=0.01)
        few = [choose_weather("mix", i, phase) for i in range(24)]
        assert any("night" in w for w in few) and any("rain" in w for w in few)
    assert choose_weather("fog", 3, 0.5) == "fog"


def test_a_requested_weather_is_that_of_every_scene_and_objects_stay_the_same():
    scenes = {w: build_scene(replace(SPEC, weather=w), "scene-2003") for w in WEATHERS}
    for weather, scene in scenes.items():
        assert scene.light.weather == weather
        np.testing.assert_array_equal(scene.poses, scenes["sun"].poses)


@pytest.mark.parametrize("weather", WEATHERS)
def test_description_has_the_words_that_evaluations_look_for(weather):
    text = build_scene(replace(SPEC, weather=weather), "scene-2003").description.lower()
    assert ("night" in text) == weather.startswith("night")
    assert ("rain" in text) == weather.endswith("rain")
    assert ("day" in text) != ("night" in text)


def test_night_is_dark_and_its_lamps_are_not():
    day, night = picture("overcast"), picture("night")
    assert np.median(night) < 0.5 * np.median(day)
    assert night.max() > 200
    assert draw_light("night", np.random.default_rng(0)).noise > 1.5


def test_fog_reduces_the_contrast_of_distant_objects():
    horizon, ratios = slice(30, 45), []  # rows just above the vanishing line
    for name in SPEC.split_scenes["train"]:
        clear, fog = picture("overcast", name=name), picture("fog", name=name)
        ratios.append(fog[horizon].std() / clear[horizon].std())
    assert max(ratios) < 0.9 and np.median(ratios) < 0.65, ratios  # near objects stay dark


def test_shadows_are_strong_in_the_sun_and_weak_under_clouds():
    lights = {w: draw_light(w, np.random.default_rng(1)) for w in ("sun", "overcast", "rain")}
    assert lights["sun"].shadow > 0.2 > 0.1 > lights["overcast"].shadow
    assert lights["rain"].shadow == 0.0


def test_wet_ground_reflects_objects():
    """Compare two images that differ in the water alone: objects stay, the ground changes."""
    spec = replace(SPEC, weather="rain", train_scenes=8)
    compared = 0
    for name in spec.split_scenes["train"]:
        scene = build_scene(spec, name)
        values = scene.light.values.copy()
        values[15] = 0.0
        dry = replace(scene, light=replace(scene.light, values=values))
        camera = scene.rig.cameras[0]
        sensor = replace(
            SensorDraws(spec, scene).sensor(0), noise=np.zeros((2, 2), np.float32), drops=()
        )
        moment = freeze(scene, 0.5)
        wet_picture = take_picture(scene, moment, camera, sensor)
        difference = wet_picture.image.astype(int) - take_picture(dry, moment, camera, sensor).image
        objects = wet_picture.instance >= 0
        # objects stay the same, except for the glow of lamps
        assert np.median(np.abs(difference[objects])) <= 1
        assert np.abs(difference[60:]).mean() > 2
        compared += 1
    assert compared == 8


def test_lamp_light_brightens_and_shadow_darkens_the_same_place():
    rotation = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    intrinsics = np.array([[40.0, 0, 40], [0, 40.0, 10], [0, 0, 1]])
    owner = np.full((40, 80), -1, np.int32)
    rows = np.array([[6.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.5, 0.5]])
    shades = []
    for strength in (0.5, -2.0):
        rows[0, 6] = strength
        shade = np.ones((40, 80), np.float32)
        darken_ground(rows, np.array([0.0, 0.0, 1.5]), rotation, intrinsics, owner, shade)
        shades.append(shade)
    dark, light = shades
    assert dark.min() == pytest.approx(0.5) and light.max() == pytest.approx(3.0)
    np.testing.assert_array_equal(dark < 1, light > 1)
    assert 20 < (dark < 1).sum() < 600


def test_drops_change_the_picture_only_where_they_are():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (90, 160, 3)).astype(np.uint8)
    before = image.copy()
    see_through_drops(image, (Drop(0.5, 0.5, 0.05), Drop(1.77, 0.99, 0.03)))
    changed = (image != before).any(axis=2)
    assert 20 < changed.sum() < 160
    row, column = np.nonzero(changed[:80])
    assert np.hypot(row - 45, column - 45).max() < 6
    see_through_drops(before, ())
