"""Deformable self-attention of the BEV queries, in BEVFormer's two-queue parametrisation.

Letters: B batch, Q queries, C channels, H heads, U queues, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevstack.models.layers.deformable_attention import (
    float32_linear,
    init_projection,
    init_sampling,
)
from bevstack.ops import deformable_attention


class TemporalSelfAttention(nn.Module):
    """Temporal self-attention (arXiv 2203.17270, section 3.4) of a frame without a previous BEV.

    BEVFormer v2 uses the module of v1 with the current queries in both "queues". Two of its
    computations are rewritten here, with the same result:

    - Published weights W1, W2 multiply [q, q + pos]. Here q is multiplied by W1 + W2, and pos by
      W2 without bias. The positional part is computed once for all samples.
    - Published code averages two queues, each with its own softmax. Here one attention covers the
      points of all queues, with the softmaxes divided by the number of queues.

    The value is the query without its positional part.
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
        """Initialise projections Xavier-uniform, positional maps zero; see ``init_sampling``."""
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
        """Attend to the map that the queries form and return the result without residual."""
        offsets = float32_linear(self.sampling_offsets, query)
        offsets = offsets + float32_linear(self.sampling_offsets_pos, pos)
        logits = self.attention_weights(query) + self.attention_weights_pos(pos)
        # (B, Q, H, 1, U * P) and (..., 2); each queue has a softmax of its own
        logits = logits.unflatten(-1, (self.num_heads, 1, -1))
        offsets = torch.unflatten(offsets, -1, (self.num_heads, 1, -1, 2))
        anchors = reference_points[:, None].to(offsets.dtype).expand(query.shape[0], -1, -1, -1)
        value = self.value_proj(query).unflatten(-1, (self.num_heads, -1))
        sampled = deformable_attention(
            value, [grid_shape], offsets, logits, anchors, parts=self.self_queues
        )
        output: Tensor = self.output_proj(sampled)
        return output
