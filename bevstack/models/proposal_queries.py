"""Object queries of proposals: learned contents at places that each sample brings along.

Letters: B batch, G groups, P proposals a sample, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MIN_PERIOD = 2 / 64  # of the fastest wave, in extents of the grid: 3 m of 102 m


class ProposalQueries(nn.Module):
    """Hybrid object queries (BEVFormer v2, arXiv 2211.10439, section 3.5): those of proposals.

    The paper leaves open what a query that starts at a proposal holds. Here its content is a row of
    a table that is learned with all samples, of its group's own, as that of learned queries is; its
    positional part tells the proposal's place, by two linear maps of sines and cosines as in
    DAB-DETR (arXiv 2201.12329, section 4.2). All groups have the same proposals.

    Args:
        channels: C.
        num_proposals: P.
        num_groups: G in training.
    """

    def __init__(self, channels: int, *, num_proposals: int, num_groups: int) -> None:
        super().__init__()
        self.num_proposals = num_proposals
        self.num_waves = max(channels // 4, 1)  # an axis
        self.content = nn.Parameter(torch.empty(num_groups * num_proposals, channels))
        self.position = nn.Sequential(
            nn.Linear(6 * self.num_waves, channels), nn.ReLU(), nn.Linear(channels, channels)
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Contents from N(0, 1), as those of learned queries; the maps keep PyTorch's default."""
        nn.init.normal_(self.content)

    def forward(
        self,
        reference_points: Tensor,  # (B, P, 3) normalised, without gradient
        num_groups: int,  # of which contents are wanted
    ) -> tuple[Tensor, Tensor]:
        """Contents (G, P, C) and positional parts (B, P, C)."""
        content = self.content[: num_groups * self.num_proposals]
        waves = sine_embedding(reference_points, self.num_waves)
        return content.unflatten(0, (num_groups, -1)), self.position(waves.to(content.dtype))


def sine_embedding(
    points: Tensor,  # (..., 3) normalised
    num_waves: int,
) -> Tensor:  # (..., 6 * num_waves)
    """Sines of all waves of x, their cosines, then those of y and of z.

    Periods grow evenly in their logarithm from ``MIN_PERIOD`` to twice the extent of the grid, over
    which a place is never told twice.
    """
    exponent = torch.linspace(0, 1, num_waves, dtype=points.dtype, device=points.device)
    period = MIN_PERIOD * (2 / MIN_PERIOD) ** exponent
    angle = points[..., None] * (2 * math.pi / period)  # (..., 3, waves)
    return torch.cat((angle.sin(), angle.cos()), -1).flatten(-2)
