"""Losses of the decoder: focal classification and smooth-L1 boxes on matched queries.

Letters: R decoder layers, B batch, Q queries, K classes, M matched rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config import LossConfig
from bevstack.geometry import BEVGrid
from bevstack.losses.focal import sigmoid_focal_loss_of
from bevstack.losses.matcher import Matches, match
from bevstack.losses.reduction import mean_over_processes
from bevstack.losses.targets import Targets, encode_targets
from bevstack.models.detection3d.box_code import DecoderOutput
from bevstack.types import Annotations


@dataclass(frozen=True)
class Losses:
    """What to minimise, and its parts for the log."""

    total: Tensor  # () sum of all terms
    terms: Mapping[str, Tensor]  # "class_0", "box_0", ... by decoder layer; detached


class Criterion:
    """Set prediction loss (DETR, arXiv 2005.12872) as BEVFormer trains with, over all layers.

    Each layer is matched for itself. Class loss: focal, over all queries and classes, unmatched
    queries being pure negatives; box loss: smooth-L1 of matched rows, weighted by code. Both are
    divided by the number of matched queries a layer, averaged over processes, at least 1. A sample
    without true boxes is all background. Each group of queries is matched for itself, and the
    losses of the groups are averaged. Inactive queries train nothing. Computed in float32, with one
    copy to the host for all assignments.

    Args:
        config: weights and focal parameters.
        official_parity: what the published code does with numbers that are not finite: a true box
            with any such code (an unknown velocity) adds no box loss at all, and a loss that is
            not finite counts as 0. By default only the unknown velocity adds nothing, while the
            box's place, size and heading do, and a loss that is not finite stays so, to be seen.
    """

    def __init__(self, config: LossConfig, *, official_parity: bool = False) -> None:
        self.config = config
        self.official_parity = official_parity

    def __call__(
        self,
        output: DecoderOutput,
        annotations: Sequence[Annotations],  # B, in the bev frame
        grid: BEVGrid,
    ) -> Losses:
        """Losses of a batch; see ``encode_targets`` for which true boxes take part.

        Raises:
            ValueError: not one entry of annotations a sample, labels outside the classes, or
                predictions that are not finite (names layer and sample).
        """
        batch = output.logits.shape[1]
        if len(annotations) != batch:
            raise ValueError(f"annotations must be one a sample ({batch}); got {len(annotations)}")
        targets = encode_targets(annotations, grid, output.codes.device)
        matches = match(output, targets, self.config)
        groups = output.num_groups
        matched = output.codes.new_tensor(len(matches.layer) / (len(output.codes) * groups))
        normaliser = groups * mean_over_processes(matched).clamp(min=1)
        by_class = self._class_loss(output, targets, matches) / normaliser  # (R,)
        by_box = self._box_loss(output, targets, matches) / normaliser  # (R,)
        if self.official_parity:
            by_class, by_box = by_class.nan_to_num(), by_box.nan_to_num()
        named = {"class": by_class.detach(), "box": by_box.detach()}
        terms = {
            f"{name}_{layer}": value
            for name, values in named.items()
            for layer, value in enumerate(values)
        }
        return Losses(by_class.sum() + by_box.sum(), terms)

    def _class_loss(
        self, output: DecoderOutput, targets: Targets, matches: Matches
    ) -> Tensor:  # (R,)
        logits = output.logits.float()
        by_query = self._focal(0, logits).sum(-1)  # (R, B, Q), as if all were background
        if output.active is not None:
            by_query = by_query.masked_fill(~output.active, 0.0)
        labels = targets.labels[matches.sample, matches.target]
        matched = logits[matches.layer, matches.sample, matches.query, labels]  # (M,)
        instead = self._focal(1, matched) - self._focal(0, matched)
        sums = by_query.sum((1, 2)).index_add(0, matches.layer, instead)
        return self.config.class_weight * sums

    def _focal(self, target: int, logits: Tensor) -> Tensor:
        config = self.config
        return sigmoid_focal_loss_of(
            target, logits, alpha=config.focal_alpha, gamma=config.focal_gamma
        )

    def _box_loss(
        self, output: DecoderOutput, targets: Targets, matches: Matches
    ) -> Tensor:  # (R,)
        predicted = output.codes.float()[matches.layer, matches.sample, matches.query]  # (M, 10)
        true = targets.codes[matches.sample, matches.target]  # (M, 10)
        known = true.isfinite()
        if self.official_parity:
            known = known.all(-1, keepdim=True).expand_as(known)
        # The unknown is replaced, not multiplied by 0: NaN * 0 is NaN, in the gradient too.
        true = torch.where(known, true, predicted.detach())
        loss = functional.smooth_l1_loss(predicted, true, reduction="none")
        weights = loss.new_tensor(self.config.code_weights)
        by_row = (loss * weights).sum(-1)  # (M,)
        sums = by_row.new_zeros(output.codes.shape[0]).index_add(0, matches.layer, by_row)
        return self.config.box_weight * sums
