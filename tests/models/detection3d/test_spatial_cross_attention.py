from __future__ import annotations

import math

import pytest
import torch

from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.spatial_cross_attention import SpatialCrossAttention
from bevstack.models.detection3d.visible_pairs import VisiblePairs, find_visible_pairs
from tests.models import naive
from tests.models.bevformer_oracle import (
    ENCODER_LAYER,
    assert_close,
    load_published,
    pack_pairs,
    read_case,
)
from tests.models.small_models import randomise, ring_rig

PUBLISHED = ENCODER_LAYER + "attentions.1."
OURS = "encoder.layers.0.cross_attention."


def published_size() -> SpatialCrossAttention:
    return SpatialCrossAttention(64, num_levels=4, num_heads=8, num_heights=4, cross_points=8)


@pytest.mark.oracle("ms_deform_attn_3d")
def test_attention_to_one_camera_matches_the_published_code() -> None:
    case = read_case("ms_deform_attn_3d")
    module = published_size()
    load_published(
        module,
        case.weights,
        published=PUBLISHED + "deformable_attention.",
        ours=OURS,
        allow_missing=["output_proj.weight", "output_proj.bias"],
    )
    queries = case.inputs["query"].shape[1]
    pairs = VisiblePairs(
        torch.zeros(queries, dtype=torch.int64),
        torch.arange(queries),
        case.inputs["reference_points"][0],
        torch.ones(1, queries, dtype=torch.int64),
    )
    shapes = [tuple(s) for s in case.inputs["spatial_shapes"].tolist()]
    output = module.attend(case.inputs["query"][0], case.inputs["value"], shapes, pairs)
    assert_close(output[None], case.outputs["output"], case.tolerance)


@pytest.mark.oracle("spatial_cross_attention")
def test_attention_and_its_gradients_match_the_published_code() -> None:
    case = read_case("spatial_cross_attention")
    module = published_size()
    load_published(module, case.weights, published=PUBLISHED, ours=OURS)
    query = case.inputs["query"].requires_grad_()
    value = case.inputs["value"].requires_grad_()  # (N, S, 1, C)
    pairs = pack_pairs(
        case.inputs["reference_points_cam"].transpose(0, 1),
        case.inputs["bev_mask"].transpose(0, 1),
    )
    assert (pairs.num_cameras == 0).any() and (pairs.num_cameras == 2).any()
    shapes = [tuple(s) for s in case.inputs["spatial_shapes"].tolist()]
    output = module(query, value[:, :, 0], shapes, pairs) + query
    assert_close(output, case.outputs["output"], case.tolerance)
    output.backward(case.inputs["grad_out"])
    assert_close(query.grad, case.outputs["grad_query"], case.tolerance)
    assert_close(value.grad, case.outputs["grad_value"], case.tolerance)
    for name, parameter in module.named_parameters():
        inner = "" if name.startswith("output_proj") else "deformable_attention."
        assert_close(parameter.grad, case.outputs[f"grad_w.{inner}{name}"], case.tolerance)


def small_case(batch: int, cameras: int):
    generator = torch.Generator().manual_seed(10 * batch + cameras)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shapes = [(3, 5), (2, 2)]
    module = SpatialCrossAttention(8, num_levels=2, num_heads=2, num_heights=3, cross_points=6)
    module = randomise(module.double())
    query, value = normal(batch, 7, 8), normal(batch, cameras, 19, 8)
    anchors = 0.5 + 0.6 * normal(batch, cameras, 7, 3, 2)
    visible = torch.rand(batch, cameras, 7, 3, generator=generator) < 0.2
    return module, query, value, shapes, anchors, visible


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("cameras", [1, 4])
def test_packed_pairs_equal_loops_over_samples_and_cameras(batch: int, cameras: int) -> None:
    module, query, value, shapes, anchors, visible = small_case(batch, cameras)
    with torch.no_grad():
        wanted = naive.spatial_cross_attention(module, query, value, shapes, anchors, visible)
        got = module(query, value.flatten(0, 1), shapes, pack_pairs(anchors, visible))
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)  # float64 against float64


def test_queries_that_no_camera_sees_get_the_output_bias() -> None:
    module, query, value, shapes, anchors, visible = small_case(2, 4)
    pairs = pack_pairs(anchors, torch.zeros_like(visible))
    output = module(query, value.flatten(0, 1), shapes, pairs)
    assert torch.equal(output, module.output_proj.bias.expand_as(output))
    output.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_far_away_anchors_of_a_visible_pair_add_nothing() -> None:
    module, query, value, shapes, anchors, visible = small_case(1, 2)
    visible[0, 0, 0] = torch.tensor([True, False, True])
    far = anchors.clone()
    far[0, 0, 0, 1] = 1e7  # behind the camera, divided by the smallest depth
    beyond = anchors.clone()
    beyond[0, 0, 0, 1] = math.inf
    outputs = [
        module(query, value.flatten(0, 1), shapes, pack_pairs(a, visible)) for a in (far, beyond)
    ]
    assert outputs[0].isfinite().all()
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)


@pytest.mark.parametrize("step", [16, 4096])
def test_padding_changes_neither_values_nor_gradients(step: int) -> None:
    grid = BEVGrid(x_range_m=(-9, 11), y_range_m=(-8, 6), shape=(4, 5))
    rig = ring_rig(2, 3, (32, 48))[:, 0]
    module = randomise(
        SpatialCrossAttention(24, num_levels=2, num_heads=3, num_heights=2, cross_points=4)
    )
    shapes = [(4, 6), (2, 3)]
    results = []
    for capacity_step in (1, step):
        pairs = find_visible_pairs(
            rig, grid, num_heights=2, padded_size=(32, 48), capacity_step=capacity_step
        )
        torch.manual_seed(0)
        query = torch.randn(2, 20, 24, requires_grad=True)
        value = torch.randn(6, 30, 24, requires_grad=True)
        module.zero_grad()
        output = module(query, value, shapes, pairs)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        gradients = [parameter.grad.clone() for parameter in module.parameters()]
        results.append((output, query.grad, value.grad, *gradients))
    for exact, padded in zip(*results, strict=True):
        # Matrix products over more rows may sum in another order.
        torch.testing.assert_close(padded, exact, rtol=1e-5, atol=1e-5)
