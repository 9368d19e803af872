"""Deformable attention to several levels, and the encoder's layer (arXiv 2010.04159, section 4.2).

DINO's encoder and Mask2Former's pixel decoder consist of these layers.

Letters: B batch, L levels, S cells of all levels, Q queries, C channels, H heads, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevstack.models.layers.deformable_attention import (
    float32_linear,
    init_projection,
    init_sampling,
)
from bevstack.ops import ms_deform_attn


class MultiScaleAttention(nn.Module):
    """Attention of queries to a few points of every level."""

    def __init__(self, channels: int, *, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.heads = (num_heads, num_levels, num_points)
        points = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(channels, points * 2)
        self.attention_weights = nn.Linear(channels, points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        init_projection(self.value_proj, self.output_proj)
        init_sampling(
            self.sampling_offsets,
            self.attention_weights,
            num_heads=num_heads,
            num_points=num_points,
        )

    def forward(
        self,
        query: Tensor,  # (B, Q, C) with its position added
        value: Tensor,  # (B, S, C)
        references: Tensor,  # (B, Q, L, 2) points, or (B, Q, L, 4) boxes; shares of the padded map
        *,
        padding: Tensor | None,  # (B, S) bool; None: there is none
        shapes: list[tuple[int, int]],
    ) -> Tensor:  # (B, Q, C)
        """Return the attended values, without residual."""
        heads, levels, points = self.heads
        offsets = float32_linear(self.sampling_offsets, query)
        offsets = torch.unflatten(offsets, -1, (heads, levels, points, 2))
        weights = torch.unflatten(self.attention_weights(query), -1, (heads, levels * points))
        weights = torch.unflatten(weights.softmax(-1), -1, (levels, points))
        centers = references[:, :, None, :, None, :2]
        if references.shape[-1] == 2:
            sides = offsets.new_tensor([(width, height) for height, width in shapes])
            locations = centers + offsets / sides[:, None]
        else:
            half = references[:, :, None, :, None, 2:] * 0.5
            locations = centers + offsets / points * half
        value = self.value_proj(value)
        if padding is not None:
            value = value.masked_fill(padding[..., None], 0.0)
        value = torch.unflatten(value, -1, (heads, -1))
        output: Tensor = self.output_proj(ms_deform_attn(value, shapes, locations, weights))
        return output


class Feedforward(nn.Module):
    """Two linear maps with a ReLU between, without residual."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden_channels)
        self.linear2 = nn.Linear(hidden_channels, channels)
        init_projection(self.linear1, self.linear2)

    def forward(
        self,
        x: Tensor,  # (..., C)
    ) -> Tensor:  # (..., C)
        """Apply both linear maps."""
        output: Tensor = self.linear2(self.linear1(x).relu())
        return output


class EncoderLayer(nn.Module):
    """Deformable self-attention of cells, and a feed-forward part; norms follow each."""

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        num_levels: int,
        num_points: int,
        feedforward_channels: int,
    ) -> None:
        super().__init__()
        self.attention = MultiScaleAttention(
            channels, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.feedforward = Feedforward(channels, feedforward_channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(
        self,
        x: Tensor,  # (B, S, C)
        position: Tensor,  # (B, S, C)
        references: Tensor,  # (B, S, L, 2)
        *,
        padding: Tensor | None,  # (B, S) bool; None: there is none
        shapes: list[tuple[int, int]],
    ) -> Tensor:  # (B, S, C)
        """Return the cells after this layer."""
        attended = self.attention(x + position, x, references, padding=padding, shapes=shapes)
        x = self.norms[0](x + attended)
        output: Tensor = self.norms[1](x + self.feedforward(x))
        return output
