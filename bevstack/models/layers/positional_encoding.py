"""Learned positional encoding of a grid: a vector for each column, and one for each row."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LearnedPositionalEncoding(nn.Module):
    """Encoding whose first half of channels encodes the column, and the second half the row.

    It is the learned encoding of DETR (arXiv 2005.12872, appendix A.4).

    Args:
        channels: C, even.
        shape: (Y, X), the grid.
    """

    def __init__(self, channels: int, shape: tuple[int, int]) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"channels must be even, for column and row halves; got {channels}")
        rows, columns = shape
        self.row_embed = nn.Parameter(torch.empty(rows, channels // 2))
        self.col_embed = nn.Parameter(torch.empty(columns, channels // 2))
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise both tables from N(0, 1)."""
        nn.init.normal_(self.row_embed)
        nn.init.normal_(self.col_embed)

    def forward(self) -> Tensor:  # (Y * X, C)
        """Return a vector for each cell, row-major."""
        rows, columns = self.row_embed.shape[0], self.col_embed.shape[0]
        across = self.col_embed[None].expand(rows, -1, -1)
        down = self.row_embed[:, None].expand(-1, columns, -1)
        return torch.cat((across, down), -1).flatten(0, 1)
