from __future__ import annotations

import math

import pytest
import torch

from bevstack.config import BEVEncoderConfig
from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from bevstack.models.temporal.bev_resampling import resample_bev
from tests.models import naive
from tests.models.bevformer_oracle import assert_close, grid_of, load_published, read_case, rig_of
from tests.models.detection3d.test_bev_encoder import FixedEncoding

CASES = [f"bev_features_bda_{index}" for index in range(3)]


@pytest.mark.parametrize("name", [pytest.param(c, marks=pytest.mark.oracle(c)) for c in CASES])
def test_resampled_map_matches_the_published_code(name: str) -> None:
    case = read_case(name)
    grid = grid_of((20, 20))
    before = case.inputs["bev_before"].transpose(1, 2).unflatten(2, (20, 20))
    augmentation = torch.linalg.inv(case.inputs["bev_mat"].double())[None]
    after = resample_bev(before, augmentation, grid)
    assert_close(after.flatten(2).transpose(1, 2), case.outputs["output"], case.tolerance)


@pytest.mark.oracle("bev_features_bda_0")
def test_camera_and_level_embeddings_match_the_published_code() -> None:
    case = read_case("bev_features_bda_0")
    grid = grid_of((20, 20))
    config = BEVEncoderConfig(num_layers=1, feedforward_channels=128)
    encoder = BEVEncoder(grid, config, channels=64, num_levels=4).eval()
    weights = {f"transformer.{name}": value for name, value in case.weights.items()}
    weights["bev_embedding.weight"] = case.inputs["bev_queries"]
    encoder.positional_encoding = FixedEncoding(case.inputs["bev_pos"][0].flatten(1).T)
    load_published(
        encoder,
        weights,
        published="pts_bbox_head.",
        ours="encoder.",
        allow_missing=["positional_encoding.tokens"],
    )
    rig = rig_of(case.inputs["lidar2img"], case.image_size)
    pairs = find_visible_pairs(rig, grid, num_heights=4, padded_size=case.image_size)
    bev = encoder(case.features("mlvl_feats"), pairs, torch.arange(6)[None])
    before = case.inputs["bev_before"]
    assert_close(bev.flatten(2).transpose(1, 2), before, case.tolerance)


def test_each_cell_is_sampled_at_its_point_before_augmentation() -> None:
    grid = BEVGrid(x_range_m=(-7, 5), y_range_m=(-3, 6), shape=(6, 8))  # neither centred nor square
    angle, scale = 0.4, 1.03
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor(((cos, -sin, 0.0), (sin, cos, 0.0), (0.0, 0.0, 1.0))) * scale
    flip = torch.diag(torch.tensor((-1.0, 1.0, 1.0)))
    augmentation = torch.stack((flip @ matrix, matrix)).double()
    bev = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    after = resample_bev(bev, augmentation, grid)
    for b in range(2):
        inverse = torch.linalg.inv(augmentation[b])
        for row in range(6):
            for column in range(8):
                point = torch.tensor(
                    (-7 + 12 * (column + 0.5) / 8, -3 + 9 * (row + 0.5) / 6, 0.0)
                ).double()
                x, y, _ = (inverse @ point).tolist()
                image = bev[b].permute(1, 2, 0)
                wanted = naive.bilinear(image, (x + 7) / 12, (y + 3) / 9)
                torch.testing.assert_close(after[b, :, row, column], wanted, rtol=1e-9, atol=1e-9)


def test_mirroring_flips_the_map_and_no_augmentation_returns_it() -> None:
    grid = BEVGrid(shape=(5, 4))
    bev = torch.randn(1, 2, 5, 4)
    mirror = torch.diag(torch.tensor((1.0, -1.0, 1.0)))[None]
    torch.testing.assert_close(resample_bev(bev, mirror, grid), bev.flip(2))
    assert resample_bev(bev, None, grid) is bev


def test_annotations_and_map_move_together() -> None:
    grid = BEVGrid(x_range_m=(-10, 10), y_range_m=(-10, 10), shape=(40, 40))
    angle = math.radians(20)
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor(((cos, -sin, 0.0), (sin, cos, 0.0), (0.0, 0.0, 1.0)))
    centre = torch.tensor((4.0, -3.0, 0.0))
    metres = grid.cell_centers() * 20 - 10
    blob = (-(metres - centre[:2]).square().sum(-1)).exp().view(1, 1, 40, 40)
    moved = resample_bev(blob, matrix[None], grid).flatten()
    peak = metres[moved.argmax()]
    assert float((peak - (matrix @ centre)[:2]).abs().max()) <= 0.25 + 1e-4  # half a cell


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="bev_augmentation must have shape"):
        resample_bev(torch.zeros(2, 3, 4, 5), torch.eye(3), BEVGrid(shape=(4, 5)))
