"""Compilation of layers as whole graphs, once for all frames and rigs of one capacity."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from bevstack.config import InternImageConfig, ResNetConfig
from bevstack.geometry import BEVGrid
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.backbones.resnet import ResNet
from bevstack.models.detection3d.bev_encoder import BEVEncoderLayer
from bevstack.models.detection3d.decoder import DecoderLayer
from bevstack.models.detection3d.spatial_cross_attention import SpatialCrossAttention
from bevstack.models.detection3d.visible_pairs import VisiblePairs, find_visible_pairs
from tests.models.small_models import randomise, ring_rig, small_config

GRID = BEVGrid(x_range_m=(-9, 11), y_range_m=(-8, 6), shape=(4, 5))
SHAPES = ((4, 6), (2, 3))
STEP = 64  # of the capacity; two samples with three cameras each have fewer pairs
CHANNELS = 24
CONFIG = small_config()


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(module: nn.Module) -> tuple[Callable[..., Tensor], CompileCounterWithBackend]:
    """Return the module compiled as one graph, and a counter of its compilations."""
    counter = CompileCounterWithBackend("aot_eager")
    return torch.compile(module, fullgraph=True, backend=counter), counter


def pairs_of(batch: int, *, seed: int, step: int = STEP) -> VisiblePairs:
    rig = ring_rig(batch, 3, (32, 48), seed=seed)[:, 0]
    return find_visible_pairs(rig, GRID, num_heights=3, padded_size=(32, 48), capacity_step=step)


def encoder_inputs(batch: int, *, seed: int, step: int = STEP) -> tuple[object, ...]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, 20, CHANNELS, generator=generator)
    pos = torch.randn(20, CHANNELS, generator=generator)
    value = torch.randn(batch * 3, 30, CHANNELS, generator=generator)
    pairs = pairs_of(batch, seed=seed, step=step)
    return query, pos, GRID.cell_centers(), GRID.shape, value, SHAPES, pairs


def test_an_encoder_layer_is_compiled_once_for_frames_and_rigs_of_one_capacity() -> None:
    layer = randomise(BEVEncoderLayer(CONFIG.encoder, channels=CHANNELS, num_levels=2))
    run, counter = compiled(layer)
    counts = set()
    for seed in range(4):  # another rig, another frame each time
        inputs = encoder_inputs(2, seed=seed)
        pairs = inputs[-1]
        assert isinstance(pairs, VisiblePairs)
        counts.add(int((pairs.query < 2 * 20).sum()))
        assert pairs.camera.shape[0] == STEP
        # The traced layer fuses nothing: only the order of a few float32 sums may differ.
        torch.testing.assert_close(run(*inputs), layer(*inputs), rtol=1e-5, atol=1e-5)
    assert len(counts) > 1  # the rigs see different numbers of cells
    assert counter.frame_count == 1


def test_gradients_of_a_compiled_encoder_layer_are_those_of_the_layer() -> None:
    layer = randomise(BEVEncoderLayer(CONFIG.encoder, channels=CHANNELS, num_levels=2))
    run, _ = compiled(layer)
    gradients = []
    for function in (layer, run):
        layer.zero_grad()
        output = function(*encoder_inputs(1, seed=3))
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in layer.parameters()])
    for eager, graph in zip(*gradients, strict=True):
        torch.testing.assert_close(graph, eager, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_generated_code_of_an_encoder_layer_gives_the_same_output() -> None:
    layer = randomise(BEVEncoderLayer(CONFIG.encoder, channels=CHANNELS, num_levels=2))
    run = torch.compile(layer, fullgraph=True)  # C++ by inductor
    for seed in range(2):
        inputs = encoder_inputs(2, seed=seed)
        torch.testing.assert_close(run(*inputs), layer(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_decoder_layer_is_compiled_once_for_many_frames(groups: int) -> None:
    layer = randomise(DecoderLayer(CONFIG.decoder, channels=CHANNELS))
    run, counter = compiled(layer)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        query, references, bev = (
            torch.rand(2, *shape, generator=generator)
            for shape in ((12, CHANNELS), (12, 2), (20, CHANNELS))
        )
        pos = torch.randn(12, CHANNELS, generator=generator)
        inputs = (query, pos, references, bev, GRID.shape, groups)
        torch.testing.assert_close(run(*inputs), layer(*inputs), rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: InternImage(
            InternImageConfig(
                channels=8,
                depths=(1, 1, 2, 1),
                groups=(1, 2, 4, 8),
                drop_path_rate=0.0,
                layer_scale=1.0,
                post_norm=True,
                offset_scale=2.0,
            )
        ),
        lambda: ResNet(ResNetConfig(base_channels=4, norm="BN")),
    ],
    ids=["internimage", "resnet"],
)
def test_a_backbone_is_one_graph(backbone: Callable[[], nn.Module]) -> None:
    model = backbone().eval()
    run, counter = compiled(model)
    with torch.no_grad():
        for seed in range(2):
            images = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(seed))
            for got, wanted in zip(run(images), model(images), strict=True):
                torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1


class AttentionOverTensors(nn.Module):
    """Packed cross-attention with the pairs as plain tensors, as exported programs take them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = SpatialCrossAttention(
            CHANNELS, num_levels=2, num_heads=3, num_heights=3, cross_points=6
        )

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        camera: Tensor,
        index: Tensor,
        anchors: Tensor,
        num_cameras: Tensor,
    ) -> Tensor:
        pairs = VisiblePairs(camera, index, anchors, num_cameras)
        return self.attention(query, value, SHAPES, pairs)


def test_exported_packed_attention_serves_other_rigs_of_its_capacity() -> None:
    module = randomise(AttentionOverTensors())

    def inputs(seed: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        pairs = pairs_of(2, seed=seed)
        return (
            torch.randn(2, 20, CHANNELS, generator=generator),
            torch.randn(6, 30, CHANNELS, generator=generator),
            pairs.camera,
            pairs.query,
            pairs.anchors,
            pairs.num_cameras,
        )

    program = torch.export.export(module, inputs(0))
    for seed in range(3):
        exported = program.module()(*inputs(seed))
        torch.testing.assert_close(exported, module(*inputs(seed)), rtol=1e-5, atol=1e-5)
