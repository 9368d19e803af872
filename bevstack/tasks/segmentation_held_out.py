"""Labels that a model gives to pictures, and their evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.segmenters import SegmenterConfig
from bevstack.datasets.segmentation.labelled import LabelledPictures
from bevstack.datasets.segmentation.prepare import prepare_labelled
from bevstack.evaluation.segmentation.iou import LabelCounts, LabelScores
from bevstack.models.build_segmentation import segmenter_with
from bevstack.models.segmentation.build import PixelModel
from bevstack.models.segmentation.inference import View, label_views
from bevstack.tasks.task import Score

MEAN_IOU = "mean_iou"


def label_pixels(
    model: PixelModel,
    picture: NDArray[np.uint8],  # (H, W, 3) RGB
    *,
    ratios: Sequence[float] = (1.0,),
    mirror: bool = False,
) -> NDArray[np.uint8]:  # (H, W)
    """Return the label of each pixel; see ``runtime.pixel_labeller``.

    Raises:
        ValueError: the array is no picture, or a ratio is not positive.
    """
    sizes, device = model.config.pictures, next(model.parameters()).device
    views = []
    for ratio in ratios:
        image = prepare_labelled(picture, sizes, ratio=ratio)[None].to(device)
        views += [View(image, mirrored) for mirrored in ((False, True) if mirror else (False,))]
    labels = label_views(
        model.pixel_logits,
        views,
        (int(picture.shape[0]), int(picture.shape[1])),
        window_px=sizes.window_px,
        step_px=sizes.window_step_px,
    )
    found: NDArray[np.uint8] = labels[0].cpu().numpy()
    return found


def evaluate_labels(
    weights: Mapping[str, Tensor],
    config: SegmenterConfig,
    held_out: LabelledPictures,
    device: torch.device,
) -> Score:
    """Score weights by mean intersection over union; every process computes the same."""
    model = segmenter_with(weights, config, device)
    counts = LabelCounts(len(config.class_names))
    for index in range(len(held_out)):
        sample = held_out.sample(index)
        counts.add(label_pixels(model, sample.image), sample.semantic)
    scores = counts.scores()
    return Score(score_figures(scores), scores)


def score_figures(scores: LabelScores) -> dict[str, float]:
    """Return the means of scores by name."""
    return {
        MEAN_IOU: scores.mean_iou,
        "mean_accuracy": scores.mean_accuracy,
        "pixel_accuracy": scores.pixel_accuracy,
    }
