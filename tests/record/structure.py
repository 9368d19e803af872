"""State-dict keys and configurations of all packaged detectors and of the packaged weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

import bevstack
from bevstack.config import Config, config_from_json, config_to_json, load_config, packaged_configs
from bevstack.models.build import build_model


def record(folder: Path) -> dict[str, Any]:
    """Return keys and configurations by name."""
    everywhere = {name: _configuration(name) for name in packaged_configs()}
    detector = bevstack.load("tiny_cpu_t4")
    everywhere["weights tiny_cpu_t4"] = {
        "state_dict": _digest_of_keys(detector.model),
        "config": _as_json(detector.config),
    }
    return {"everywhere": everywhere}


def in_present_format(entries: dict[str, Any]) -> dict[str, Any]:
    """Return recorded entries with configurations in the present format.

    Each configuration is read, in the format in which it was recorded, and written again.
    """
    return {
        name: {**entry, "config": _as_json(config_from_json(json.dumps(entry["config"])))}
        if isinstance(entry, dict) and "config" in entry
        else entry
        for name, entry in entries.items()
    }


def _configuration(name: str) -> dict[str, Any]:
    config = load_config(name)
    with torch.device("meta"):
        model = build_model(config)
    return {"state_dict": _digest_of_keys(model), "config": _as_json(config)}


def _digest_of_keys(model: torch.nn.Module) -> str:
    keys = [f"{key} {tuple(value.shape)}\n" for key, value in model.state_dict().items()]
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def _as_json(config: Config) -> Any:
    """Return a configuration as JSON values; raise if reading them gives another configuration."""
    text = config_to_json(config)
    if config_from_json(text) != config:
        raise ValueError(f"{config.name} must survive writing and reading; got {text[:200]}")
    return json.loads(text)
