"""Cross-attention of the BEV queries to the images of the cameras that see their pillars.

Letters: B batch, N cameras, Q queries, C channels, H heads, L levels, P points, Z heights,
M visible (camera, query) pairs, S pixels of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bevstack.models.detection3d.visible_pairs import VisiblePairs
from bevstack.models.layers.deformable_attention import (
    float32_linear,
    init_projection,
    init_sampling,
)
from bevstack.ops import deformable_attention


class SpatialCrossAttention(nn.Module):
    """Spatial cross-attention (arXiv 2203.17270, section 3.3) over packed visible pairs.

    A pair samples around all anchors of its pillar, including those outside the image, because
    published weights were trained so; point p belongs to anchor p mod Z. A query's result is the
    mean over the cameras that see it. A query that no camera sees gets the output bias.

    Pairs of all samples and cameras are packed into one axis, so samples may have different rigs
    and no camera is padded.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_levels: int,
        num_heads: int,
        num_heights: int,
        cross_points: int,
    ) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.num_heads = num_heads
        self.num_heights = num_heights
        self.cross_points = cross_points
        samples = num_heads * num_levels * cross_points
        self.sampling_offsets = nn.Linear(channels, samples * 2)
        self.attention_weights = nn.Linear(channels, samples)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise projections Xavier-uniform and sampling by ``init_sampling``."""
        init_projection(self.value_proj, self.output_proj)
        sampling = (self.sampling_offsets, self.attention_weights)
        init_sampling(*sampling, num_heads=self.num_heads, num_points=self.cross_points)

    def forward(
        self,
        query: Tensor,  # (B, Q, C)
        value: Tensor,  # (B * N, S, C)
        spatial_shapes: Sequence[tuple[int, int]],  # L pairs (H_l, W_l)
        pairs: VisiblePairs,
    ) -> Tensor:  # (B, Q, C)
        """Attend to the cameras that see each query and return the mean without residual."""
        tokens = query.flatten(0, 1)  # (B * Q, C)
        last = tokens.shape[0] - 1
        # index_select: its backward pass adds gradients in a fixed order
        rows = tokens.index_select(0, pairs.query.clamp(max=last))
        attended = self.attend(rows, value, spatial_shapes, pairs)  # (M, C)
        sums = attended.new_zeros(last + 2, attended.shape[1])  # the last row collects padding
        sums = sums.index_add(0, pairs.query, attended)[:-1]  # (B * Q, C)
        mean = sums / pairs.num_cameras.flatten().clamp(min=1)[:, None]
        output: Tensor = self.output_proj(mean.to(attended.dtype))
        return output.view_as(query)

    def attend(
        self,
        query: Tensor,  # (M, C)
        value: Tensor,  # (B * N, S, C)
        spatial_shapes: Sequence[tuple[int, int]],
        pairs: VisiblePairs,
    ) -> Tensor:  # (M, C)
        """Return deformable attention of each pair's query to its camera's pyramid."""
        samples = (self.num_heads, self.num_levels, self.cross_points)
        offsets = float32_linear(self.sampling_offsets, query)
        offsets = torch.unflatten(offsets, -1, (*samples, 2))  # (M, H, L, P, 2)
        logits = self.attention_weights(query).unflatten(-1, samples)
        value = self.value_proj(value).unflatten(-1, (self.num_heads, -1))
        anchors = pairs.anchors.to(offsets.dtype)  # (M, Z, 2): point p starts at p mod Z
        return deformable_attention(
            value, spatial_shapes, offsets, logits, anchors, value_index=pairs.camera
        )
