"""Cross-attention of the BEV queries to the camera images that see them.

Letters: B batch, N cameras, Q queries, C channels, H heads, L levels, P points, Z heights,
M visible (camera, query) pairs, S pixels of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bevstack.models.detection3d.visible_pairs import VisiblePairs
from bevstack.models.layers.deformable_attention import (
    float32_linear,
    init_projection,
    init_sampling,
)
from bevstack.ops import ms_deform_attn


class SpatialCrossAttention(nn.Module):
    """Spatial cross-attention (arXiv 2203.17270, section 3.3) over packed visible pairs.

    A pair attends with all anchors of its pillar, also those the camera does not see, as published
    weights were trained; point p belongs to anchor p mod Z. A query's result is the mean over the
    cameras that see it. Pairs of all samples and cameras form one row of work, so samples may have
    different rigs and nothing is padded. A query no camera sees gets the output bias.
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
        """Projections Xavier-uniform; sampling as ``init_sampling``."""
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
        """What the queries see in the cameras, without residual."""
        tokens = query.flatten(0, 1)  # (B * Q, C)
        last = tokens.shape[0] - 1
        rows = tokens.index_select(0, pairs.query.clamp(max=last))  # gradient sums in fixed order
        seen = self.attend(rows, value, spatial_shapes, pairs)  # (M, C)
        sums = seen.new_zeros(last + 2, seen.shape[1])  # padding adds to a row of its own
        sums = sums.index_add(0, pairs.query, seen)[:-1]  # (B * Q, C)
        mean = sums / pairs.num_cameras.flatten().clamp(min=1)[:, None]
        return self.output_proj(mean.to(seen.dtype)).view_as(query)

    def attend(
        self,
        query: Tensor,  # (M, C)
        value: Tensor,  # (B * N, S, C)
        spatial_shapes: Sequence[tuple[int, int]],
        pairs: VisiblePairs,
    ) -> Tensor:  # (M, C)
        """Deformable attention of each pair's query to its camera's pyramid."""
        samples = (self.num_heads, self.num_levels, self.cross_points)
        offsets = float32_linear(self.sampling_offsets, query).unflatten(-1, (*samples, 2))
        widths_heights = offsets.new_tensor([(width, height) for height, width in spatial_shapes])
        repeats = self.cross_points // self.num_heights
        anchors = pairs.anchors.to(offsets.dtype).repeat(1, repeats, 1)  # (M, P, 2): p mod Z
        locations = anchors[:, None, None] + offsets / widths_heights[:, None]
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        value = self.value_proj(value).unflatten(-1, (self.num_heads, -1))
        return ms_deform_attn(
            value,
            spatial_shapes,
            locations,  # (M, H, L, P, 2)
            weights.unflatten(-1, samples[1:]),
            value_index=pairs.camera,
        )
