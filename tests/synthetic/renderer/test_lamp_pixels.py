"""Counted pixels of lamps against the pixels that change when the lamps are lit."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.synthetic import WorldSpec
from bevstack.synthetic.population.rich_control import PEDESTRIAN, RichLight
from bevstack.synthetic.recording.camera import Moment, Picture, Sensor, freeze, take_picture
from bevstack.synthetic.renderer.primitives import C_INSTANCE, C_PATTERN, P_STATE, Pattern
from bevstack.synthetic.scene import Scene, build_scene

STATES = (1.0, 2.0, 4.0)  # a lit red, yellow, green lamp


@pytest.fixture(scope="module")
def street() -> Scene:
    spec = WorldSpec(
        seed=3,
        train_scenes=0,
        val_scenes=0,
        test_scenes=4,
        samples_per_scene=4,
        image_size=(270, 480),
        traffic="rich",
        weather="overcast",  # neither glow nor glare: a lamp changes its own pixels alone
    )
    return build_scene(spec, spec.split_scenes["test"][1])


def picture(scene: Scene, moment: Moment, camera: int, state: float, supersampling: int) -> Picture:
    """Return an image in which all lights have a state."""
    heads = moment.primitives.codes[:, C_PATTERN] == Pattern.LIGHT_HEAD
    moment.primitives.paint[heads, P_STATE] = state
    still = np.zeros((8, 8), np.float32)
    sensor = Sensor(supersampling=supersampling, gains=np.ones(3), noise=still, noise_at=(0, 0))
    return take_picture(scene, moment, scene.rig.cameras[camera], sensor)


def test_counts_are_the_pixels_that_change_when_a_lamp_is_lit(street: Scene) -> None:
    first = len(street.objects)
    totals = np.zeros(3, int)
    hidden = 0
    for time_s in (0.0, 1.5):
        for camera in range(len(street.rig.cameras)):
            moment = freeze(street, time_s)
            off = picture(street, moment, camera, 0.0, 1)
            for lamp, state in enumerate(STATES):
                lit = picture(street, moment, camera, state, 1)
                changed = (lit.image != off.image).any(axis=2)
                for index, control in enumerate(street.controls):
                    own = changed & (off.instance == first + index)
                    assert off.lamp_px[index, lamp] == own.sum(), (camera, index, lamp)
                    hidden += off.control_visible_px[index] > 0 and not own.sum()
                    if not isinstance(control, RichLight):
                        assert not own.any()
                assert changed.sum() == off.lamp_px[:, lamp].sum()
                np.testing.assert_array_equal(lit.lamp_px, off.lamp_px)
                totals[lamp] += changed.sum()
    assert totals.min() > 50 and hidden > 20  # seen from behind, from the side, or too far


def test_supersamples_count_the_same_area(street: Scene) -> None:
    counts = [
        sum(
            picture(street, freeze(street, 0.0), camera, 1.0, factor).lamp_px.sum(axis=0)
            for camera in range(len(street.rig.cameras))
        )
        / factor**2
        for factor in (1, 4)
    ]
    np.testing.assert_allclose(counts[0], counts[1], rtol=0.15)  # one sample a pixel, few pixels


def test_a_light_that_is_off_has_the_pixels_of_its_least_visible_lamp(street: Scene) -> None:
    lights = [c for c in street.controls if isinstance(c, RichLight)]
    pixels = np.array([3.0, 0.0, 2.0])
    found = set()
    for light in lights:
        for time_s in (0.0, 1.0):
            lit = {lamp.color for lamp in light.lit(time_s)}
            expected = sum(
                p for p, c in zip(pixels, ("red", "yellow", "green"), strict=True) if c in lit
            )
            if not lit:  # pedestrians' lights have no yellow lamp
                expected = 2.0 if light.housing == PEDESTRIAN else 0.0
            assert light.lamp_pixels(time_s, pixels) == expected
            found.add(expected)
    assert len(found) >= 2


def test_an_instance_is_counted_where_it_is_visible(street: Scene) -> None:
    moment = freeze(street, 0.0)
    for camera in range(len(street.rig.cameras)):
        found = picture(street, moment, camera, 0.0, 1)
        assert (found.lamp_px.sum(axis=1) <= found.control_visible_px).all()
    codes = moment.primitives.codes
    heads = codes[codes[:, C_PATTERN] == Pattern.LIGHT_HEAD, C_INSTANCE]
    assert len(heads)
