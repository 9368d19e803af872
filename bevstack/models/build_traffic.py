"""Building of the traffic model from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.config.traffic import TrafficConfig
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.backbones.resnet import ResNet
from bevstack.models.build import build_backbone, list_tasks
from bevstack.models.task_files import task_model_with
from bevstack.models.traffic.model import TrafficModel
from bevstack.models.weights import BACKBONE, read_weights_file, task_weights

# Parts that a configuration may have and older weights lack
_OPTIONAL = ("regions.speed_limit.", "relevance.map_evidence.")


def traffic_section(config: Config) -> TrafficConfig:
    """Return the traffic section of a configuration.

    Raises:
        ValueError: it has none.
    """
    if config.traffic is None:
        raise ValueError(
            f"configuration must have the section traffic; got {config.name} without it: choose "
            "one such as tiny_cpu_t4_traffic"
        )
    return config.traffic


def mapless_section(config: Config) -> TrafficConfig:
    """Return the traffic section of a configuration for callers that have no BEV map to give.

    Raises:
        ValueError: there is no such section, or its relevance head wants a map.
    """
    section = traffic_section(config)
    if section.relevance_map:
        raise ValueError(
            "traffic.relevance_map must be false in streams and trainings, which give lights no "
            "BEV map yet; got true: remove it"
        )
    return section


def build_traffic_model(
    config: Config, backbone: InternImage | ResNet | None = None
) -> TrafficModel:
    """Build the traffic model, with initial weights and in training mode.

    Args:
        config: the detector, with a traffic section.
        backbone: the detector's backbone, to share it; None builds one.

    Raises:
        ValueError: the configuration has no traffic section.
    """
    section = traffic_section(config)
    backbone = build_backbone(config) if backbone is None else backbone
    return TrafficModel(section, backbone, grid=config.grid, bev_channels=config.fpn.channels)


def read_traffic_weights(path: Path, config: Config, *, verify: bool = True) -> dict[str, Tensor]:
    """Read weights of the traffic model; of a file without this task, those of the backbone.

    The rest then starts from the seed of the recipe. So do the numbers of speed limits and the
    evidence of the BEV map, if the file has none and the configuration does.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    _, tensors, metadata = read_weights_file(path, verify=verify)
    stored: dict[str, Tensor] = {}
    if "traffic" in list_tasks(path, metadata):
        stored = dict(task_weights(tensors, "traffic"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        fresh: dict[str, Tensor] = build_traffic_model(config).state_dict()
    if stored:
        parts = [part for part in _OPTIONAL if not any(name.startswith(part) for name in stored)]
        added = {n: value for n, value in fresh.items() if n.startswith(tuple(parts))}
        return {**added, **stored}
    shared = {
        name: value.to(fresh[name].dtype)
        for name, value in tensors.items()
        if name.startswith(BACKBONE) and name in fresh
    }
    return {**fresh, **shared}


def traffic_model_with(
    weights: Mapping[str, Tensor], config: Config, device: torch.device
) -> TrafficModel:
    """Build a separate traffic model with given weights, in evaluation mode.

    Draws no random numbers. Weights of half precision become float32.

    Raises:
        ValueError: the weights do not fit the model of the configuration.
    """
    return task_model_with("traffic", lambda: build_traffic_model(config), weights, device)
