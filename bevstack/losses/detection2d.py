"""Losses of detectors in single pictures: proposals, then class, box and mask of sampled regions.

Letters: B batch, L levels, N anchors of an image, R sampled regions, P positive ones, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config.detection2d import Detection2DConfig, RoIConfig, RPNConfig
from bevstack.losses.criterion import Losses
from bevstack.models.detection2d.anchors import anchors_within, cells_in_picture
from bevstack.models.detection2d.boxes import BoxCoder, clip_boxes, matched_giou
from bevstack.models.detection2d.masks import mask_targets
from bevstack.models.detection2d.model import StageOutput, TrainingOutput
from bevstack.models.detection2d.rpn import STRIDES, RPNOutput, flat
from bevstack.models.detection2d.sampling import (
    Choice,
    Samples,
    choose_at_random,
    match_boxes,
    sample_boxes,
)
from bevstack.types.pictures2d import PictureBatch, PictureObjects, PictureSize

SEED_STEP = 0x9E3779B97F4A7C15  # tells the choice of anchors from that of regions


class StageLosses(NamedTuple):
    """Losses of one stage of regions, without the stage's weight."""

    classes: Tensor  # ()
    boxes: Tensor  # ()
    masks: Tensor  # ()
    accuracy: Tensor  # () percent of sampled regions whose class is right; no loss


def detection2d_losses(
    output: TrainingOutput,
    batch: PictureBatch,
    config: Detection2DConfig,
    *,
    choose: Choice = choose_at_random,
) -> Losses:
    """Return the sum of all losses and its terms.

    Terms are "rpn_class" and "rpn_box", then "class", "box" and "mask", with the number of the
    stage if there are several.
    """
    logits, codes = rpn_losses(output.rpn, output.anchors, batch, config.rpn, choose=choose)
    terms = {"rpn_class": torch.stack(logits).sum(), "rpn_box": torch.stack(codes).sum()}
    several = len(output.stages) > 1
    for index, (stage, weight) in enumerate(zip(output.stages, config.roi.weights, strict=True)):
        losses = stage_losses(stage, batch, config.roi, index)
        suffix = f"_{index}" if several else ""
        for name, value in (
            ("class", losses.classes),
            ("box", losses.boxes),
            ("mask", losses.masks),
        ):
            terms[name + suffix] = weight * value
    total = torch.stack(list(terms.values())).sum()
    return Losses(total, {name: value.detach() for name, value in terms.items()})


def rpn_losses(
    output: RPNOutput,
    anchors: Sequence[Tensor],  # L x (N_l, 4)
    batch: PictureBatch,
    config: RPNConfig,
    *,
    choose: Choice = choose_at_random,
) -> tuple[list[Tensor], list[Tensor]]:  # L each
    """Return the losses of the scores and of the boxes of each level.

    Both are divided by the number of sampled anchors; an image counts at least one positive and one
    negative anchor.
    """
    counts = [len(level) for level in anchors]
    every, coder = torch.cat(list(anchors)), BoxCoder()
    labels = every.new_zeros((batch.num_images, len(every)))
    weights, box_weights = torch.zeros_like(labels), torch.zeros_like(labels)
    targets = every.new_zeros((*labels.shape, 4))
    total = 0
    shapes = [tuple(level.shape[-2:]) for level in output.logits]
    for image, (objects, size, seed) in enumerate(
        zip(batch.objects, batch.sizes, batch.seeds, strict=True)
    ):
        used = _usable(every, shapes, size, config)
        generator = torch.Generator().manual_seed((seed ^ SEED_STEP) % 2**63)
        samples = _sample_anchors(every[used], objects, config, generator, choose)
        positive, negative = used[samples.positive], used[samples.negative]
        labels[image, positive] = 1
        weights[image, torch.cat((positive, negative))] = 1
        box_weights[image, positive] = 1
        targets[image, positive] = coder.encode(every[positive], objects.boxes[samples.objects])
        total += max(len(positive), 1) + max(len(negative), 1)
    logits, codes = (torch.cat([x.float() for x in levels], 1) for levels in flat(output))
    score_losses = weights * functional.binary_cross_entropy_with_logits(
        logits, labels, reduction="none"
    )
    box_terms = box_distances(codes, targets, config.smooth_l1_beta).sum(-1) * box_weights
    return (
        [part.sum() / total for part in torch.split(score_losses, counts, 1)],
        [part.sum() / total for part in torch.split(box_terms, counts, 1)],
    )


def _usable(
    anchors: Tensor,  # (N, 4)
    shapes: Sequence[tuple[int, ...]],  # L x (H_l, W_l)
    size: PictureSize,
    config: RPNConfig,
) -> Tensor:  # int64
    """Return the indices of the anchors that may be sampled in a picture."""
    usable = torch.cat(
        [
            cells_in_picture(
                (shape[0], shape[1]),
                size.padded,
                stride,
                num_anchors=len(config.ratios),
                device=anchors.device,
            )
            for shape, stride in zip(shapes, STRIDES, strict=True)
        ]
    )
    if config.inside_only:
        usable &= anchors_within(anchors, size.resized)
    return usable.nonzero()[:, 0]


def _sample_anchors(
    anchors: Tensor,  # (N, 4)
    objects: PictureObjects,
    config: RPNConfig,
    generator: torch.Generator,
    choose: Choice,
) -> Samples:
    matches = match_boxes(
        anchors,
        objects.boxes,
        positive_iou=config.positive_iou,
        negative_iou=config.negative_iou,
        best_iou=config.negative_iou,
    )
    return sample_boxes(
        matches,
        count=config.samples,
        positive_share=config.positive_share,
        generator=generator,
        choose=choose,
    )


def box_distances(
    codes: Tensor,  # (..., 4)
    targets: Tensor,  # (..., 4)
    beta: float,
) -> Tensor:  # (..., 4)
    """Return the smooth L1 distance that is quadratic below ``beta``; L1 for 0."""
    if beta:
        return functional.smooth_l1_loss(codes, targets, beta=beta, reduction="none")
    return (codes - targets).abs()


def stage_losses(
    output: StageOutput,
    batch: PictureBatch,
    config: RoIConfig,
    stage: int,
) -> StageLosses:
    """Return the losses of a stage; those of boxes are divided by the number of all samples."""
    logits, codes = output.box.logits.float(), output.box.codes.float()
    background = logits.shape[1] - 1
    labels, boxes, targets, labels_of_positive, rows, at = [], [], [], [], [], 0
    for samples, regions, objects in zip(output.samples, output.boxes, batch.objects, strict=True):
        positives = len(samples.positive)
        own = objects.labels[samples.objects]
        rest = own.new_full((len(samples.negative),), background)
        labels += [own, rest]
        labels_of_positive.append(own)
        boxes.append(regions[:positives])
        targets.append(objects.boxes[samples.objects])
        rows.append(torch.arange(at, at + positives, device=own.device))
        at += len(regions)
    label, own_label, row = torch.cat(labels), torch.cat(labels_of_positive), torch.cat(rows)
    own_row = torch.arange(len(row), device=row.device)
    code = torch.unflatten(codes[row], -1, (-1, 4))[own_row, own_label]
    per_box = box_losses(torch.cat(boxes), code, torch.cat(targets), config, stage)
    accuracy = 100 * (logits.argmax(1) == label).float().mean()
    return StageLosses(
        functional.cross_entropy(logits, label),
        config.box_weight * per_box.sum() / max(at, 1),
        _mask_loss(output, batch, own_label),
        accuracy.detach(),
    )


def box_losses(
    boxes: Tensor,  # (P, 4) regions
    codes: Tensor,  # (P, 4) predicted
    targets: Tensor,  # (P, 4) boxes of objects
    config: RoIConfig,
    stage: int,
) -> Tensor:  # (P,)
    """Return the loss of each positive region's box."""
    coder = BoxCoder(config.stds[stage])
    if config.giou:
        return 1 - matched_giou(coder.decode(boxes, codes), targets)
    return (codes - coder.encode(boxes, targets)).abs().sum(-1)


def _mask_loss(
    output: StageOutput,
    batch: PictureBatch,
    labels: Tensor,  # (P,)
) -> Tensor:  # ()
    """Return the mean over all cells of the objects' own class; 0 without a positive region."""
    logits = output.masks.float()
    if not len(logits):
        return logits.sum()
    targets = stage_mask_targets(output, batch, logits.shape[-1])
    own = logits[torch.arange(len(labels), device=labels.device), labels]
    return functional.binary_cross_entropy_with_logits(own, targets)


def stage_mask_targets(
    output: StageOutput, batch: PictureBatch, cells: int
) -> Tensor:  # (P, cells, cells)
    """Return the mask of each positive region's object within the region.

    Raises:
        ValueError: objects without masks.
    """
    targets = []
    for samples, regions, objects in zip(output.samples, output.boxes, batch.objects, strict=True):
        if objects.masks is None:
            raise ValueError("objects must have masks to train masks on; got none")
        height, width = objects.masks.shape[-2:]
        boxes = clip_boxes(regions[: len(samples.positive)], (height, width))
        targets.append(mask_targets(objects.masks, boxes, samples.objects, cells))
    return torch.cat(targets)
