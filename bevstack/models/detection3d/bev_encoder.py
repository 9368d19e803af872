"""The BEV encoder of one frame (arXiv 2203.17270, section 3), from camera pyramids to a BEV map.

Letters: B batch, N cameras, C channels, L levels, S pixels of all levels, Y X grid, Q = Y * X.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from bevstack.config import BEVEncoderConfig
from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.spatial_cross_attention import SpatialCrossAttention
from bevstack.models.detection3d.temporal_self_attention import TemporalSelfAttention
from bevstack.models.detection3d.visible_pairs import VisiblePairs
from bevstack.models.layers.feedforward import FeedForward
from bevstack.models.layers.positional_encoding import LearnedPositionalEncoding


class BEVEncoderLayer(nn.Module):
    """Self-attention, cross-attention to the cameras, feed-forward; a norm after each residual."""

    def __init__(self, config: BEVEncoderConfig, *, channels: int, num_levels: int) -> None:
        super().__init__()
        self.self_attention = TemporalSelfAttention(
            channels,
            num_heads=config.num_heads,
            self_points=config.self_points,
            self_queues=config.self_queues,
        )
        self.cross_attention = SpatialCrossAttention(
            channels,
            num_levels=num_levels,
            num_heads=config.num_heads,
            num_heights=config.num_heights,
            cross_points=config.cross_points,
        )
        self.feedforward = FeedForward(
            channels, config.feedforward_channels, dropout=config.dropout
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        query: Tensor,  # (B, Q, C)
        pos: Tensor,  # (Q, C)
        cell_centers: Tensor,  # (Q, 2) normalised
        grid_shape: tuple[int, int],
        value: Tensor,  # (B * N, S, C)
        spatial_shapes: Sequence[tuple[int, int]],
        pairs: VisiblePairs,
    ) -> Tensor:  # (B, Q, C)
        """Update the queries by attention to the map, attention to the images, and feed-forward."""
        attended = self.self_attention(query, pos, cell_centers, grid_shape)
        query = self.norms[0](query + self.dropout(attended))
        attended = self.cross_attention(query, value, spatial_shapes, pairs)
        query = self.norms[1](query + self.dropout(attended))
        output: Tensor = self.norms[2](query + self.feedforward(query))
        return output


class BEVEncoder(nn.Module):
    """Encoder of camera pyramids into a BEV map by learned queries, one a grid cell.

    Each query collects image features along the pillar of its cell.

    Args:
        grid: the BEV grid; one query a cell.
        config: the encoder's section of the configuration.
        channels: C, of the pyramid and the BEV map.
        num_levels: L, pyramid levels.
    """

    def __init__(
        self, grid: BEVGrid, config: BEVEncoderConfig, *, channels: int, num_levels: int
    ) -> None:
        super().__init__()
        self.grid = grid
        self.num_heights = config.num_heights
        self.num_levels = num_levels
        self.pair_step = config.pair_step
        self.activation_checkpointing = config.activation_checkpointing
        rows, columns = grid.shape
        self.bev_embedding = nn.Parameter(torch.empty(rows * columns, channels))
        self.positional_encoding = LearnedPositionalEncoding(channels, grid.shape)
        self.level_embeds = nn.Parameter(torch.empty(num_levels, channels))
        self.camera_embeds = nn.Parameter(torch.empty(config.num_camera_embeddings, channels))
        self.layers = nn.ModuleList(
            BEVEncoderLayer(config, channels=channels, num_levels=num_levels)
            for _ in range(config.num_layers)
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise queries from N(0, 1), embeddings Xavier-uniform, as in the published code."""
        nn.init.normal_(self.bev_embedding)
        nn.init.xavier_uniform_(self.level_embeds)
        nn.init.xavier_uniform_(self.camera_embeds)

    def forward(
        self,
        pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
        pairs: VisiblePairs,
        camera_slots: Tensor,  # (B, N) int64, which camera embedding each camera takes
    ) -> Tensor:  # (B, C, Y, X)
        """Return the BEV map of one frame; no further norm follows the last layer."""
        value = self.embed(pyramid, camera_slots)
        spatial_shapes = [(int(level.shape[-2]), int(level.shape[-1])) for level in pyramid]
        query = self.bev_embedding.expand(camera_slots.shape[0], -1, -1)
        pos = self.positional_encoding()
        cell_centers = self.grid.cell_centers(device=query.device)
        for layer in self.layers:
            inputs = (query, pos, cell_centers, self.grid.shape, value, spatial_shapes, pairs)
            if self.activation_checkpointing and torch.is_grad_enabled():
                query = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                query = layer(*inputs)
        return rearrange(query, "b (y x) c -> b c y x", y=self.grid.shape[0])

    def embed(
        self,
        pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
        camera_slots: Tensor,  # (B, N)
    ) -> Tensor:  # (B * N, S, C)
        """Return the pixels of all levels, row by row, plus embeddings of camera and level."""
        cameras = functional.embedding(camera_slots, self.camera_embeds)  # (B, N, C)
        levels = [
            rearrange(level, "b n c h w -> b n (h w) c") + (cameras + embed)[:, :, None]
            for level, embed in zip(pyramid, self.level_embeds, strict=True)
        ]
        return torch.cat(levels, 2).flatten(0, 1)
