"""Building of detectors for single pictures, and saving and loading of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config.detection2d import DETECTION2D
from bevstack.config.picture_detectors import (
    PictureDetectorConfig,
    picture_detector_from_json,
    picture_detector_to_json,
)
from bevstack.models.detection2d.build import PictureModel, build_picture_model
from bevstack.models.task_files import read_task_file, task_model_with, write_task_file


def save_detector2d(
    path: str | Path,
    weights: Mapping[str, Tensor],
    config: PictureDetectorConfig,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights of a detector with its configuration, completely or not at all.

    Raises:
        OSError: the file cannot be written; an older one stays intact.
    """
    text = picture_detector_to_json(config)
    write_task_file(path, DETECTION2D, weights, config_json=text, metadata=metadata)


def read_detector2d(
    path: str | Path, *, verify: bool = True
) -> tuple[dict[str, Tensor], PictureDetectorConfig]:
    """Return the weights and the configuration of a file that ``save_detector2d`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds no such detector.
    """
    weights, text = read_task_file(path, DETECTION2D, verify=verify)
    return weights, picture_detector_from_json(text)


def detector2d_with(
    weights: Mapping[str, Tensor], config: PictureDetectorConfig, device: torch.device
) -> PictureModel:
    """Build a separate detector with given weights, in evaluation mode; draws nothing.

    Raises:
        ValueError: the weights do not fit the configuration.
    """
    return task_model_with(DETECTION2D, lambda: build_picture_model(config), weights, device)
