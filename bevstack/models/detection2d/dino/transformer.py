"""Layers of DINO's decoder, with deformable attention (arXiv 2010.04159).

Letters: B batch, L levels, S cells of all levels, Q queries, C channels.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from bevstack.config.dino import DinoConfig
from bevstack.models.layers.deformable_encoder import (
    EncoderLayer,
    Feedforward,
    MultiScaleAttention,
)


def encoder_layer(config: DinoConfig) -> EncoderLayer:
    """Build a layer of the encoder."""
    return EncoderLayer(
        config.channels,
        num_heads=config.num_heads,
        num_levels=config.num_levels,
        num_points=config.num_points,
        feedforward_channels=config.feedforward_channels,
    )


class DecoderLayer(nn.Module):
    """Self-attention of queries, deformable attention to cells, and a feed-forward part."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        channels = config.channels
        self.self_attention = nn.MultiheadAttention(channels, config.num_heads, batch_first=True)
        self.cross_attention = MultiScaleAttention(
            channels,
            num_heads=config.num_heads,
            num_levels=config.num_levels,
            num_points=config.num_points,
        )
        self.feedforward = Feedforward(channels, config.feedforward_channels)
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
