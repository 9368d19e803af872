"""The Deformable-DETR decoder on the BEV map (arXiv 2010.04159; BEVFormer, section 3.5).

Letters: B batch, Q object queries, C channels, H heads, Y X grid.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config import DecoderConfig
from bevstack.geometry import BEVGrid
from bevstack.models.box_code import DecoderOutput
from bevstack.models.deformable_attention import (
    DeformableAttention,
    float32_linear,
    init_projection,
)
from bevstack.models.detection_head import DetectionHead
from bevstack.models.feedforward import FeedForward


class QuerySelfAttention(nn.Module):
    """Attention of the object queries to one another; positions enter queries and keys only."""

    def __init__(self, channels: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qk_proj = nn.Linear(channels, 2 * channels)
        self.v_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform, the three input maps as one matrix; zero biases."""
        init_projection(self.qk_proj, self.v_proj, self.out_proj)
        bound = math.sqrt(6 / (4 * self.v_proj.in_features))  # of a (3C, C) matrix
        nn.init.uniform_(self.qk_proj.weight, -bound, bound)
        nn.init.uniform_(self.v_proj.weight, -bound, bound)

    def forward(
        self,
        query: Tensor,  # (B, Q, C)
        pos: Tensor,  # (Q, C), or (B, Q, C)
        num_groups: int = 1,  # equal parts of Q
    ) -> Tensor:  # (B, Q, C)
        """What the queries take from one another within their group, without residual."""
        q, k = self.qk_proj(query + pos).chunk(2, -1)
        q, k, v = (
            rearrange(x, "b (g q) (h c) -> (b g) h q c", g=num_groups, h=self.num_heads)
            for x in (q, k, self.v_proj(query))
        )
        dropout = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out_proj(rearrange(attended, "(b g) h q c -> b (g q) (h c)", g=num_groups))


class DecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention to the BEV map, feed-forward; post-norm."""

    def __init__(self, config: DecoderConfig, *, channels: int) -> None:
        super().__init__()
        self.self_attention = QuerySelfAttention(
            channels, num_heads=config.num_heads, dropout=config.dropout
        )
        self.cross_attention = DeformableAttention(
            channels, num_heads=config.num_heads, num_points=config.num_points
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
        reference_points: Tensor,  # (B, Q, 2) normalised x, y
        bev_tokens: Tensor,  # (B, Y * X, C)
        grid_shape: tuple[int, int],  # (Y, X)
        num_groups: int = 1,  # equal parts of Q
    ) -> Tensor:  # (B, Q, C)
        """One round of talking to the other queries and looking at the map."""
        query = self.norms[0](query + self.dropout(self.self_attention(query, pos, num_groups)))
        attended = self.cross_attention(query + pos, bev_tokens, reference_points, grid_shape)
        query = self.norms[1](query + self.dropout(attended))
        return self.norms[2](query + self.feedforward(query))


class Decoder(nn.Module):
    """Learned object queries find objects on the BEV map and refine their boxes layer by layer.

    In training each of ``config.num_groups`` groups of queries does so by itself, sharing all else
    (Group DETR, arXiv 2207.13085); in evaluation there is the first group alone.

    Args:
        grid: the BEV grid, which reference points are normalised to.
        config: the decoder's section of the configuration.
        channels: C, of the BEV map.
        num_classes: K.
    """

    def __init__(
        self, grid: BEVGrid, config: DecoderConfig, *, channels: int, num_classes: int
    ) -> None:
        super().__init__()
        self.grid = grid
        self.num_queries = config.num_queries
        self.num_groups = config.num_groups
        # positional part first, then the content the queries start with
        rows = config.num_groups * config.num_queries
        self.query_embedding = nn.Parameter(torch.empty(rows, 2 * channels))
        self.reference_points = nn.Linear(channels, 3)
        self.layers = nn.ModuleList(
            DecoderLayer(config, channels=channels) for _ in range(config.num_layers)
        )
        self.head = DetectionHead(
            grid, channels=channels, num_classes=num_classes, num_layers=config.num_layers
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Queries from N(0, 1); the map to reference points Xavier-uniform."""
        nn.init.normal_(self.query_embedding)
        init_projection(self.reference_points)

    def forward(
        self,
        bev: Tensor,  # (B, C, Y, X)
    ) -> DecoderOutput:
        """Logits and boxes of every layer.

        A layer's reference points carry no gradient to the layers before it; the first ones do
        to the query embedding.
        """
        bev_tokens = rearrange(bev, "b c y x -> b (y x) c")
        groups = self.num_groups if self.training else 1
        table = self.query_embedding[: groups * self.num_queries]
        pos, query = table.chunk(2, -1)  # (Q, C) each
        references = float32_linear(self.reference_points, pos).sigmoid()  # (Q, 3)
        references = references.expand(bev.shape[0], -1, -1)
        query = query.expand(bev.shape[0], -1, -1)
        said = []
        for index, layer in enumerate(self.layers):
            query = layer(query, pos, references[..., :2], bev_tokens, self.grid.shape, groups)
            logits, codes, refined = self.head(index, query, references)
            references = refined.detach()
            said.append((logits, codes))
        logits_of_layers, codes_of_layers = zip(*said, strict=True)
        return DecoderOutput(torch.stack(logits_of_layers), torch.stack(codes_of_layers), groups)
