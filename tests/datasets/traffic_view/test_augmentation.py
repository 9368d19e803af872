"""Augmentation of the traffic view: pixels, labels and calibration move together."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest
import torch

from bevstack.datasets.traffic_view.augmentation import (
    VEIL_STRENGTH,
    TrafficAugmentation,
    Veil,
    draw_traffic_augmentation,
    mirror_targets,
    swapped_name,
)
from bevstack.synthetic.renderer.lens_light import add_glare
from bevstack.types.traffic import EgoLane, Lamp, LaneCenterline
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS, MANOEUVRES, SIGN_MEANINGS
from tests.models.traffic.cases import CONFIG, camera, element, project, sample

POINT = (7.0, 0.9, 2.4)


def marked(view):
    """Return the camera with a white rectangle where a light is, and the light."""
    light = element(view, POINT, lane_token="l0", manoeuvres=("left",), yaw=math.pi - 0.3)
    left, top, right, bottom = (round(side) for side in light.box_px)
    image = np.zeros_like(view.image)
    image[top:bottom, left:right] = 255
    box = (float(left), float(top), float(right), float(bottom))
    return dataclasses.replace(view, image=image), dataclasses.replace(light, box_px=box)


def bright_box(image):
    """Return the box (left, top, right, bottom) of the bright pixels of a view (3, H, W)."""
    bright = image.mean(0) > (image.max() + image.min()) / 2
    rows, columns = bright.nonzero(as_tuple=True)
    bounds = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return torch.stack([torch.as_tensor(bound) for bound in bounds]).float()


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("zoom", [0.8, 1.0, 1.25])
def test_a_pixel_and_its_label_move_together(mirror, zoom):
    view, light = marked(camera((120, 160), focal=150.0))
    config = dataclasses.replace(CONFIG, rows=(0.05, 0.95), max_width_px=150)
    augmentation = TrafficAugmentation(zoom=zoom, across=0.3, down=0.6, mirror=mirror)
    found = sample(view, [light], augmentation=augmentation, config=config)
    box = found.targets.boxes_px[0]
    # within a pixel, by which resampling blurs an edge
    assert (bright_box(found.images[0]) - box).abs().max() <= 1.0
    # the calibration of the view projects the light's centre into its box
    point = np.array(POINT) * ([1, -1, 1] if mirror else [1, 1, 1])
    center, depth = project(found.cameras[0], point)
    middle = (box[:2] + box[2:]) / 2
    assert np.abs(center - middle.numpy()).max() <= 1.0
    assert float(found.targets.depth_m[0]) == pytest.approx(depth, abs=1e-4)


def test_a_place_in_the_view_maps_back_to_the_image():
    view, light = marked(camera((120, 160), focal=150.0))
    config = dataclasses.replace(CONFIG, rows=(0.05, 0.95), max_width_px=150)
    augmentation = TrafficAugmentation(zoom=1.2, across=0.3, down=0.6)
    found = sample(view, [light], augmentation=augmentation, config=config)
    a, b, left, top = found.image_from_view[0].tolist()
    x0, y0, x1, y1 = found.targets.boxes_px[0].tolist()
    back = (a * x0 + left, b * y0 + top, a * x1 + left, b * y1 + top)
    assert back == pytest.approx(light.box_px, abs=1e-3)


def test_a_mirror_swaps_left_and_right_of_everything():
    view, light = marked(camera((120, 160), focal=150.0))
    arrow = dataclasses.replace(light, lamps=(Lamp("green", "left"),))
    sign = element(view, (9, -2, 2), category=2, attribute=0, meaning="no_right_turn", lamps=None)
    turn = element(view, (9, -1, 2), category=2, attribute=0, meaning="u_turn", lamps=None)
    lane = LaneCenterline("l0", "", np.zeros((2, 2)), manoeuvres=("left", "straight", "u_turn"))
    given = {"ego_lanes": [EgoLane("s0", "l0", "left")], "lanes": {"l0": lane}}
    plain = sample(view, [arrow, sign, turn], **given)
    mirrored = sample(
        view, [arrow, sign, turn], augmentation=TrafficAugmentation(mirror=True), **given
    )
    assert plain.targets.shape[0] == LAMP_SHAPES.index("left")
    assert mirrored.targets.shape[0] == LAMP_SHAPES.index("right")
    assert plain.targets.meaning[1] == SIGN_MEANINGS.index("no_right_turn")
    assert mirrored.targets.meaning[1] == SIGN_MEANINGS.index("no_left_turn")
    assert mirrored.targets.meaning[2] == -1  # there is no mirrored U-turn
    names = [dict(zip(MANOEUVRES, row.tolist(), strict=True)) for row in plain.targets.relevance]
    assert names[0] == {"straight": 0, "left": 1, "right": -1, "u_turn": 0}
    back = dict(zip(MANOEUVRES, mirrored.targets.relevance[0].tolist(), strict=True))
    assert back == {"straight": 0, "left": -1, "right": 1, "u_turn": -1}
    torch.testing.assert_close(mirrored.targets.aspect_rad, -plain.targets.aspect_rad)
    assert mirrored.ego_motion.tolist() == pytest.approx([8.0, -0.01, 1.0])


def test_controls_change_labels_and_leave_images():
    view, light = marked(camera((120, 160), focal=150.0))
    arrow = dataclasses.replace(light, lamps=(Lamp("green", "left"),))
    sign = element(view, (9, -2, 2), category=2, attribute=0, meaning="turn_left", lamps=None)
    lane = LaneCenterline("l0", "", np.zeros((2, 2)), manoeuvres=("left", "straight", "right"))
    given = {"ego_lanes": [EgoLane("s0", "l0", "left")], "lanes": {"l0": lane}}
    plain = sample(view, [arrow, sign], **given)

    def labels_with(control, seed=0):
        config = dataclasses.replace(
            CONFIG, control=control, photometric=False, mirror=False, scale=(1.0, 1.0)
        )
        drawn = draw_traffic_augmentation(config, np.random.default_rng(seed))
        found = sample(view, [arrow, sign], augmentation=drawn, **given)
        assert torch.equal(found.images[0], plain.images[0])
        return {f.name: getattr(found.targets, f.name) for f in dataclasses.fields(found.targets)}

    labels_without = labels_with("")
    swapped = labels_with("swap_sides")
    changed = {n for n, v in swapped.items() if not torch.equal(v, labels_without[n])}
    assert changed == {"shape", "meaning", "relevance"}
    assert swapped["shape"][0] == LAMP_SHAPES.index("right")
    assert SIGN_MEANINGS[int(swapped["meaning"][1])] == "turn_right"
    columns = [MANOEUVRES.index(name) for name in ("left", "right")]
    assert labels_without["relevance"][0, columns].tolist() == [1, 0]
    assert swapped["relevance"][0, columns].tolist() == [0, 1]
    shuffled = [labels_with("shuffle_colors", seed) for seed in range(40)]
    for labels in shuffled:
        different = {n for n, v in labels.items() if not torch.equal(v, labels_without[n])}
        assert different <= {"color"} and labels["color"][1] == -1  # a sign has no colour
    # all colours are drawn; forty draws of five miss one with a probability of 7e-4
    assert {int(labels["color"][0]) for labels in shuffled} == set(range(len(LIGHT_COLORS)))
    with pytest.raises(ValueError, match="control must be one of"):
        dataclasses.replace(CONFIG, control="shuffle")


def test_mirroring_twice_changes_only_u_turns():
    view, light = marked(camera((120, 160), focal=150.0))
    targets = sample(view, [light]).targets
    widths = torch.tensor([160])
    again = mirror_targets(mirror_targets(targets, widths), widths)
    torch.testing.assert_close(again.boxes_px, targets.boxes_px)
    assert torch.equal(again.shape, targets.shape)


@pytest.mark.parametrize("names", [LAMP_SHAPES, SIGN_MEANINGS, MANOEUVRES])
def test_every_name_has_a_mirror_image_of_its_own(names):
    swapped = [swapped_name(name) for name in names]
    known = [name for name in swapped if name is not None]
    assert len(set(known)) == len(known) and set(known) <= set(names)
    assert [n for n, s in zip(names, swapped, strict=True) if s is None] == [
        n for n in names if "u_turn" in n
    ]


def test_a_change_of_light_keeps_the_hue():
    rng = np.random.default_rng(0)
    config = dataclasses.replace(CONFIG, scale=(1.0, 1.0))
    lamps = {"red": (200, 30, 20), "yellow": (220, 170, 30), "green": (30, 190, 120)}
    for _ in range(50):
        augmentation = draw_traffic_augmentation(config, rng)
        hues = {}
        for name, color in lamps.items():
            changed = augmentation.change_light(np.full((1, 1, 3), color, np.uint8))
            hues[name] = int(cv2.cvtColor(changed, cv2.COLOR_RGB2HSV)[0, 0, 0]) * 2  # degrees
        red = min(hues["red"], 360 - hues["red"])
        # red, yellow and green stay apart, as saturated channels bend hues towards each other
        assert red < 30 < hues["yellow"] < 75 < hues["green"] < 190


def test_the_drawn_parameters_depend_on_the_generator_alone():
    first, second = (
        draw_traffic_augmentation(CONFIG, np.random.default_rng((3, 1, 7))) for _ in range(2)
    )
    assert first == second
    assert first != draw_traffic_augmentation(CONFIG, np.random.default_rng((3, 1, 8)))


VEIL = Veil(strength=0.6, column=0.25, row=0.5, reach=0.2)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_veil_is_brightest_at_its_sun_and_leaves_every_label(mirror):
    view, light = marked(camera((120, 160), focal=150.0))
    plain = sample(view, [light], augmentation=TrafficAugmentation(mirror=mirror))
    veiled = sample(view, [light], augmentation=TrafficAugmentation(mirror=mirror, veil=VEIL))
    for field in dataclasses.fields(plain.targets):
        name = field.name
        assert torch.equal(getattr(plain.targets, name), getattr(veiled.targets, name)), name
    added = (veiled.images[0] - plain.images[0]).sum(0)
    dark = plain.images[0].sum(0) == plain.images[0].sum(0).min()  # not the white light
    assert float(added[dark].min()) > 0
    place = torch.where(dark, added, torch.zeros(())).argmax()
    row, column = divmod(int(place), added.shape[1])
    across = 0.75 if mirror else 0.25
    assert abs(row / added.shape[0] - 0.5) < 0.02 and abs(column / added.shape[1] - across) < 0.02


def test_the_veil_is_that_of_a_low_sun_in_the_world():
    """The world's glare at a sun that nothing hides, of which a picture holds 255 levels."""
    height, width = 450, 800
    linear = np.full((height, width, 3), 0.1, np.float32)
    image = np.rint(linear * 255).astype(np.uint8)
    free = np.full((height, width), -1, np.int32)
    add_glare(linear, free, (400.0, 150.0), 0.6)
    reach = 0.30 * height / width  # of the world, in heights
    covered = Veil(0.6, 400 / width, 150 / height, reach).cover(image)
    # The world computes the glare at every eighth pixel and stretches it, so a value may be that of
    # a place up to eight pixels away; the veil changes by at most 1.2 levels a pixel.
    assert np.abs(covered - np.minimum(linear * 255, 255)).max() <= 1.2 * 8
    assert covered[150, 400].min() > 140 and covered[440, 10].max() < 45


@pytest.mark.parametrize("color", [(255, 20, 15), (255, 215, 11), (23, 255, 160)])
def test_the_strongest_veil_hides_neither_lamp_nor_housing(color):
    image = np.full((1, 3, 3), 10, np.uint8)  # a dark lamp
    image[0, 1] = color
    lit, dark = Veil(VEIL_STRENGTH[1], 0.5, 0.0, 0.2).cover(image)[0, [1, 2]].astype(int)
    assert (lit >= dark).all() and (lit - dark).max() >= 40


def test_veils_are_drawn_for_their_share_and_change_no_other_draw():
    glaring = dataclasses.replace(CONFIG, glare=0.3)
    seeds = range(400)
    drawn = [draw_traffic_augmentation(glaring, np.random.default_rng(seed)) for seed in seeds]
    without = [draw_traffic_augmentation(CONFIG, np.random.default_rng(seed)) for seed in seeds]
    assert [dataclasses.replace(one, veil=None) for one in drawn] == without
    share = np.mean([one.veil is not None for one in drawn])
    assert abs(share - 0.3) < 0.09  # four standard deviations of 400 draws
    assert all(one.veil is None for one in without)  # off unless configured
    again = [draw_traffic_augmentation(glaring, np.random.default_rng(seed)) for seed in seeds]
    assert drawn == again
    with pytest.raises(ValueError, match=r"traffic\.glare must lie in"):
        dataclasses.replace(CONFIG, glare=1.5)
