"""Building of models that label pixels, and saving and loading of their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config.segmentation import SEGMENTATION, SegmentationConfig
from bevstack.config.serialization import config_to_json
from bevstack.models.build import CONFIG_KEY, FORMAT, FORMAT_KEY, TASKS_KEY
from bevstack.models.fit import fitted_weights
from bevstack.models.segmentation.model import Segmenter
from bevstack.models.skeleton import skeleton
from bevstack.models.weights import joint_name, write_safetensors


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
    named = {joint_name(SEGMENTATION, name): value for name, value in weights.items()}
    text = json.dumps({"tasks": {SEGMENTATION: {"task": json.loads(config_to_json(config))}}})
    own = {FORMAT_KEY: FORMAT, CONFIG_KEY: text, TASKS_KEY: json.dumps([SEGMENTATION])}
    write_safetensors(path, named, {**(metadata or {}), **own})


def segmenter_with(
    weights: Mapping[str, Tensor], config: SegmentationConfig, device: torch.device
) -> Segmenter:
    """Build a separate segmenter with given weights, in evaluation mode; draws nothing.

    Raises:
        ValueError: the weights do not fit the configuration.
    """
    with skeleton():
        model = Segmenter(config)
    fitted = fitted_weights(f"the task {SEGMENTATION!r} of the file", weights, model.state_dict())
    model.load_state_dict({k: v.to(device) for k, v in fitted.items()}, assign=True)
    return model.eval()
