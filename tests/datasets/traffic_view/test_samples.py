"""Samples and streams of the traffic view: cameras, labels, balance, and the same order again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bevstack.config import TrainingConfig
from bevstack.datasets.traffic_view.augmentation import TrafficAugmentation
from bevstack.datasets.traffic_view.balance import balanced_order, repeat_factors, state_presence
from bevstack.datasets.traffic_view.front_view import (
    choose_front_cameras,
    path_of_motion,
    whole_crop,
)
from bevstack.datasets.traffic_view.labels import ElementIndex, class_of_color, class_of_shape
from bevstack.datasets.traffic_view.samples import FrontSamples, stack_samples
from bevstack.datasets.traffic_view.stream import TrafficStream
from bevstack.geometry import invert_se3, se3_from_parts
from bevstack.tables.traffic_elements import read_traffic_elements
from bevstack.types.traffic import EgoLane, Lamp, LaneCenterline
from bevstack.vocabulary import CAMERA_CHANNELS, LAMP_SHAPES, LIGHT_COLORS
from tests.models.traffic.cases import CONFIG, IMAGES, camera, element, project, sample, two_rigs
from tests.small_world import dataset, small_world


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    own = dataset(small_world(tmp_path_factory))
    index = ElementIndex.read(own.tables.folder)
    config = dataclasses.replace(CONFIG, rows=(0.0, 0.65), min_height_px=3.0)
    return FrontSamples(own, index, config=config, images=IMAGES)


def poses(*yaws_deg):
    yaws = np.deg2rad(yaws_deg)
    return torch.stack([camera(yaw=float(yaw)).ego_from_cam for yaw in yaws])


def test_front_cameras_are_chosen_by_role_then_by_yaw():
    names = list(CAMERA_CHANNELS)
    yaws = {"CAM_FRONT": 8, "CAM_FRONT_LEFT": 55, "CAM_FRONT_RIGHT": -50, "CAM_BACK": 180}
    directions = poses(*(yaws.get(name, 110) for name in names))
    found = [names[i] for i in choose_front_cameras(names, directions, 3)]
    assert found == ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT"]
    assert choose_front_cameras([], poses(90, -20, 10), 2) == [2, 1]
    assert choose_front_cameras(["CAM_FRONT"], poses(180), 1) == []  # looks back


def test_the_view_is_never_enlarged():
    config = dataclasses.replace(CONFIG, rows=(0.0, 0.5), max_width_px=800)
    assert whole_crop((900, 1600), config).size == (225, 800)
    assert whole_crop((450, 800), config).size == (225, 800)
    assert whole_crop((225, 400), config).size == (112, 400)


def test_labels_lie_where_the_table_puts_them(samples):
    elements = read_traffic_elements(samples.dataset.tables.folder)
    wanted = [e for e in elements if e.camera == "CAM_FRONT"]
    count = 0
    for row in range(len(samples)):
        prepared, (_, world_from_ego) = samples.prepare(row), samples.read(row)
        height = prepared.images[0].shape[1]
        own = [e for e in wanted if e.sample_token == samples.token(row) and e.box_px[1] < height]
        assert len(prepared.targets) == len(own)
        for place, e in enumerate(own):
            left, top, right, bottom = prepared.targets.boxes_px[place].tolist()
            assert (left, top, right) == pytest.approx(e.box_px[:3], abs=1e-3)
            assert bottom == pytest.approx(min(e.box_px[3], height), abs=1e-3)
            # the table's position, seen by the view's calibration, is the middle of the whole box
            world = torch.tensor([*e.position_m, 1.0], dtype=torch.float64)
            point = (invert_se3(world_from_ego) @ world)[:3].numpy()
            center, depth = project(prepared.cameras[0], point)
            middle = (e.box_px[0] + e.box_px[2]) / 2, (e.box_px[1] + e.box_px[3]) / 2
            inside = e.box_px[0] > 0 and e.box_px[2] < 400 and e.box_px[1] > 0
            if inside:  # else the table's box is clipped
                assert np.abs(center - middle).max() < 1.0  # a plate seen aslant
            assert float(prepared.targets.depth_m[place]) == pytest.approx(depth, rel=1e-5)
            count += 1
    assert count >= 3  # of this small world


def test_colour_and_shape_come_from_lamps_or_else_from_the_attribute():
    view = camera()
    red_yellow = element(view, (9, 0, 2), lamps=(Lamp("red"), Lamp("yellow")))
    assert LIGHT_COLORS[class_of_color(red_yellow)] == "red_yellow"
    off = element(view, (9, 0, 2), lamps=(), attribute=0)
    assert LIGHT_COLORS[class_of_color(off)] == "off" and class_of_shape(off) == -1
    dark = element(view, (9, 0, 2), lamps=(Lamp("red"),), is_dark=True)  # an LED's half-wave
    assert LIGHT_COLORS[class_of_color(dark)] == "off" and class_of_shape(dark) == -1
    hidden = element(view, (9, 0, 2), lamps=(Lamp("red"),), attribute=0, lamp_pixels=0.9)
    assert (class_of_color(hidden), class_of_shape(hidden)) == (-2, -1)  # hidden, unknown
    hidden_off = element(view, (9, 0, 2), lamps=(), attribute=0, lamp_pixels=0.0)
    assert class_of_color(hidden_off) == -2
    shown = element(view, (9, 0, 2), lamps=(Lamp("red"),), attribute=0, lamp_pixels=1.0)
    assert LIGHT_COLORS[class_of_color(shown)] == "red"
    old = element(view, (9, 0, 2), lamps=None, attribute=3)
    assert LIGHT_COLORS[class_of_color(old)] == "yellow"
    assert LAMP_SHAPES[class_of_shape(old)] == "circle"
    sign = element(view, (9, 0, 2), lamps=None, category=2, attribute=5)
    assert class_of_color(sign) == class_of_shape(sign) == -1


def test_the_number_of_a_speed_limit_is_one_of_the_configured_ones():
    view = camera()
    sign = {"category": 2, "attribute": 0, "lamps": None, "meaning": "speed_limit"}
    signs = [
        element(view, (9, 1.5 * side, 2), token=str(side), speed_limit_mps=speed, **sign)
        for side, speed in ((-1, 8.3333), (0, 13.8889), (1, 25.0))
    ]
    config = dataclasses.replace(CONFIG, speed_limits_kmh=(30, 50))
    plain = sample(view, [*signs, element(view, (12, 0, 4))], config=config)
    assert plain.targets.speed_limit.tolist() == [0, 1, -1, -1]  # 90 km/h is not configured
    mirrored = sample(view, signs, config=config, augmentation=TrafficAugmentation(mirror=True))
    assert mirrored.targets.speed_limit.tolist() == [-1] * 3  # mirrored digits
    with pytest.raises(ValueError, match="speed_limits_kmh must ascend"):
        dataclasses.replace(CONFIG, speed_limits_kmh=(50, 30))


def test_an_element_governs_the_own_lane_for_the_manoeuvres_it_names():
    view = camera()
    lanes = {
        "own": LaneCenterline("own", "", np.zeros((2, 2)), ("next",), (), ("straight", "right")),
        "next": LaneCenterline("next", "", np.zeros((2, 2))),
    }
    index = ElementIndex.build([], lanes, [EgoLane("s0", "own", "straight")])

    def relevance(**fields):
        return index.relevance(element(view, (9, 0, 2), **fields))

    assert relevance(lane_token="own") == [1, -1, 1, -1]  # all that the lane allows
    assert relevance(lane_tokens=("x", "own"), manoeuvres=("right",)) == [0, -1, 1, -1]
    assert relevance(lane_token="beside") == [0, -1, 0, -1]
    assert relevance(lane_token="next") == [-1, -1, -1, -1]  # behind the junction
    assert relevance(lane_token="own", sample_token="other") == [-1] * 4


def test_motion_gives_speed_and_curvature():
    half = 0.05  # rad, of a circle of radius 40 m
    chord = 2 * 40 * np.sin(half)
    rotation = torch.tensor([np.cos(half), 0, 0, np.sin(half)], dtype=torch.float64)
    step = torch.tensor([chord * np.cos(half), chord * np.sin(half), 0], dtype=torch.float64)
    speed, curvature, known = path_of_motion(
        torch.eye(4, dtype=torch.float64), se3_from_parts(rotation, step), 0.5
    ).tolist()
    assert speed == pytest.approx(chord / 0.5) and known == 1
    assert curvature == pytest.approx(1 / 40, rel=1e-3)  # chord for arc
    assert not path_of_motion(torch.eye(4), torch.eye(4), 0.0).any()


def test_rare_states_are_drawn_more_often_and_every_frame_at_least_once():
    presence = np.zeros((100, 2), np.bool_)
    presence[:50, 0] = True
    presence[7, 1] = True  # 1 % of the frames: factor sqrt(0.2 / 0.01)
    factors = repeat_factors(presence, 0.5)
    assert factors[7] == pytest.approx(20**0.5) and factors[8] == 1
    orders = [balanced_order(factors, seed=1, epoch=epoch) for epoch in range(40)]
    assert {len(order) for order in orders} == {103}
    counts = np.mean([np.bincount(order, minlength=100) for order in orders], axis=0)
    assert counts[7] == pytest.approx(20**0.5, abs=0.2)  # 40 draws of 4 or 5
    assert counts.min() > 0.9
    assert np.array_equal(repeat_factors(presence, 0.0), np.ones(100))


def test_presence_lists_states_of_the_front_camera():
    view = camera()
    lit = element(view, (9, 0, 2))
    index = ElementIndex.build(
        [lit, dataclasses.replace(lit, camera="CAM_BACK", sample_token="s1")]
    )
    presence = state_presence(index, ["s0", "s1"])
    assert presence[0].all() and not presence[1].any()


def test_a_stream_continues_where_it_stopped(samples):
    recipe = TrainingConfig(batch_size=2, num_workers=0, seed=5)
    batches = iter(TrafficStream(samples, recipe))
    first, second, third = (next(batches) for _ in range(3))
    resumed = next(iter(TrafficStream(samples, recipe, start=4)))
    assert resumed.sample_tokens == third.sample_tokens != first.sample_tokens
    assert torch.equal(resumed.views.images, third.views.images)
    parts = [next(iter(TrafficStream(samples, recipe, rank=r, world_size=2))) for r in (0, 1)]
    assert tuple(t for part in parts for t in part.sample_tokens) == first.sample_tokens
    assert second.num_images == 2


def test_a_missing_image_is_named_or_skipped(samples, monkeypatch):
    missing = samples.token(0)
    whole = FrontSamples.prepare

    def prepare(self, index, augmentation=None):
        if self.token(index) == missing:
            raise FileNotFoundError("image must be a file; got none")
        return whole(self, index, augmentation)

    monkeypatch.setattr(FrontSamples, "prepare", prepare)
    recipe = TrainingConfig(batch_size=1, num_workers=0)
    with pytest.raises(FileNotFoundError, match=missing):
        batches = iter(TrafficStream(samples, recipe))
        for _ in range(3 * len(samples)):
            next(batches)
    stream = TrafficStream(samples, dataclasses.replace(recipe, on_bad_sample="skip"))
    batches = iter(stream)
    tokens = {next(batches).sample_tokens[0] for _ in range(2 * len(samples))}
    assert missing not in tokens and stream.skipped[0].sample_token == missing


def test_images_of_different_sizes_are_padded_and_keep_their_sample():
    batch = two_rigs()
    assert tuple(batch.views.images.shape) == (2, 3, 64, 128)
    assert batch.views.image_size.tolist() == [[64, 96], [48, 128]]
    assert not batch.views.images[0, :, :, 96:].any() and not batch.views.images[1, :, 48:].any()
    blind = dataclasses.replace(sample(camera(), []), images=(), cameras=(), image_from_view=())
    joined = stack_samples([blind, sample(camera(), [element(camera(), (9, 0, 2))])])
    assert joined.views.sample.tolist() == [1] and joined.targets.image.tolist() == [0]
    empty = stack_samples([blind])
    assert empty.num_images == 0 and len(empty.views.ego_motion) == 1
    with pytest.raises(ValueError, match="at least one"):
        stack_samples([])
