from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bevstack.config import BEVEncoderConfig
from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from tests.models import naive
from tests.models.bevformer_oracle import assert_close, grid_of, load_published, read_case, rig_of
from tests.models.small_models import make_batch, randomise, small_config


class FixedEncoding(nn.Module):
    """Positional encoding with given numbers."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.register_buffer("tokens", tokens)

    def forward(self) -> Tensor:
        return self.tokens


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        pytest.param(f"bevformer_encoder_{n}l_real_old0", n, marks=pytest.mark.oracle(c))
        for n in (1, 2)
        for c in [f"bevformer_encoder_{n}l_real_old0"]
    ],
)
def test_layers_match_the_published_encoder(name: str, layers: int) -> None:
    case = read_case(name)
    grid = grid_of(case.cfg["bev"])
    config = BEVEncoderConfig(num_layers=layers, num_heads=8, feedforward_channels=128)
    encoder = BEVEncoder(grid, config, channels=64, num_levels=4).eval()
    load_published(
        encoder.layers,
        {name.removeprefix("layers."): w for name, w in case.weights.items()},
        published="pts_bbox_head.transformer.encoder.layers.",
        ours="encoder.layers.",
    )
    rig = rig_of(case.inputs["lidar2img"], case.image_size)
    pairs = find_visible_pairs(rig, grid, num_heights=4, padded_size=case.image_size)
    query = case.inputs["bev_query"].transpose(0, 1)
    pos = case.inputs["bev_pos"][:, 0]
    shapes = [tuple(s) for s in case.inputs["spatial_shapes"].tolist()]
    for layer in encoder.layers:
        value = case.inputs["value"][:, :, 0]
        query = layer(query, pos, grid.cell_centers(), grid.shape, value, shapes, pairs)
    assert_close(query, case.outputs["output"], case.tolerance)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_encoder_equals_its_formula_with_looped_attentions(batch: int) -> None:
    config = small_config()
    grid = BEVGrid(x_range_m=(-9, 11), y_range_m=(-8, 6), shape=(2, 3))
    encoder = BEVEncoder(grid, config.encoder, channels=24, num_levels=2).double()
    randomise(encoder, seed=batch)
    data = make_batch(batch, 2)
    rig = data.rig[:, 0]
    pyramid = [torch.randn(batch, 2, 24, *s, dtype=torch.float64) for s in ((3, 5), (2, 1))]
    pairs = find_visible_pairs(rig, grid, num_heights=3, padded_size=(64, 96))
    slots = data.camera_slots[:, :2]
    with torch.no_grad():
        got = encoder(pyramid, pairs, slots)
        wanted = _encoded_by_loops(encoder, pyramid, rig, slots)
    # the anchors are float32, although the rest is computed in float64
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def _encoded_by_loops(encoder, pyramid, rig, slots):
    grid = encoder.grid
    batch, cameras = slots.shape
    shapes = [tuple(level.shape[-2:]) for level in pyramid]
    value = []
    for b in range(batch):
        for n in range(cameras):
            for index, level in enumerate(pyramid):
                for row in range(level.shape[3]):
                    for column in range(level.shape[4]):
                        pixel = level[b, n, :, row, column] + encoder.level_embeds[index]
                        value.append(pixel + encoder.camera_embeds[slots[b, n]])
    value = torch.stack(value).view(batch, cameras, -1, 24)
    pillars = grid.to_metres(grid.pillar_points(3, torch.float64))
    uv, depth = rig.project(pillars.flatten(0, 1))
    visible = rig.visible(uv, depth).view(batch, cameras, -1, 3)
    anchors = (uv / torch.tensor((96, 64))).view(batch, cameras, -1, 3, 2)
    query = encoder.bev_embedding.expand(batch, -1, -1)
    pos, centers = encoder.positional_encoding(), grid.cell_centers(torch.float64)
    for layer in encoder.layers:
        query = layer.norms[0](
            query
            + naive.temporal_self_attention(layer.self_attention, query, pos, centers, grid.shape)
        )
        query = layer.norms[1](
            query
            + naive.spatial_cross_attention(
                layer.cross_attention, query, value, shapes, anchors, visible
            )
        )
        hidden = (query @ layer.feedforward.fc1.weight.T + layer.feedforward.fc1.bias).clamp(min=0)
        fed = hidden @ layer.feedforward.fc2.weight.T + layer.feedforward.fc2.bias
        query = layer.norms[2](query + fed)
    return query.transpose(1, 2).reshape(batch, 24, *grid.shape)


def test_every_parameter_takes_part() -> None:
    config = small_config()
    encoder = BEVEncoder(config.grid, config.encoder, channels=24, num_levels=2)
    data = make_batch(1, 5)
    pyramid = [torch.randn(1, 5, 24, *s) for s in ((6, 9), (3, 4))]
    pairs = find_visible_pairs(data.rig[:, 0], config.grid, num_heights=3, padded_size=(64, 96))
    randomise(encoder)(pyramid, pairs, data.camera_slots).square().sum().backward()
    idle = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_embeddings_start_as_published() -> None:
    torch.manual_seed(0)
    grid = BEVGrid(shape=(20, 30))
    encoder = BEVEncoder(grid, BEVEncoderConfig(num_layers=1), channels=256, num_levels=4)
    assert abs(float(encoder.bev_embedding.std()) - 1) < 0.02  # 153,600 draws of N(0, 1)
    bound = (6 / (4 + 256)) ** 0.5  # Xavier-uniform of a (4, 256) matrix
    assert 0.9 * bound < float(encoder.level_embeds.abs().max()) <= bound
    fc1 = encoder.layers[0].feedforward.fc1
    assert float(fc1.weight.abs().max()) <= (6 / (512 + 256)) ** 0.5
    assert not encoder.layers[0].cross_attention.output_proj.bias.any()
