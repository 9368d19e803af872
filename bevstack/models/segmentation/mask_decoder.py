"""Mask2Former's decoder: queries that attend to the pixels of their own masks (arXiv 2112.01527).

Letters: B batch, Q queries, L levels (coarse to fine), S cells of a level, K classes, C channels,
M heads, H W cells at stride 4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.mask_segmentation import MaskHeadConfig
from bevstack.models.layers.deformable_encoder import Feedforward
from bevstack.models.segmentation.heads import map_size, resize_map
from bevstack.models.segmentation.pixel_decoder import NUM_LEVELS, PixelMaps, encode_positions


class MaskPrediction(NamedTuple):
    """Classes and masks of the queries."""

    logits: Tensor  # (B, Q, K + 1), the last of "no object"
    masks: Tensor  # (B, Q, H, W) logits


class DenseAttention(nn.Module):
    """Attention of queries to all cells, or to those that a mask leaves; no residual."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(channels, 3 * channels)  # queries, keys, values
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,  # (B, Q, C) with its position added
        key: Tensor,  # (B, S, C) with its position added
        value: Tensor,  # (B, S, C)
        visible: Tensor | None = None,  # (B, Q, S) bool; None: every cell
    ) -> Tensor:  # (B, Q, C)
        """Return the attended values."""
        projections = zip(self.in_proj.weight.chunk(3), self.in_proj.bias.chunk(3), strict=True)
        queries, keys, values = [
            rearrange(functional.linear(x, weight, bias), "b n (m c) -> b m n c", m=self.num_heads)
            for x, (weight, bias) in zip((query, key, value), projections, strict=True)
        ]
        mask = None if visible is None else visible[:, None]  # all heads share it
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        output: Tensor = self.out_proj(rearrange(attended, "b m n c -> b n (m c)"))
        return output


class MaskDecoderLayer(nn.Module):
    """Masked attention to cells, self-attention of queries, feed-forward; norms follow each."""

    def __init__(self, config: MaskHeadConfig) -> None:
        super().__init__()
        channels = config.channels
        self.cross_attention = DenseAttention(channels, config.num_heads)
        self.self_attention = DenseAttention(channels, config.num_heads)
        self.feedforward = Feedforward(channels, config.decoder_feedforward_channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self,
        query: Tensor,  # (B, Q, C)
        position: Tensor,  # (Q, C)
        cells: Tensor,  # (B, S, C)
        cell_position: Tensor,  # (1, S, C)
        *,
        visible: Tensor,  # (B, Q, S) bool
    ) -> Tensor:  # (B, Q, C)
        """Return the queries after this layer."""
        seen = self.cross_attention(query + position, cells + cell_position, cells, visible)
        query = self.norms[0](query + seen)
        placed = query + position
        query = self.norms[1](query + self.self_attention(placed, placed, query))
        output: Tensor = self.norms[2](query + self.feedforward(query))
        return output


class MaskDecoder(nn.Module):
    """Learned queries, which become classes and masks after every layer.

    Args:
        config: the head.
        num_classes: K, without "no object".
    """

    def __init__(self, config: MaskHeadConfig, num_classes: int) -> None:
        super().__init__()
        channels = config.channels
        self.queries = nn.Parameter(torch.empty(config.num_queries, channels))
        self.query_positions = nn.Parameter(torch.empty(config.num_queries, channels))
        self.level_embeds = nn.Parameter(torch.empty(NUM_LEVELS, channels))
        self.layers = nn.ModuleList(MaskDecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(channels)
        self.class_branch = nn.Linear(channels, num_classes + 1)
        self.mask_branch = nn.Sequential(
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
        )
        for table in (self.queries, self.query_positions, self.level_embeds):
            nn.init.normal_(table)

    def forward(
        self,
        maps: PixelMaps,
    ) -> tuple[MaskPrediction, ...]:
        """Predict classes and masks after the last layer.

        In training mode, also those of the learned queries and after every further layer, in order.
        Layer i attends to level i modulo L, at the cells where the previous mask is at least 0.5.
        """
        levels = [
            (level.flatten(2).transpose(1, 2) + embed, encode_positions(level))
            for level, embed in zip(maps.levels, self.level_embeds, strict=True)
        ]
        query = self.queries[None].expand(len(maps.mask_features), -1, -1)
        predictions = [self.predict(query, maps.mask_features)]
        for index, layer in enumerate(self.layers):
            level = index % NUM_LEVELS
            visible = visible_cells(predictions[-1].masks, map_size(maps.levels[level]))
            query = layer(query, self.query_positions, *levels[level], visible=visible)
            if not self.training:
                predictions.clear()  # masks of many queries are large
            predictions.append(self.predict(query, maps.mask_features))
        return tuple(predictions)

    def predict(
        self,
        query: Tensor,  # (B, Q, C)
        mask_features: Tensor,  # (B, C, H, W)
    ) -> MaskPrediction:
        """Return classes and masks of queries."""
        normed = self.norm(query)
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_branch(normed), mask_features)
        return MaskPrediction(self.class_branch(normed), masks)


@torch.no_grad()
def visible_cells(
    masks: Tensor,  # (B, Q, H, W) logits
    size: tuple[int, int],  # (H_l, W_l) of a level
) -> Tensor:  # (B, Q, H_l * W_l) bool
    """Return the cells of a level that lie in each query's mask; all of them for an empty mask."""
    visible = (resize_map(masks, size).sigmoid() >= 0.5).flatten(2)
    return visible | ~visible.any(-1, keepdim=True)
