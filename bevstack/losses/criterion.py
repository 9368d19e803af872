"""Losses of the decoder: focal classification and smooth-L1 boxes on matched queries.

Letters: R decoder layers, B batch, Q queries, K classes, M matched rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.nn import functional

from bevstack.config import LossConfig
from bevstack.geometry import BEVGrid
from bevstack.losses.focal import sigmoid_focal_loss
from bevstack.losses.matcher import Matches, match
from bevstack.losses.targets import Targets, encode_targets
from bevstack.models.box_code import DecoderOutput
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
    losses of the groups are averaged. Computed in float32.

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
        _check_annotations(output, annotations)
        groups = output.num_groups
        targets = encode_targets(annotations, grid, output.codes.device).repeat_interleave(groups)
        output = output.group_by_group()
        matches = match(output, targets, self.config)
        matched = _mean_over_processes(_matched_a_layer(output, targets) / groups)
        normaliser = groups * matched.clamp(min=1)
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
        wanted = torch.zeros_like(logits)
        labels = targets.labels[matches.sample, matches.target]
        wanted[matches.layer, matches.sample, matches.query, labels] = 1.0
        loss = sigmoid_focal_loss(
            logits, wanted, alpha=self.config.focal_alpha, gamma=self.config.focal_gamma
        )
        return self.config.class_weight * loss.sum((1, 2, 3))

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


def _check_annotations(output: DecoderOutput, annotations: Sequence[Annotations]) -> None:
    batch, classes = output.logits.shape[1], output.logits.shape[3]
    if len(annotations) != batch:
        raise ValueError(f"annotations must be one a sample ({batch}); got {len(annotations)}")
    for sample, true in enumerate(annotations):
        if len(true) and not 0 <= int(true.labels.min()) <= int(true.labels.max()) < classes:
            raise ValueError(
                f"labels of sample {sample} must lie in 0..{classes - 1}; "
                f"got {int(true.labels.min())}..{int(true.labels.max())}"
            )


def _matched_a_layer(output: DecoderOutput, targets: Targets) -> Tensor:  # ()
    queries = output.codes.shape[2]
    return output.codes.new_tensor(float(sum(min(count, queries) for count in targets.counts)))


def _mean_over_processes(value: Tensor) -> Tensor:
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    value = value.clone()
    distributed.all_reduce(value)
    return value / distributed.get_world_size()
