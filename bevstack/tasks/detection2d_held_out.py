"""Evaluation of boxes and masks on held-out pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bevstack.config.detection2d import Detection2DConfig
from bevstack.datasets.detection2d.coco import CocoDataset
from bevstack.datasets.detection2d.prepare import prepare_picture, stack_pictures
from bevstack.evaluation.detection2d.coco_results import result_entries
from bevstack.evaluation.detection2d.coco_scores import score_results
from bevstack.models.build_detection2d import detector2d_with
from bevstack.models.detection2d.masks import paste_masks
from bevstack.tasks.task import Score


@torch.no_grad()
def evaluate_pictures(
    weights: Mapping[str, Tensor],
    config: Detection2DConfig,
    held_out: CocoDataset,
    device: torch.device,
) -> Score:
    """Score weights by COCO's average precision; every process computes the same."""
    model = detector2d_with(weights, config, device)
    results: list[dict[str, Any]] = []
    for index, own in enumerate(held_out.pictures):
        image, size = prepare_picture(held_out.picture(index), config.pictures)
        batch = stack_pictures([image], [size], [own.file_name]).to(device)
        found = model.detect(batch)[0].to("cpu")
        assert found.mask_values is not None
        rows = zip(found.mask_values[:, None], found.boxes[:, None], strict=True)
        threshold = config.roi.mask_threshold
        masks = (paste_masks(v, b, own.size, threshold=threshold)[0].numpy() for v, b in rows)
        results += result_entries(
            found, masks, image_id=own.image_id, category_numbers=held_out.category_ids
        )
    figures = score_results(held_out.annotations, results)
    return Score({"mask_ap": figures.get("mask_ap", 0.0), **figures})
