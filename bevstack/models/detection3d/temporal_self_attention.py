"""Deformable self-attention of the BEV queries, in BEVFormer's two-queue parametrisation.

Letters: B batch, Q queries, C channels, H heads, U queues, P points.
"""

from __future__ import annotations

from torch import Tensor, nn

from bevstack.models.layers.deformable_attention import (
    float32_linear,
    init_projection,
    init_sampling,
)
from bevstack.ops import ms_deform_attn


class TemporalSelfAttention(nn.Module):
    """Temporal self-attention (arXiv 2203.17270, section 3.4) of a frame without a previous BEV.

    BEVFormer v2 calls v1's module so: both "queues" hold the current queries. What published
    weights compute from [q, q + pos] is here, exactly, a map of q (their W1 + W2) plus a map of
    pos without bias (their W2), and the mean of two queues with a softmax each is one attention
    over all points with the softmaxes divided by their number. The positional part is the same for
    every sample and computed once for all. The value is the query without its positional part.
    """

    def __init__(
        self, channels: int, *, num_heads: int, self_points: int, self_queues: int
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.self_points = self_points
        self.self_queues = self_queues
        samples = num_heads * self_queues * self_points
        self.sampling_offsets = nn.Linear(channels, samples * 2)
        self.sampling_offsets_pos = nn.Linear(channels, samples * 2, bias=False)
        self.attention_weights = nn.Linear(channels, samples)
        self.attention_weights_pos = nn.Linear(channels, samples, bias=False)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Projections Xavier-uniform, positional maps zero, sampling as ``init_sampling``."""
        init_projection(self.value_proj, self.output_proj)
        sampling = (self.sampling_offsets, self.attention_weights)
        init_sampling(*sampling, num_heads=self.num_heads, num_points=self.self_points)
        nn.init.zeros_(self.sampling_offsets_pos.weight)
        nn.init.zeros_(self.attention_weights_pos.weight)

    def forward(
        self,
        query: Tensor,  # (B, Q, C)
        pos: Tensor,  # (Q, C) positional encoding
        reference_points: Tensor,  # (Q, 2) normalised x, y of the cells
        grid_shape: tuple[int, int],  # (Y, X), Q = Y * X
    ) -> Tensor:  # (B, Q, C)
        """What the queries see on the map they form, without residual."""
        offsets = float32_linear(self.sampling_offsets, query)
        offsets = offsets + float32_linear(self.sampling_offsets_pos, pos)
        logits = self.attention_weights(query) + self.attention_weights_pos(pos)
        queues = (self.num_heads, self.self_queues, self.self_points)
        weights = logits.unflatten(-1, queues).softmax(-1) / self.self_queues
        offsets = offsets.unflatten(-1, (self.num_heads, 1, -1, 2))  # (B, Q, H, 1, U * P, 2)
        cells = offsets.new_tensor(grid_shape[::-1])
        locations = reference_points[:, None, None, None].to(offsets.dtype) + offsets / cells
        value = self.value_proj(query).unflatten(-1, (self.num_heads, -1))
        sampled = ms_deform_attn(value, [grid_shape], locations, weights.flatten(-2).unsqueeze(-2))
        return self.output_proj(sampled)
