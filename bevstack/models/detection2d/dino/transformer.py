"""Layers of DINO's encoder and decoder, with deformable attention (arXiv 2010.04159).

Letters: B batch, L levels, S cells of all levels, Q queries, C channels, H heads, P points.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bevstack.config.dino import DinoConfig
from bevstack.models.layers.deformable_attention import (
    float32_linear,
    init_projection,
    init_sampling,
)
from bevstack.ops import ms_deform_attn


class MultiScaleAttention(nn.Module):
    """Attention of queries to a few points of every level."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        channels = config.channels
        self.heads = (config.num_heads, config.num_levels, config.num_points)
        points = config.num_heads * config.num_levels * config.num_points
        self.sampling_offsets = nn.Linear(channels, points * 2)
        self.attention_weights = nn.Linear(channels, points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        init_projection(self.value_proj, self.output_proj)
        init_sampling(
            self.sampling_offsets,
            self.attention_weights,
            num_heads=config.num_heads,
            num_points=config.num_points,
        )

    def forward(
        self,
        query: Tensor,  # (B, Q, C) with its position added
        value: Tensor,  # (B, S, C)
        references: Tensor,  # (B, Q, L, 2) points, or (B, Q, L, 4) boxes; shares of the padded map
        *,
        padding: Tensor,  # (B, S) bool
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
        value = self.value_proj(value).masked_fill(padding[..., None], 0.0)
        value = torch.unflatten(value, -1, (heads, -1))
        output: Tensor = self.output_proj(ms_deform_attn(value, shapes, locations, weights))
        return output


class Feedforward(nn.Module):
    """Two linear maps with a ReLU between, without residual."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.channels, config.feedforward_channels)
        self.linear2 = nn.Linear(config.feedforward_channels, config.channels)
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

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        self.attention = MultiScaleAttention(config)
        self.feedforward = Feedforward(config)
        self.norms = nn.ModuleList(nn.LayerNorm(config.channels) for _ in range(2))

    def forward(
        self,
        x: Tensor,  # (B, S, C)
        position: Tensor,  # (B, S, C)
        references: Tensor,  # (B, S, L, 2)
        *,
        padding: Tensor,  # (B, S) bool
        shapes: list[tuple[int, int]],
    ) -> Tensor:  # (B, S, C)
        """Return the cells after this layer."""
        attended = self.attention(x + position, x, references, padding=padding, shapes=shapes)
        x = self.norms[0](x + attended)
        output: Tensor = self.norms[1](x + self.feedforward(x))
        return output


class DecoderLayer(nn.Module):
    """Self-attention of queries, deformable attention to cells, and a feed-forward part."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        channels = config.channels
        self.self_attention = nn.MultiheadAttention(channels, config.num_heads, batch_first=True)
        self.cross_attention = MultiScaleAttention(config)
        self.feedforward = Feedforward(config)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self,
        query: Tensor,  # (B, Q, C)
        position: Tensor,  # (B, Q, C)
        memory: Tensor,  # (B, S, C)
        references: Tensor,  # (B, Q, L, 4)
        *,
        hidden: Tensor | None,  # (Q, Q) bool, True where a query may not see another one
        padding: Tensor,  # (B, S) bool
        shapes: list[tuple[int, int]],
    ) -> Tensor:  # (B, Q, C)
        """Return the queries after this layer."""
        placed = query + position
        attended = self.self_attention(placed, placed, query, attn_mask=hidden, need_weights=False)[
            0
        ]
        query = self.norms[0](query + attended)
        seen = self.cross_attention(
            query + position, memory, references, padding=padding, shapes=shapes
        )
        query = self.norms[1](query + seen)
        output: Tensor = self.norms[2](query + self.feedforward(query))
        return output


def box_branch(channels: int) -> nn.Sequential:
    """Return linear maps with ReLU to the four numbers of a box; the last one starts at zero."""
    branch = nn.Sequential(
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, 4),
    )
    last = cast(nn.Linear, branch[-1])
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return branch
