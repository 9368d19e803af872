"""The traffic model: places, decoding, calibration, and rigs that do not mix."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from bevstack.geometry import BEVGrid
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.traffic.calibration import (
    Calibration,
    calibrate,
    fit_platt,
    fit_temperature,
    negative_log_likelihood,
)
from bevstack.models.traffic.decode import decode
from bevstack.models.traffic.dense import DenseHead, DenseOutput, Regions, find_regions
from bevstack.models.traffic.model import TrafficModel
from bevstack.models.traffic.place import locate
from bevstack.models.traffic.regions import RegionOutput, sample_boxes
from bevstack.types.traffic_batch import LIGHT, SIGN
from bevstack.vocabulary import ROAD_SIGN, SIGN_MEANINGS
from tests.models.traffic.cases import CONFIG, camera, element, sample, two_rigs
from tests.small_world import CONFIG as DETECTOR

GRID = BEVGrid(shape=(10, 12))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    backbone = InternImage(DETECTOR.backbone)
    return TrafficModel(CONFIG, backbone, grid=GRID, bev_channels=8).eval()


def region_output(boxes, depth=0.0, log_spread=-2.0, aspect=0.0):
    """Return outputs of regions that change nothing but depth and heading."""
    count = len(boxes)

    def pair(first, second):
        return torch.tensor([[first, second]]).repeat(count, 1)

    zeros = torch.zeros(count)
    return RegionOutput(
        score=zeros,
        boxes_px=boxes,
        color=torch.zeros(count, 5),
        shape=torch.zeros(count, 11),
        pedestrian=zeros,
        meaning=torch.zeros(count, 12),
        speed_limit=torch.zeros(count, 0),
        depth=pair(depth, log_spread),
        aspect=pair(aspect, log_spread),
        hidden=torch.zeros(count, CONFIG.roi_channels),
    )


def test_a_housing_of_usual_size_is_placed_where_it_is():
    from bevstack.datasets.traffic_view.samples import stack_samples

    view = camera((200, 300), focal=300.0, yaw=0.3, place=(1.2, -0.4, 1.5))
    point, facing = np.array([20.0, 7.0, 4.0]), 2.6
    batch = stack_samples([sample(view, [element(view, point, yaw=facing)])])
    boxes = batch.targets.boxes_px
    regions = Regions(torch.tensor([0]), torch.tensor([LIGHT]), boxes, torch.zeros(1))
    output = region_output(boxes, aspect=float(batch.targets.aspect_rad[0]))
    place = locate(batch.views, regions, output, bearing_std_px=0.5)
    assert np.abs(place.position_m[0].numpy() - point).max() < 0.01  # float32 boxes
    assert float(place.heading_rad[0]) == pytest.approx(facing, abs=1e-5)
    # the covariance is long along the line of sight and short across it
    line = point - view.ego_from_cam[:3, 3].numpy()
    distance = np.linalg.norm(line)
    line /= distance
    cov = place.cov_m2[0].numpy()
    along = math.sqrt(line @ cov @ line)
    assert along == pytest.approx(math.exp(-2) * math.sqrt(2) * distance, rel=1e-3)
    across = np.linalg.eigvalsh(cov)[0] ** 0.5
    depth = float(batch.targets.depth_m[0])
    assert across == pytest.approx(0.5 * depth / 300, rel=1e-3)


def test_peaks_are_local_maxima_inside_the_image():
    logits = torch.full((1, 3, 6, 8), -5.0)
    logits[0, LIGHT, 2, 3], logits[0, LIGHT, 2, 4] = 2.0, 1.0  # the second is no maximum
    logits[0, SIGN, 4, 1] = 1.5
    logits[0, SIGN, 1, 7] = 9.0  # outside
    boxes = torch.arange(6 * 8 * 4.0).reshape(1, 1, 6, 8, 4).repeat(1, 3, 1, 1, 1)
    found = find_regions(DenseOutput(logits, logits, boxes), torch.tensor([[24, 28]]), 2)
    assert found.kind.tolist() == [LIGHT, SIGN]
    assert found.logits.tolist() == [2.0, 1.5]
    assert torch.equal(found.boxes_px, torch.stack((boxes[0, 0, 2, 3], boxes[0, 0, 4, 1])))


def test_boxes_are_sampled_at_the_pixels_that_they_cover():
    u = torch.arange(40.0) + 0.5
    image = torch.stack((u.expand(30, 40), (torch.arange(30.0) + 0.5)[:, None].expand(30, 40)))
    regions = Regions(
        torch.tensor([1, 0]),
        torch.tensor([0, 0]),
        torch.tensor([[10.0, 8, 18, 20], [4.0, 4, 8, 8]]),
        torch.zeros(2),
    )
    found = sample_boxes(torch.stack((image * 0, image)), regions, 4, margin=1.0, stride_px=1)
    assert found[0, 0, 0].tolist() == pytest.approx([11, 13, 15, 17])  # middles of quarters
    assert found[0, 1, :, 0].tolist() == pytest.approx([9.5, 12.5, 15.5, 18.5])
    assert not found[1].any()


def test_a_sample_is_predicted_alike_alone_and_beside_another_rig(model):
    batch = two_rigs()
    with torch.no_grad():
        both = model(batch.views)
        found = decode(
            both, batch.views, dataclasses.replace(CONFIG, score_threshold=0), model.calibration
        )
    assert len(found) == 2 and all(len(part) for part in found)
    assert found[0].relevance.shape[1] == 4
    for part in found:
        assert (np.diff(part.scores) <= 0).all()
        assert np.allclose(part.color.sum(1), 1) and np.allclose(part.meaning.sum(1), 1)
    # Relevance attends within a sample: another sample's elements change nothing
    own = both.regions.image == 0
    regions = Regions(*(part[own] for part in both.regions))
    fields = {f.name: getattr(both.region, f.name)[own] for f in dataclasses.fields(both.region)}
    place = type(both.place)(*(part[own] for part in both.place))
    with torch.no_grad():
        alone = model.relevance(batch.views, regions, RegionOutput(**fields), place)
    torch.testing.assert_close(alone, both.relevance[own], rtol=1e-4, atol=1e-5)  # padding


def test_numbers_of_speed_limits_are_read_from_signs_for_speed_limits():
    config = dataclasses.replace(CONFIG, speed_limits_kmh=(30, 50), score_threshold=0)
    torch.manual_seed(0)
    backbone = InternImage(DETECTOR.backbone)
    numbers = TrafficModel(config, backbone, grid=GRID, bev_channels=8).eval()
    batch = two_rigs()
    with torch.no_grad():
        output = numbers(batch.views)
    region, regions = output.region, output.regions
    meaning = torch.zeros_like(region.meaning)
    meaning[:, SIGN_MEANINGS.index("speed_limit")] = 5.0
    limit = torch.tensor([[0.0, 4.0]]).repeat(len(meaning), 1)
    limit[regions.image == 1] = 0.0  # equally probable: not read
    kind = torch.where(torch.arange(len(limit)) % 2 == 0, SIGN, LIGHT)

    def decoded(**fields):
        changed = dataclasses.replace(region, **fields)
        given = output._replace(region=changed, regions=regions._replace(kind=kind))
        return decode(given, batch.views, config, numbers.calibration)

    first, second = decoded(meaning=meaning, speed_limit=limit)
    sign = first.category == ROAD_SIGN
    assert sign.any() and not sign.all()
    np.testing.assert_allclose(first.speed_limit_mps[sign], 50 / 3.6)
    assert np.isnan(first.speed_limit_mps[~sign]).all() and np.isnan(second.speed_limit_mps).all()
    no_limits, _ = decoded(meaning=-meaning, speed_limit=limit)
    assert np.isnan(no_limits.speed_limit_mps).all()


def test_temperature_makes_probabilities_fit_frequencies():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(4000, 3, generator=generator) * 1.5
    labels = torch.multinomial(truth.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(truth * 2.5, labels) == pytest.approx(2.5, rel=0.1)  # of 4,000 draws
    yes = (torch.rand(4000, generator=generator) < truth[:, 0].sigmoid()).long()
    assert fit_temperature(truth[:, 0] / 2, yes) == pytest.approx(0.5, rel=0.1)
    scale, offset = fit_platt(truth[:, 0] * 2 - 1, yes.bool())
    assert (scale, offset) == (pytest.approx(0.5, abs=0.06), pytest.approx(0.5, abs=0.1))
    assert fit_temperature(truth[:0], labels[:0]) == 1.0
    # Hidden labels want equal shares: beside 2,000 of them, logits that are right become flatter.
    hidden = torch.cat((labels, torch.full((2000,), -2)))
    both = torch.cat((truth, truth[:2000]))
    assert fit_temperature(both, hidden) > 1.2
    spread = negative_log_likelihood(both[4000:], hidden[4000:])
    wanted = -torch.stack([row.softmax(0).log().mean() for row in both[4000:]]).mean()
    torch.testing.assert_close(spread, wanted)
    assert fit_platt(truth[:, 0], torch.zeros(4000, dtype=torch.bool)) == (1.0, 0.0)


def test_fitted_temperatures_change_the_predictions():
    calibration = Calibration()
    logits = torch.tensor([0.0, 4.0])
    before = calibration.score(logits, torch.tensor([LIGHT, LIGHT]))
    values = torch.linspace(-3, 3, 50)
    calibrate(calibration, {LIGHT: (values * 3, values + 0.5 * values.sin() > 0.3)}, {})
    after = calibration.score(logits, torch.tensor([LIGHT, LIGHT]))
    assert not torch.allclose(before, after)
    assert "score_scale" in calibration.state_dict()


def test_pixels_of_the_image_reach_the_cells_above_them():
    config = dataclasses.replace(CONFIG, pixel_channels=8)
    torch.manual_seed(0)
    head = DenseHead(config, in_channels=[16]).eval()
    maps = [torch.zeros(1, 16, 12, 16)]
    images = torch.zeros(1, 3, 48, 64)
    lit = images.clone()
    lit[..., 20, 32] = 5.0  # the pixel at the centre of cell (5, 8)
    before, after = (head.pixels[3](head.pixels[0](image)) for image in (images, lit))
    changed = (after != before).any(1)[0]
    rows, columns = changed.nonzero(as_tuple=True)
    assert (rows.float().mean(), columns.float().mean()) == (5, 8)
    assert not torch.equal(head(maps, lit).logits, head(maps, images).logits)
    assert DenseHead(CONFIG, in_channels=[16]).pixels is None
