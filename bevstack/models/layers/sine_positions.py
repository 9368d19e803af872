"""Positions of cells and boxes as sines (DETR, arXiv 2005.12872, appendix A.4).

Letters: B batch, H W cells, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def encode_cells(
    padding: Tensor,  # (B, H, W) bool
    *,
    channels: int,
    temperature: float,
) -> Tensor:  # (B, H, W, C), first half of the row, second half of the column
    """Return sines of the places of cells within the picture, from 0 to 2 pi."""
    inside = (~padding).float()
    rows, columns = inside.cumsum(1), inside.cumsum(2)
    rows = rows / (rows[:, -1:] + 1e-6) * (2 * math.pi)
    columns = columns / (columns[:, :, -1:] + 1e-6) * (2 * math.pi)
    return torch.cat([waves(x, channels // 2, temperature) for x in (rows, columns)], -1)


def waves(x: Tensor, channels: int, temperature: float) -> Tensor:  # (..., channels)
    """Return sine and cosine of each frequency, next to each other."""
    index = torch.arange(channels, dtype=torch.float32, device=x.device)
    angle = x[..., None] / temperature ** (2 * (index // 2) / channels)
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), -1).flatten(-2)
