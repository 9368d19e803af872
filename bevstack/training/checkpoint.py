"""Checkpoints: one safetensors file a checkpoint, whole or absent.

A file holds the model, the optimiser's state and, as JSON in its metadata, the configuration and
the number of steps done. Nothing else is needed to go on: every random draw of a step comes from
the seed and the step's number.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bevstack.config import Config, config_from_json, config_to_json, first_differences
from bevstack.models.weights import read_safetensors, write_safetensors

FORMAT = "bevstack-checkpoint-1"
_NAME = re.compile(r"^checkpoint_(\d{7})\.safetensors$")


@dataclass(frozen=True)
class TrainingState:
    """What a run needs to go on."""

    steps_done: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # "<parameter index>.<state name>" of torch's state_dict


def checkpoint_path(folder: Path, steps_done: int) -> Path:
    """File of the checkpoint after a number of steps."""
    return folder / f"checkpoint_{steps_done:07d}.safetensors"


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: Config,
    steps_done: int,
    keep: int = 2,
) -> Path:
    """Writes a checkpoint, then removes all but the newest ``keep``.

    The file appears under its name only when it is complete and on disk, so a run killed at any
    moment leaves the checkpoints before it untouched.

    Raises:
        OSError: the folder is not writable or the disk is full; earlier checkpoints stay whole.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    metadata = {
        "format": FORMAT,
        "config": config_to_json(config),
        "state": json.dumps({"steps_done": steps_done}),
    }
    path = checkpoint_path(folder, steps_done)
    write_safetensors(path, tensors, metadata)
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint files of a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.match(path.name))


def load_checkpoint(path: Path, config: Config) -> TrainingState:
    """Reads a checkpoint of a run with the same configuration.

    Raises:
        ValueError: a damaged file, no checkpoint of ours, or one of another configuration (with
            the first differing fields).
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} must be a {FORMAT}; got format {metadata.get('format')!r}")
    differing = first_differences(config, config_from_json(metadata["config"]))
    if differing:
        raise ValueError(
            f"checkpoint {path} must be of the same configuration; ours != its: "
            f"{'; '.join(differing)}. Give another --out, or the configuration it was made with"
        )
    return TrainingState(
        steps_done=json.loads(metadata["state"])["steps_done"],
        model=_with_prefix(tensors, "model."),
        optimizer=_with_prefix(tensors, "optimizer."),
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Puts saved optimiser state back; groups and rates stay as constructed."""
    whole = optimizer.state_dict()
    restored: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        index, name = key.split(".", 1)
        restored.setdefault(int(index), {})[name] = value
    whole["state"] = restored
    optimizer.load_state_dict(whole)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
