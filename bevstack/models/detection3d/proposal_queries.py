"""Object queries of proposals: learned contents at places that each sample brings along.

Letters: B batch, G groups, P proposals a sample, C channels, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.models.detection3d.box_code import CENTER, CODE_SIZE, encode
from bevstack.models.layers.logits import CLASS_PRIOR, inverse_sigmoid
from bevstack.models.perspective.proposals import Proposals

MIN_PERIOD = 2 / 64  # of the fastest wave, in extents of the grid: 3 m of 102 m


class ProposalQueries(nn.Module):
    """Hybrid object queries (BEVFormer v2, arXiv 2211.10439, section 3.5): those of proposals.

    The paper leaves open what a query that starts at a proposal holds. Here its content is a row of
    a table that is learned with all samples, of its group's own, as that of learned queries is; its
    positional part tells the proposal's place, by two linear maps of sines and cosines as in
    DAB-DETR (arXiv 2201.12329, section 4.2). All groups have the same proposals.

    With ``num_classes`` a query knows the whole proposal: its content tells the box, class and
    score, too, and what the decoder says of it is said as a correction of them (``as_said``).

    Args:
        channels: C.
        num_proposals: P.
        num_groups: G in training.
        num_classes: K, where queries start from boxes; none: from places alone.
    """

    def __init__(
        self, channels: int, *, num_proposals: int, num_groups: int, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_proposals = num_proposals
        self.num_waves = max(channels // 4, 1)  # an axis
        self.content = nn.Parameter(torch.empty(num_groups * num_proposals, channels))
        self.position = nn.Sequential(
            nn.Linear(6 * self.num_waves, channels), nn.ReLU(), nn.Linear(channels, channels)
        )
        self.box = None
        if num_classes is not None:
            self.box = nn.Sequential(
                nn.Linear(CODE_SIZE + num_classes, channels),
                nn.ReLU(),
                nn.Linear(channels, channels),
            )
        self.init_weights()

    def init_weights(self) -> None:
        """Contents from N(0, 1), as those of learned queries; the maps keep PyTorch's default."""
        nn.init.normal_(self.content)

    def forward(
        self,
        proposals: Proposals,  # P a sample
        num_groups: int,  # of which contents are wanted
    ) -> tuple[Tensor, Tensor]:
        """Contents (G, P, C), or (B, G, P, C) of boxes, and positional parts (B, P, C)."""
        content = self.content[: num_groups * self.num_proposals].unflatten(0, (num_groups, -1))
        waves = sine_embedding(places_of(proposals), self.num_waves)
        pos = self.position(waves.to(content.dtype))
        if self.box is None:
            return content, pos
        logits, codes = self.as_said(proposals)
        told = self.box(torch.cat((codes, logits), -1).to(content.dtype))  # (B, P, C)
        return content + told[:, None], pos

    def as_said(self, proposals: Proposals) -> tuple[Tensor, Tensor]:
        """Proposals as a decoder layer says them, logits (B, P, K) and codes (B, P, 10) float32.

        What a branch adds to it: the centre is 0, being said by the reference point, and the
        logits are relative to those that every class starts with. Empty places say nothing. No
        gradient leads back to the proposals.
        """
        assert self.num_classes is not None  # asked only where queries start from boxes
        valid = proposals.valid[..., None]
        code = torch.where(valid, encode(proposals.boxes).detach(), 0.0)
        code[..., CENTER] = 0
        rise = inverse_sigmoid(proposals.scores.detach()) - math.log(
            CLASS_PRIOR / (1 - CLASS_PRIOR)
        )
        of_class = functional.one_hot(proposals.labels, self.num_classes)
        return torch.where(valid, rise[..., None] * of_class, 0.0), code


def places_of(proposals: Proposals) -> Tensor:  # (B, P, 3) normalised, without gradient
    """Reference points; the middle of the grid for places left empty.

    An empty place must not hold what spoils the others: 0 * NaN is NaN.
    """
    return torch.where(proposals.valid[..., None], proposals.reference_points.detach(), 0.5)


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
