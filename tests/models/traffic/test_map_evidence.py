"""The BEV map in the relevance of lights: where it is sampled, batches, old weights, gradients."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from bevstack.geometry import BEVGrid
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.build_traffic import build_traffic_model, read_traffic_weights
from bevstack.models.traffic.map_evidence import (
    NUM_POINTS,
    BEVMap,
    map_points,
    sample_bev,
    sample_map,
)
from bevstack.models.traffic.model import TrafficModel
from bevstack.runtime.traffic_predictor import TrafficPredictor
from bevstack.tasks.traffic import Traffic
from bevstack.vocabulary import MANOEUVRES
from tests.models.traffic.cases import CONFIG, camera, element, sample
from tests.small_world import CONFIG as DETECTOR

GRID = BEVGrid(shape=(10, 12))
WITH_MAP = dataclasses.replace(CONFIG, relevance_map=True)


def build(config=WITH_MAP):
    """Return a model whose map evidence is not 0, as after training."""
    torch.manual_seed(0)
    model = TrafficModel(config, InternImage(DETECTOR.backbone), grid=GRID, bev_channels=8).eval()
    if model.relevance.map_evidence is not None:
        torch.nn.init.normal_(model.relevance.map_evidence.output[-1].weight)
    return model


@pytest.fixture(scope="module")
def model():
    return build()


def three_rigs():
    """Return three samples with other cameras, image sizes and poses of the map's frame."""
    from bevstack.datasets.traffic_view.samples import stack_samples

    views = [
        camera(),
        camera((48, 128), focal=110.0, yaw=0.2, place=(1.0, 0.3, 1.4)),
        camera((56, 80), focal=70.0, yaw=-0.1, place=(1.2, -0.2, 1.5)),
    ]
    samples = [
        sample(view, [element(view, (9.0, 0.5, 2.6))], token=f"s{row}")
        for row, view in enumerate(views)
    ]
    poses = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    poses[1, :2, :2] = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    poses[2, 0, 3] = -0.9
    torch.manual_seed(5)
    maps = BEVMap(torch.randn(3, 8, *GRID.shape), poses, torch.ones(3, dtype=torch.bool))
    return samples, stack_samples, maps


def rows_of(maps, rows):
    return BEVMap(*(part[rows] for part in maps))


def test_the_map_is_sampled_where_points_lie():
    points = torch.tensor([[10.0, 5.0, 2.0], [200.0, 0.0, 2.0]], dtype=torch.float64)
    bev = torch.zeros(1, 2, *GRID.shape)
    bev[0, 0] = (torch.arange(12.0) + 0.5)[None] / 12 * 102.4 - 51.2  # x of each column
    bev[0, 1] = (torch.arange(10.0) + 0.5)[:, None] / 10 * 102.4 - 51.2
    eye = torch.eye(4, dtype=torch.float64)[None]
    found = sample_bev(bev, GRID, eye, points, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(found[0], torch.tensor([10.0, 5.0, 1.0]), atol=1e-4, rtol=0)
    assert not found[1].any()  # outside the grid


def test_points_lie_below_the_element_on_the_own_path_and_on_each_turn():
    """Beside a loop of short straight steps along each path."""
    curvature = torch.tensor([0.02, 0.0, -0.01], dtype=torch.float64)
    position = torch.tensor(
        [[24.0, 3.0, 5.0], [12.0, -4.0, 5.0], [90.0, 2.0, 6.0]], dtype=torch.float64
    )
    points = map_points(position, curvature)
    assert points.shape == (3, len(MANOEUVRES), NUM_POINTS, 3) and not points[..., 2].any()
    turns = {"straight": 0.0, "left": 0.1, "right": -1 / 7, "u_turn": 0.2}
    for row in range(3):
        bend, beside = float(curvature[row]), min(float(position[row, 0]), 60.0)
        for column, name in enumerate(MANOEUVRES):
            own = points[row, column, :, :2]
            torch.testing.assert_close(own[0], position[row, :2])
            for point, share in zip(own[1:4], (1 / 3, 2 / 3, 1.0), strict=True):
                x = beside * share
                assert point.tolist() == pytest.approx([x, bend * x**2 / 2])
            x, y = beside, bend * beside**2 / 2
            course, steps, step = math.atan(bend * beside), [], 0.001
            for number in range(20_000):
                course += turns[name] * step / 2
                x, y = x + step * math.cos(course), y + step * math.sin(course)
                course += turns[name] * step / 2
                if number + 1 in (6_000, 12_000, 20_000):
                    steps.append([x, y])
            for point, expected in zip(own[4:], steps, strict=True):
                # chords of 1 mm of an arc of 5 m radius err by 1e-9 of their length
                assert point.tolist() == pytest.approx(expected, abs=1e-6)


def test_relevance_moves_with_the_map_and_nothing_else_does(model):
    samples, stack, maps = three_rigs()
    views = stack(samples).views
    with torch.no_grad():
        plain, seen = model(views), model(views, bev=maps)
        moved = model(views, bev=maps._replace(bev=maps.bev.flip(-1)))
    assert not torch.allclose(plain.relevance, seen.relevance)
    assert not torch.allclose(seen.relevance, moved.relevance)
    manoeuvres = (seen.relevance - plain.relevance).T
    assert not torch.allclose(manoeuvres[0], manoeuvres[1])  # each has its own path
    for name in ("score", "color", "boxes_px", "hidden"):
        assert torch.equal(getattr(plain.region, name), getattr(moved.region, name))
    assert torch.equal(plain.place.position_m, moved.place.position_m)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_rig_of_a_batch_gets_its_own_map(model, count):
    samples, stack, maps = three_rigs()
    with torch.no_grad():
        views = stack(samples[:count]).views
        together = model(views, bev=rows_of(maps, slice(0, count)))
        sampled = []
        for row in range(count):
            own = together.regions.image == row
            position = together.place.position_m[own]
            single = stack([samples[row]]).views
            first = torch.zeros(len(position), dtype=torch.int64)
            alone = sample_map(rows_of(maps, [row]), GRID, single, position, first)
            sampled.append(alone)
        whole = sample_map(
            rows_of(maps, slice(0, count)),
            GRID,
            views,
            together.place.position_m,
            views.sample[together.regions.image],
        )
    assert torch.equal(whole, torch.cat(sampled))  # each row is sampled from its own map alone
    assert whole[..., -1].any()


def test_a_sample_without_a_map_is_judged_as_by_a_model_without_one(model):
    samples, stack, maps = three_rigs()
    views = stack(samples).views
    known = torch.tensor([True, False, True])
    broken = maps.bev.clone()
    broken[1] = 7.0
    with torch.no_grad():
        plain = model(views)
        partly = model(views, bev=maps._replace(bev=broken, known=known))
    second = plain.regions.image == 1
    assert torch.equal(plain.relevance[second], partly.relevance[second])
    assert not torch.allclose(plain.relevance[~second], partly.relevance[~second])
    off = build(CONFIG)
    off.load_state_dict(
        {name: value for name, value in model.state_dict().items() if "map_evidence" not in name}
    )
    with torch.no_grad():
        assert torch.equal(off(views).relevance, plain.relevance)


def test_a_model_that_takes_no_map_refuses_one():
    samples, stack, maps = three_rigs()
    with pytest.raises(ValueError, match=r"sampled must be None without traffic\.relevance_map"):
        build(CONFIG)(stack(samples).views, bev=maps)


def test_gradients_reach_the_projection_and_stop_at_the_map(model):
    samples, stack, maps = three_rigs()
    bev = maps.bev.clone().requires_grad_()
    model.zero_grad()
    model(stack(samples).views, bev=maps._replace(bev=bev)).relevance.square().sum().backward()
    for name, parameter in model.relevance.map_evidence.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert bev.grad is None
    assert all(p.grad is None for p in model.dense.parameters())
    model.zero_grad(set_to_none=True)


def test_older_weights_start_with_the_same_relevance(tmp_path):
    """A file without the map's evidence: its bits, and a map that changes nothing yet."""
    old = dataclasses.replace(DETECTOR, traffic=dataclasses.replace(CONFIG, samples=2))
    new = dataclasses.replace(DETECTOR, traffic=dataclasses.replace(WITH_MAP, samples=2))
    torch.manual_seed(1)
    stored = build_traffic_model(old).state_dict()
    Traffic(old).write_model(tmp_path / "old.safetensors", stored, {})
    again = read_traffic_weights(tmp_path / "old.safetensors", old)
    assert set(again) == set(stored)
    assert all(torch.equal(again[name], stored[name]) for name in stored)
    started = read_traffic_weights(tmp_path / "old.safetensors", new)
    first, second = build_traffic_model(old).eval(), build_traffic_model(new).eval()
    first.load_state_dict(again)
    second.load_state_dict(started)
    samples, stack, maps = three_rigs()
    channels = int(maps.bev.shape[1])
    wanted = int(second.relevance.map_evidence.project.in_features) - 1
    wide = maps.bev.repeat(1, -(-wanted // channels), 1, 1)[:, :wanted]
    with torch.no_grad():
        plain = first(stack(samples).views)
        seen = second(stack(samples).views, bev=maps._replace(bev=wide))
    assert torch.equal(plain.relevance, seen.relevance)


def test_streams_and_trainings_refuse_a_head_that_wants_a_map() -> None:
    config = dataclasses.replace(DETECTOR, traffic=dataclasses.replace(WITH_MAP, samples=2))
    model = build()
    for use in (lambda: Traffic(config), lambda: TrafficPredictor(model, config)):
        with pytest.raises(ValueError, match=r"traffic\.relevance_map must be false in streams"):
            use()
