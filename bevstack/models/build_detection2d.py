"""Building of detectors for single pictures, and saving and loading of their weights."""

from __future__ import annotations

import json
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
from bevstack.models.build import (
    CONFIG_KEY,
    FORMAT,
    FORMAT_KEY,
    TASKS_KEY,
    list_tasks,
    read_task_config,
)
from bevstack.models.detection2d.build import PictureModel, build_picture_model
from bevstack.models.fit import fitted_weights
from bevstack.models.skeleton import skeleton
from bevstack.models.weights import (
    joint_name,
    read_weights_file,
    task_weights,
    write_safetensors,
)


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
    named = {joint_name(DETECTION2D, name): value for name, value in weights.items()}
    text = json.dumps(
        {"tasks": {DETECTION2D: {"task": json.loads(picture_detector_to_json(config))}}}
    )
    own = {FORMAT_KEY: FORMAT, CONFIG_KEY: text, TASKS_KEY: json.dumps([DETECTION2D])}
    write_safetensors(path, named, {**(metadata or {}), **own})


def read_detector2d(
    path: str | Path, *, verify: bool = True
) -> tuple[dict[str, Tensor], PictureDetectorConfig]:
    """Return the weights and the configuration of a file that ``save_detector2d`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds no such detector.
    """
    file = read_weights_file(path, verify=verify)
    tasks = list_tasks(path, file.metadata)
    if DETECTION2D not in tasks:
        raise ValueError(
            f"weights must be of the task {DETECTION2D!r}; got {path} of {', '.join(tasks)}"
        )
    text = read_task_config(path, file.metadata, DETECTION2D)
    return task_weights(file.tensors, DETECTION2D), picture_detector_from_json(text)


def detector2d_with(
    weights: Mapping[str, Tensor], config: PictureDetectorConfig, device: torch.device
) -> PictureModel:
    """Build a separate detector with given weights, in evaluation mode; draws nothing.

    Raises:
        ValueError: the weights do not fit the configuration.
    """
    with skeleton():
        model = build_picture_model(config)
    fitted = fitted_weights(f"the task {DETECTION2D!r} of the file", weights, model.state_dict())
    model.load_state_dict({k: v.to(device) for k, v in fitted.items()}, assign=True)
    return model.eval()
