"""Shared parts of deformable attention, and deformable attention to one map.

Deformable DETR, arXiv 2010.04159, section 4.1. Letters: H heads, P points, S pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.ops import deformable_attention


def float32_linear(
    linear: nn.Linear,
    x: Tensor,  # (..., C_in)
) -> Tensor:  # (..., C_out)
    """Apply a linear map in float32 or wider, regardless of autocast and the weights' dtype.

    Sampling offsets are coordinates: bfloat16 would round them by up to 0.4 cell on a 200-cell map.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    bias = None if linear.bias is None else linear.bias.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        return functional.linear(x.to(dtype), linear.weight.to(dtype), bias)


def init_sampling(
    sampling_offsets: nn.Linear,
    attention_weights: nn.Linear,
    *,
    num_heads: int,
    num_points: int,
) -> None:
    """Initialise sampling: head h of H samples in direction 2 pi h / H, point p at p + 1 cells.

    Directions are scaled to a largest component of 1. The pattern repeats over levels or queues
    (rows are head, level or queue, point, xy). All weights are zero, so offsets do not depend on
    the query and attention is uniform.
    """
    for linear in (sampling_offsets, attention_weights):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    angle = torch.arange(num_heads, device="cpu") * (2 * math.pi / num_heads)
    direction = torch.stack((angle.cos(), angle.sin()), -1)  # (H, 2)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    distance = torch.arange(1, num_points + 1, device="cpu")
    bias = direction[:, None, None] * distance[:, None]  # (H, 1, P, 2)
    repeats = sampling_offsets.out_features // bias.numel()
    with torch.no_grad():
        sampling_offsets.bias.copy_(bias.expand(-1, repeats, -1, -1).flatten())


def init_projection(*linears: nn.Linear) -> None:
    """Initialise weights Xavier-uniform and biases with zero."""
    for linear in linears:
        nn.init.xavier_uniform_(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


class DeformableAttention(nn.Module):
    """Attention of queries to a few points of one map, at learned offsets from reference points.

    The number of points is ``num_points`` for each of ``num_heads`` heads.
    """

    def __init__(self, channels: int, *, num_heads: int, num_points: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_points = num_points
        self.sampling_offsets = nn.Linear(channels, num_heads * num_points * 2)
        self.attention_weights = nn.Linear(channels, num_heads * num_points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise projections Xavier-uniform and sampling by ``init_sampling``."""
        init_projection(self.value_proj, self.output_proj)
        sampling = (self.sampling_offsets, self.attention_weights)
        init_sampling(*sampling, num_heads=self.num_heads, num_points=self.num_points)

    def forward(
        self,
        query: Tensor,  # (B, Q, C) with its positional part added
        value: Tensor,  # (B, S, C)
        reference_points: Tensor,  # (B, Q, 2) normalised x, y
        map_shape: tuple[int, int],  # (rows, columns), S = rows * columns
    ) -> Tensor:  # (B, Q, C)
        """Attend to the map and return the result without residual."""
        heads = (self.num_heads, 1, self.num_points)  # one level
        offsets = torch.unflatten(float32_linear(self.sampling_offsets, query), -1, (*heads, 2))
        logits = self.attention_weights(query).unflatten(-1, heads)
        value = self.value_proj(value).unflatten(-1, (self.num_heads, -1))
        anchors = reference_points[:, :, None]  # (B, Q, 1, 2)
        sampled = deformable_attention(value, [map_shape], offsets, logits, anchors)
        output: Tensor = self.output_proj(sampled)
        return output
