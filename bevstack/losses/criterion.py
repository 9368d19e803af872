"""Losses of the decoder: focal classification and smooth-L1 boxes on matched queries.

Letters: R decoder layers, B batch, Q queries, K classes, M matched rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config import LossConfig
from bevstack.geometry import BEVGrid
from bevstack.losses.focal import single_target_focal_loss
from bevstack.losses.matcher import Matches, match
from bevstack.losses.reduction import mean_over_processes
from bevstack.losses.spread import spreads
from bevstack.losses.targets import Targets, encode_targets
from bevstack.models.detection3d.box_code import CODE_NAMES, DecoderOutput
from bevstack.types import Annotations


class Losses(NamedTuple):
    """A loss to minimise, and its terms for the log.

    A tuple, as DDP and FSDP2 find the tensors in tuples.
    """

    total: Tensor  # () sum of all terms
    terms: Mapping[str, Tensor]  # "class_0", "box_0", ... by decoder layer; detached
    # spread of each output over the rows that the losses train, which training watches; see
    # ``losses.spread.spreads``
    spreads: Mapping[str, Tensor] = MappingProxyType({})


class Criterion:
    """Set prediction loss of BEVFormer (DETR, arXiv 2005.12872), summed over all decoder layers.

    Each decoder layer and each group of queries is matched independently.

    - Class loss: focal, over all queries and classes. An unmatched query is a pure negative.
    - Box loss: smooth-L1 on matched rows, weighted per code.

    Both are divided by the number of matched queries per layer, averaged over processes and at
    least 1. The losses of the groups are averaged. A sample without true boxes is all background.
    Inactive queries contribute no loss. The losses are computed in float32, with one copy to the
    host for all assignments.

    Args:
        config: weights and focal parameters.
        official_parity: treat numbers that are not finite like the published code: a true box with
            any such code (an unknown velocity) adds no box loss at all, and a loss that is not
            finite counts as 0. By default only the unknown velocity is left out, while the box's
            position, size and heading still contribute, and a loss that is not finite stays so, in
            order to be noticed.
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
        """Compute the losses of a batch; ``encode_targets`` selects the true boxes to train on.

        Raises:
            ValueError: not one entry of annotations per sample, labels outside the classes, or
                predictions that are not finite (names layer and sample).
        """
        batch = output.logits.shape[1]
        if len(annotations) != batch:
            raise ValueError(
                f"annotations must hold one entry per sample ({batch}); got {len(annotations)}"
            )
        targets = encode_targets(annotations, grid, output.codes.device)
        matches = match(output, targets, self.config)
        groups = output.num_groups
        matched = output.codes.new_tensor(len(matches.layer) / (len(output.codes) * groups))
        normaliser = groups * mean_over_processes(matched).clamp(min=1)
        class_losses = self._class_loss(output, targets, matches) / normaliser  # (R,)
        box_losses = self._box_loss(output, targets, matches) / normaliser  # (R,)
        if self.official_parity:
            class_losses, box_losses = class_losses.nan_to_num(), box_losses.nan_to_num()
        named = {"class": class_losses.detach(), "box": box_losses.detach()}
        terms = {
            f"{name}_{layer}": value
            for name, values in named.items()
            for layer, value in enumerate(values)
        }
        total = class_losses.sum() + box_losses.sum()
        return Losses(total, terms, self._spreads(output, targets, matches))

    def _spreads(
        self, output: DecoderOutput, targets: Targets, matches: Matches
    ) -> dict[str, Tensor]:
        """Return the spreads of the last layer's outputs over its matched queries."""
        # Matches are sorted by layer and equally many in each; a mask would wait for the device.
        last = slice(len(matches.layer) - len(matches.layer) // len(output.codes), None)
        sample, query = matches.sample[last], matches.query[last]
        labels = targets.labels[sample, matches.target[last]]
        return {
            **spreads("class", output.logits[-1, sample, query, labels]),
            **spreads("box", output.codes[-1, sample, query], CODE_NAMES),
        }

    def _class_loss(
        self, output: DecoderOutput, targets: Targets, matches: Matches
    ) -> Tensor:  # (R,)
        logits = output.logits.float()
        background = self._focal(0, logits).sum(-1)  # (R, B, Q), as if no query were matched
        if output.active is not None:
            background = background.masked_fill(~output.active, 0.0)
        labels = targets.labels[matches.sample, matches.target]
        matched = logits[matches.layer, matches.sample, matches.query, labels]  # (M,)
        # At the class of its true box, a matched query is a positive instead of a negative.
        correction = self._focal(1, matched) - self._focal(0, matched)
        sums = background.sum((1, 2)).index_add(0, matches.layer, correction)
        return self.config.class_weight * sums

    def _focal(self, target: int, logits: Tensor) -> Tensor:
        config = self.config
        return single_target_focal_loss(
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
        # Replace unknown codes rather than multiply them by 0: NaN * 0 is NaN, in the gradient too.
        true = torch.where(known, true, predicted.detach())
        loss = functional.smooth_l1_loss(predicted, true, reduction="none")
        weights = loss.new_tensor(self.config.code_weights)
        row_losses = (loss * weights).sum(-1)  # (M,)
        sums = row_losses.new_zeros(output.codes.shape[0]).index_add(0, matches.layer, row_losses)
        return self.config.box_weight * sums
