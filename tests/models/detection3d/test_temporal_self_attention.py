from __future__ import annotations

import pytest
import torch

from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.temporal_self_attention import TemporalSelfAttention
from tests.models import naive
from tests.models.bevformer_oracle import ENCODER_LAYER, assert_close, load_published, read_case
from tests.models.small_models import randomise


@pytest.mark.oracle("temporal_self_attention")
def test_attention_matches_the_published_two_queue_form() -> None:
    case = read_case("temporal_self_attention")
    module = TemporalSelfAttention(64, num_heads=8, self_points=4, self_queues=2)
    load_published(
        module,
        case.weights,
        published=ENCODER_LAYER + "attentions.0.",
        ours="encoder.layers.0.self_attention.",
    )
    query, pos = case.inputs["query"], case.inputs["query_pos"][0]
    output = module(query, pos, case.inputs["ref_2d"][0, :, 0], (20, 20))
    assert_close(output + query, case.outputs["out_v2"], case.tolerance)


@pytest.mark.parametrize("queues", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_attention_equals_loops_over_queues_and_points(batch: int, queues: int) -> None:
    torch.manual_seed(batch)
    shape = (3, 4)
    module = TemporalSelfAttention(6, num_heads=2, self_points=3, self_queues=queues).double()
    randomise(module)
    query = torch.randn(batch, 12, 6, dtype=torch.float64)
    pos = torch.randn(12, 6, dtype=torch.float64)
    centers = BEVGrid(shape=shape).cell_centers(torch.float64)
    with torch.no_grad():
        wanted = naive.temporal_self_attention(module, query, pos, centers, shape)
        got = module(query, pos, centers, shape)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)  # float64 against float64


def test_attention_starts_uniform_with_offsets_in_all_directions() -> None:
    module = TemporalSelfAttention(16, num_heads=8, self_points=4, self_queues=2)
    offsets = module.sampling_offsets.bias.view(8, 2, 4, 2)
    assert torch.equal(offsets[:, 0], offsets[:, 1])
    torch.testing.assert_close(offsets[0, 0], torch.tensor([[p, 0.0] for p in (1.0, 2, 3, 4)]))
    torch.testing.assert_close(offsets[1, 0, 2], torch.tensor([3.0, 3.0]))  # a corner, not a circle
    torch.testing.assert_close(offsets[6, 0, 0], torch.tensor([0.0, -1.0]), atol=1e-6, rtol=0)
    assert not module.attention_weights.weight.any()
    assert not module.sampling_offsets_pos.weight.any()


def test_offsets_stay_float32_under_autocast() -> None:
    torch.manual_seed(0)
    module = TemporalSelfAttention(16, num_heads=2, self_points=2, self_queues=2)
    randomise(module, scale=1.0)
    shape = (5, 200)  # a coordinate in bfloat16 would err by 0.4 cell
    query, pos = torch.randn(1, 1000, 16), torch.randn(1000, 16)
    centers = BEVGrid(shape=shape).cell_centers()
    module.value_proj.weight.data = torch.eye(16)
    with torch.no_grad():
        exact = module(query, pos, centers, shape)
        with torch.autocast("cpu", torch.bfloat16):
            lowered = module(query, pos, centers, shape)
    # bfloat16 values and weights: 3 digits; misplaced samples of white noise would err by ~1
    assert float((lowered.float() - exact).abs().mean() / exact.abs().mean()) < 0.02
