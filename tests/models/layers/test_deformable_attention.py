from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bevstack.models.layers.deformable_attention import (
    DeformableAttention,
    float32_linear,
    init_sampling,
)
from tests.models import naive
from tests.models.small_models import randomise


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_cross_attention_equals_loops_over_heads_and_points(batch: int) -> None:
    torch.manual_seed(batch)
    module = randomise(DeformableAttention(6, num_heads=2, num_points=3).double())
    query = torch.randn(batch, 5, 6, dtype=torch.float64)
    value = torch.randn(batch, 12, 6, dtype=torch.float64)
    references = torch.rand(batch, 5, 2, dtype=torch.float64)
    with torch.no_grad():
        got = module(query, value, references, (3, 4))
        wanted = naive.deformable_attention(module, query, value, references, (3, 4))
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)  # float64 against float64


def test_sampling_starts_as_rays_of_growing_length_repeated_over_levels() -> None:
    offsets, weights = nn.Linear(5, 6 * 3 * 2 * 2), nn.Linear(5, 6 * 3 * 2)
    init_sampling(offsets, weights, num_heads=6, num_points=2)
    bias = offsets.bias.view(6, 3, 2, 2)  # head, level, point, xy
    for head in range(6):
        x, y = math.cos(math.pi * head / 3), math.sin(math.pi * head / 3)
        longest = max(abs(x), abs(y))
        for level in range(3):
            for point in range(2):
                wanted = torch.tensor((x, y)) * (point + 1) / longest
                torch.testing.assert_close(bias[head, level, point], wanted, rtol=0, atol=1e-6)
    assert not offsets.weight.any() and not weights.weight.any() and not weights.bias.any()


@pytest.mark.parametrize("bias", [True, False])
def test_linear_of_coordinates_is_float32_under_autocast_and_in_half_models(bias: bool) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(7, 3, bias=bias), torch.randn(4, 7)
    exact = linear(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x).dtype == torch.bfloat16
        assert torch.equal(float32_linear(linear, x), exact)
        assert float32_linear(linear, x.bfloat16()).dtype == torch.float32
    assert float32_linear(linear.bfloat16(), x.bfloat16()).dtype == torch.float32
    assert float32_linear(linear.double(), x.double()).dtype == torch.float64
