"""Building of models that label pixels, and saving and loading of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config.segmentation import SEGMENTATION, SegmentationConfig
from bevstack.config.serialization import config_to_json
from bevstack.models.segmentation.model import Segmenter
from bevstack.models.task_files import task_model_with, write_task_file


def save_segmenter(
    path: str | Path,
    weights: Mapping[str, Tensor],
    config: SegmentationConfig,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights of a segmenter with its configuration, completely or not at all.

    Raises:
        OSError: the file cannot be written; an older one stays intact.
    """
    text = config_to_json(config)
    write_task_file(path, SEGMENTATION, weights, config_json=text, metadata=metadata)


def segmenter_with(
    weights: Mapping[str, Tensor], config: SegmentationConfig, device: torch.device
) -> Segmenter:
    """Build a separate segmenter with given weights, in evaluation mode; draws nothing.

    Raises:
        ValueError: the weights do not fit the configuration.
    """
    return task_model_with(SEGMENTATION, lambda: Segmenter(config), weights, device)
