"""Class and box branches of the decoder layers, and the refinement of reference points.

Letters: B batch, Q queries, C channels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.box_code import CENTER, CODE_SIZE
from bevstack.models.layers.logits import CLASS_PRIOR, inverse_sigmoid


class DetectionHead(nn.Module):
    """Prediction of class logits and boxes, with a pair of branches for each decoder layer.

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
        """Initialise class biases for a probability of 0.01; the rest keeps PyTorch's default."""
        for linear in _output_layers(self.class_branches):
            nn.init.constant_(linear.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))

    def start_at_reference_points(self, *, zero_all_outputs: bool = False) -> None:
        """Set weights so that untrained boxes are centred at their reference points.

        With ``zero_all_outputs`` an untrained branch outputs 0 for the rest of the code, too, and
        the prior's logit for every class. Added to initial boxes, this leaves them as they are.
        """
        codes = list(range(CODE_SIZE)) if zero_all_outputs else list(CENTER)
        with torch.no_grad():
            for linear in _output_layers(self.box_branches):
                for parameter in (linear.weight, linear.bias):
                    parameter[codes] = 0
            if zero_all_outputs:
                for linear in _output_layers(self.class_branches):
                    linear.weight.zero_()

    def forward(
        self,
        layer: int,
        state: Tensor,  # (B, Q, C) queries after this decoder layer
        reference_points: Tensor,  # (B, Q, 3) float32 normalised, before this layer's refinement
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, Q, K), box codes (B, Q, 10) and refined references (B, Q, 3).

        Codes are in metres; references are normalised.
        """
        logits = self.class_branches[layer](state)
        raw = self.box_branches[layer](state).to(reference_points.dtype)  # (B, Q, 10)
        shift = torch.stack([raw[..., part] for part in CENTER], -1)
        refined = (shift + inverse_sigmoid(reference_points)).sigmoid()
        cx, cy, cz = self.grid.to_metres(refined).unbind(-1)
        head, tail = raw[..., 2:4], raw[..., 5:CODE_SIZE]
        codes = torch.cat((torch.stack((cx, cy), -1), head, cz[..., None], tail), -1)
        return logits, codes, refined


def _output_layers(branches: nn.ModuleList) -> Iterator[nn.Linear]:
    """Yield the last linear layer of every branch."""
    for branch in branches:
        assert isinstance(branch, nn.Sequential)
        linear = branch[-1]
        assert isinstance(linear, nn.Linear)
        yield linear


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
