"""Region proposal network (arXiv 1506.01497) on a pyramid.

Letters: B batch, L levels, A anchors of a cell, N anchors of an image over all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from bevstack.config.detection2d import RPNConfig
from bevstack.models.detection2d.anchors import cell_anchors, map_anchors
from bevstack.models.detection2d.boxes import BoxCoder
from bevstack.models.layers.nms import suppress_within

STRIDES = (4, 8, 16, 32, 64)  # of the pyramid, pixels
INIT_STD = 0.01  # of initial weights. Released code


class RPNOutput(NamedTuple):
    """Predictions for every anchor of every level: L maps each."""

    logits: tuple[Tensor, ...]  # (B, A, H_l, W_l) of an object
    codes: tuple[Tensor, ...]  # (B, 4 A, H_l, W_l) of its box relative to the anchor


class Proposals(NamedTuple):
    """Regions of an image that may hold an object, best first."""

    boxes: Tensor  # (R, 4) pixels of the network's input
    scores: Tensor  # (R,)


class RegionProposals(nn.Module):
    """A convolution and two linear maps of each cell, shared by all levels."""

    def __init__(self, config: RPNConfig, *, channels: int) -> None:
        super().__init__()
        self.config = config
        anchors = len(config.ratios)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.logits = nn.Conv2d(channels, anchors, 1)
        self.codes = nn.Conv2d(channels, 4 * anchors, 1)
        self.coder = BoxCoder()
        for conv in (self.conv, self.logits, self.codes):
            nn.init.normal_(conv.weight, std=INIT_STD)
            nn.init.zeros_(cast(nn.Parameter, conv.bias))

    def forward(
        self,
        pyramid: Sequence[Tensor],  # L x (B, C, H_l, W_l)
    ) -> RPNOutput:
        """Predict a score and a box for every anchor."""
        hidden = [self.conv(level).relu() for level in pyramid]
        return RPNOutput(
            tuple(self.logits(x) for x in hidden), tuple(self.codes(x) for x in hidden)
        )

    def anchors(self, output: RPNOutput) -> list[Tensor]:  # L x (H_l * W_l * A, 4)
        """Return the anchors of every level, in the order of ``flat``."""
        anchors = []
        for logits, stride in zip(output.logits, STRIDES, strict=True):
            rows, columns = logits.shape[-2:]
            cell = cell_anchors(stride, scale=self.config.scale, ratios=self.config.ratios)
            anchors.append(map_anchors(cell.to(logits.device), (rows, columns), stride))
        return anchors

    @torch.no_grad()
    def propose(
        self,
        output: RPNOutput,
        image_sizes: Sequence[tuple[int, int]],  # B x (height, width) without padding
        *,
        training: bool = False,  # take the numbers of candidates and proposals of training
    ) -> list[Proposals]:
        """Return the proposals of every image."""
        config = self.config
        candidates = config.train_candidates if training else config.candidates
        proposals = config.train_proposals if training else config.proposals
        anchors = self.anchors(output)
        logits, codes = flat(output)
        return [
            self._propose(
                [level[image] for level in logits],
                [level[image] for level in codes],
                anchors,
                size=size,
                limits=(candidates, proposals),
            )
            for image, size in enumerate(image_sizes)
        ]

    def _propose(
        self,
        logits: Sequence[Tensor],  # L x (N_l,)
        codes: Sequence[Tensor],  # L x (N_l, 4)
        anchors: Sequence[Tensor],  # L x (N_l, 4)
        *,
        size: tuple[int, int],
        limits: tuple[int, int],
    ) -> Proposals:
        scores, boxes, levels = [], [], []
        for level, (values, code, anchor) in enumerate(zip(logits, codes, anchors, strict=True)):
            score = values.sigmoid()
            if len(score) > limits[0]:
                score, index = score.sort(descending=True, stable=True)
                score, index = score[: limits[0]], index[: limits[0]]
                code, anchor = code[index], anchor[index]
            scores.append(score)
            boxes.append(self.coder.decode(anchor, code, size))
            levels.append(torch.full_like(score, level, dtype=torch.int64))
        score, box, level_index = torch.cat(scores), torch.cat(boxes), torch.cat(levels)
        extended = (box[:, 2:] > box[:, :2]).all(-1)
        score, box, level_index = score[extended], box[extended], level_index[extended]
        kept = suppress_within(box, score, level_index, self.config.nms_iou)[: limits[1]]
        return Proposals(box[kept], score[kept])


def flat(
    output: RPNOutput,
) -> tuple[list[Tensor], list[Tensor]]:  # L x (B, H_l * W_l * A), L x (B, H_l * W_l * A, 4)
    """Return scores and codes in the order of the anchors: rows, columns, anchors of a cell."""
    logits = [level.permute(0, 2, 3, 1).flatten(1) for level in output.logits]
    codes = [
        torch.unflatten(level.permute(0, 2, 3, 1).flatten(1), 1, (-1, 4)) for level in output.codes
    ]
    return logits, codes
