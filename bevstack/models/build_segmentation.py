"""Building of models that label pixels, and saving and loading of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config.segmentation import SEGMENTATION
from bevstack.config.segmenters import SegmenterConfig, segmenter_from_json, segmenter_to_json
from bevstack.models.segmentation.build import PixelModel, build_segmenter
from bevstack.models.task_files import read_task_file, task_model_with, write_task_file


def save_segmenter(
    path: str | Path,
    weights: Mapping[str, Tensor],
    config: SegmenterConfig,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights of a segmenter with its configuration, completely or not at all.

    Raises:
        OSError: the file cannot be written; an older one stays intact.
    """
    text = segmenter_to_json(config)
    write_task_file(path, SEGMENTATION, weights, config_json=text, metadata=metadata)


def read_segmenter(
    path: str | Path, *, verify: bool = True
) -> tuple[dict[str, Tensor], SegmenterConfig]:
    """Return the weights and the configuration of a file that ``save_segmenter`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds no such model.
    """
    weights, text = read_task_file(path, SEGMENTATION, verify=verify)
    return weights, segmenter_from_json(text)


def segmenter_with(
    weights: Mapping[str, Tensor], config: SegmenterConfig, device: torch.device
) -> PixelModel:
    """Build a separate segmenter with given weights, in evaluation mode; draws nothing.

    Raises:
        ValueError: the weights do not fit the configuration.
    """
    return task_model_with(SEGMENTATION, lambda: build_segmenter(config), weights, device)
