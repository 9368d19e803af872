"""Evaluation of boxes and masks on held-out pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.detection2d import Detection2DConfig
from bevstack.config.picture_detectors import PictureDetectorConfig
from bevstack.datasets.detection2d.coco import CocoDataset
from bevstack.datasets.detection2d.prepare import prepare_picture, stack_pictures
from bevstack.evaluation.detection2d.coco_results import result_entries
from bevstack.evaluation.detection2d.coco_scores import score_results
from bevstack.models.build_detection2d import detector2d_with
from bevstack.models.detection2d.masks import paste_masks
from bevstack.tasks.task import Score
from bevstack.types.pictures2d import Detections2D


@torch.no_grad()
def evaluate_pictures(
    weights: Mapping[str, Tensor],
    config: PictureDetectorConfig,
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
        results += result_entries(
            found,
            _masks(found, own.size, config),
            image_id=own.image_id,
            category_numbers=held_out.category_ids,
        )
    figures = score_results(held_out.annotations, results)
    headline = headline_of(config)
    return Score({headline: figures.get(headline, 0.0), **figures})


def headline_of(config: PictureDetectorConfig) -> str:
    """Return the name of the figure that ranks models."""
    return "mask_ap" if isinstance(config, Detection2DConfig) else "box_ap"


def _masks(
    found: Detections2D, size: tuple[int, int], config: PictureDetectorConfig
) -> Iterator[NDArray[np.bool_]] | None:
    """Return the masks of a picture's objects, made one at a time; None without any."""
    if found.mask_values is None or not isinstance(config, Detection2DConfig):
        return None
    rows = zip(found.mask_values[:, None], found.boxes[:, None], strict=True)
    threshold = config.roi.mask_threshold
    return (paste_masks(v, b, size, threshold=threshold)[0].numpy() for v, b in rows)
