"""Class and box branches, one pair a decoder layer, and how reference points are refined.

Letters: B batch, Q queries, C channels, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.box_code import CENTER, CODE_SIZE
from bevstack.models.layers.logits import CLASS_PRIOR, inverse_sigmoid


class DetectionHead(nn.Module):
    """What a decoder layer's queries say: class logits, and boxes relative to reference points.

    Iterative box refinement of Deformable DETR (arXiv 2010.04159, appendix A.4): a box branch
    moves the reference point in logit space, and the moved point is the predicted centre.
    """

    def __init__(self, grid: BEVGrid, *, channels: int, num_classes: int, num_layers: int) -> None:
        super().__init__()
        self.grid = grid
        self.class_branches = nn.ModuleList(
            _class_branch(channels, num_classes) for _ in range(num_layers)
        )
        self.box_branches = nn.ModuleList(_box_branch(channels) for _ in range(num_layers))
        self.init_weights()

    def init_weights(self) -> None:
        """Every class starts at a probability of 0.01; the rest keeps PyTorch's default."""
        for branch in self.class_branches:
            nn.init.constant_(branch[-1].bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))

    def start_at_reference_points(self, *, whole: bool = False) -> None:
        """Lets every box start centred at its reference point, whatever its query holds.

        ``whole``: the rest of the code starts at 0, too, and the logits at those of the prior, so
        that what boxes start from is said as it is.
        """
        codes = list(range(CODE_SIZE)) if whole else list(CENTER)
        with torch.no_grad():
            for branch in self.box_branches:
                for parameter in (branch[-1].weight, branch[-1].bias):
                    parameter[codes] = 0
            if whole:
                for branch in self.class_branches:
                    branch[-1].weight.zero_()

    def forward(
        self,
        layer: int,
        state: Tensor,  # (B, Q, C) queries after this decoder layer
        reference_points: Tensor,  # (B, Q, 3) float32 normalised, before this layer's refinement
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, Q, K), box codes (B, Q, 10) in metres and refined references (B, Q, 3)."""
        logits = self.class_branches[layer](state)
        raw = self.box_branches[layer](state).to(reference_points.dtype)  # (B, Q, 10)
        refined = (raw[..., CENTER] + inverse_sigmoid(reference_points)).sigmoid()
        cx, cy, cz = self.grid.to_metres(refined).unbind(-1)
        head, tail = raw[..., 2:4], raw[..., 5:CODE_SIZE]
        codes = torch.cat((torch.stack((cx, cy), -1), head, cz[..., None], tail), -1)
        return logits, codes, refined


def _class_branch(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, channels),
        nn.LayerNorm(channels),
        nn.ReLU(),
        nn.Linear(channels, channels),
        nn.LayerNorm(channels),
        nn.ReLU(),
        nn.Linear(channels, num_classes),
    )


def _box_branch(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, CODE_SIZE),
    )
