"""Files with random weights of boxes and of lights and signs, as joint training writes them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from bevstack.config import Config, config_to_json
from bevstack.config.traffic import TrafficConfig
from bevstack.models.build import (
    CONFIG_KEY,
    DETECTION3D,
    FORMAT,
    FORMAT_KEY,
    TASKS_KEY,
    build_model,
)
from bevstack.models.build_traffic import build_traffic_model
from bevstack.models.weights import BACKBONE, write_safetensors
from tests.small_world import CONFIG

TRAFFIC = TrafficConfig(
    samples=2,
    rows=(0.0, 1.0),
    channels=16,
    num_convs=1,
    roi_channels=24,
    max_candidates=5,
    scale=(1.0, 1.0),
    score_threshold=0.0,  # random weights give low scores
)
BOTH = dataclasses.replace(CONFIG, name="both", traffic=TRAFFIC)


def write_both(path: Path, config: Config = BOTH, *, boxes: bool = True) -> Path:
    """Write random weights of both tasks on one backbone; without boxes, of lights alone."""
    torch.manual_seed(0)
    detector = build_model(config)
    models = {"traffic": build_traffic_model(config, detector.backbone)}
    if boxes:
        models = {DETECTION3D: detector, **models}
    tensors = {}
    for task, model in models.items():
        for name, value in model.state_dict().items():
            tensors[name if name.startswith(BACKBONE) else f"tasks.{task}.{name}"] = value
    section = {"task": json.loads(config_to_json(config))}
    metadata = {
        FORMAT_KEY: FORMAT,
        CONFIG_KEY: json.dumps({"tasks": dict.fromkeys(models, section)}),
        TASKS_KEY: json.dumps(list(models)),
    }
    write_safetensors(path, tensors, metadata)
    return path
