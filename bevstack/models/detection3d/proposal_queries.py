"""Object queries of proposals: learned contents at the centres of each sample's proposals.

Letters: B batch, G groups, P proposals a sample, C channels, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bevstack.models.detection3d.box_code import CENTER, CODE_SIZE, encode
from bevstack.models.layers.logits import CLASS_PRIOR, inverse_sigmoid
from bevstack.models.perspective.proposals import Proposals

MIN_PERIOD = 2 / 64  # of the fastest wave, in extents of the grid: 3 m of 102 m


class ProposalQueries(nn.Module):
    """Queries that start at proposals (BEVFormer v2, arXiv 2211.10439, section 3.5).

    The paper does not define the content of such a query. Here the content is a row of a learned
    table, as for the remaining object queries: the same for all samples, different in each group.
    The positional part is computed from the proposal's centre by a two-layer network on sines and
    cosines, as in DAB-DETR (arXiv 2201.12329, section 4.2). All groups have the same proposals.

    With ``num_classes``, an embedding of the proposal's box, class and score is added to the
    content, and the decoder predicts corrections to them (``initial_outputs``).

    Args:
        channels: C.
        num_proposals: P.
        num_groups: G in training.
        num_classes: K if queries start from boxes; None if they start from centres alone.
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
        """Initialise contents from N(0, 1); both networks keep PyTorch's default weights."""
        nn.init.normal_(self.content)

    def forward(
        self,
        proposals: Proposals,  # P a sample
        num_groups: int,  # G, groups to return contents for
    ) -> tuple[Tensor, Tensor]:
        """Return contents (G, P, C), or (B, G, P, C) with boxes, and positional parts (B, P, C)."""
        rows = self.content[: num_groups * self.num_proposals]
        content = torch.unflatten(rows, 0, (num_groups, -1))
        waves = sine_embedding(proposal_reference_points(proposals), self.num_waves)
        pos = self.position(waves.to(content.dtype))
        if self.box is None:
            return content, pos
        logits, codes = self.initial_outputs(proposals)
        embedding = self.box(torch.cat((codes, logits), -1).to(content.dtype))  # (B, P, C)
        return content + embedding[:, None], pos

    def initial_outputs(self, proposals: Proposals) -> tuple[Tensor, Tensor]:
        """Return proposals as logits (B, P, K) and box codes (B, P, 10), both float32.

        A decoder layer adds its own output to them. The centre in the code is 0, because the
        reference point already holds it. Logits are relative to the logit of ``CLASS_PRIOR``, at
        which every class starts. Empty rows are zero. No gradient reaches the proposals.
        """
        assert self.num_classes is not None  # called only if queries start from boxes
        valid = proposals.valid[..., None]
        code = encode(proposals.boxes).detach().masked_fill(~valid, 0.0)
        for part in CENTER:
            code[..., part].zero_()
        rise = inverse_sigmoid(proposals.scores.detach()) - math.log(
            CLASS_PRIOR / (1 - CLASS_PRIOR)
        )
        classes = torch.arange(self.num_classes, device=rise.device)
        one_hot = proposals.labels[..., None] == classes
        return (rise[..., None] * one_hot).masked_fill(~valid, 0.0), code


def proposal_reference_points(
    proposals: Proposals,
) -> Tensor:  # (B, P, 3) normalised
    """Return the detached reference points, with the grid's middle in empty rows.

    An empty row must not hold NaN: attention multiplies it by 0, and 0 * NaN is NaN.
    """
    return proposals.reference_points.detach().masked_fill(~proposals.valid[..., None], 0.5)


def sine_embedding(
    points: Tensor,  # (..., 3) normalised
    num_waves: int,
) -> Tensor:  # (..., 6 * num_waves)
    """Return the sines of all waves of x, their cosines, then those of y and of z.

    Periods form a geometric sequence from ``MIN_PERIOD`` to twice the extent of the grid, so no
    two points of the grid have the same embedding.
    """
    exponent = torch.linspace(0, 1, num_waves, dtype=points.dtype, device=points.device)
    period = MIN_PERIOD * (2 / MIN_PERIOD) ** exponent
    angle = points[..., None] * (2 * math.pi / period)  # (..., 3, waves)
    return torch.cat((angle.sin(), angle.cos()), -1).flatten(-2)
