"""Checkpoints: one safetensors file a checkpoint, whole or absent.

A file holds the model, the optimiser's state, the average of the weights and, as JSON in its
metadata, the configuration and how far the run has come. Nothing else is needed to go on: every
random draw of a sample comes from (seed, epoch, sample), every other one of a step from (seed,
step, pass, process). Sharded state is gathered first, so a run may go on with another number of
processes; each of them reads the file, whose folder they must share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config import Config, config_from_json, config_to_json, first_differences
from bevstack.models.weights import read_safetensors, write_safetensors
from bevstack.training.optimizer_step import Learner
from bevstack.training.parallel import as_shared, load_shared, whole

FORMAT = "bevstack-checkpoint-1"
_NAME = re.compile(r"^checkpoint_(\d{7})\.safetensors$")
# Fields of the recipe that say how the work is done and watched, not what is computed.
FREE_FIELDS = (
    "accumulate",
    "engine",
    "checkpoint_every",
    "evaluate_every",
    "log_every",
    "tensorboard",
    "num_workers",
    "on_bad_sample",
    "on_bad_step",
    "max_skipped",
)


@dataclass(frozen=True, kw_only=True)
class RunPosition:
    """How far a run has come, over all processes."""

    steps_done: int = 0
    samples_seen: int = 0
    epoch: int = 0  # of the next sample, from 0
    skipped: int = 0  # samples and steps
    elapsed_s: float = 0.0  # spent in steps, restarts not counted


@dataclass(frozen=True)
class TrainingState:
    """What a run needs to go on; all tensors whole."""

    position: RunPosition
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # "<parameter index>.<state name>" of torch's state_dict
    average: dict[str, Tensor]  # by parameter name; empty without one


def checkpoint_path(folder: Path, steps_done: int) -> Path:
    """File of the checkpoint after a number of steps."""
    return folder / f"checkpoint_{steps_done:07d}.safetensors"


def save_checkpoint(
    folder: Path,
    learner: Learner,
    config: Config,
    position: RunPosition,
    keep: int = 2,
) -> Path:
    """Writes a checkpoint, then removes all but the newest ``keep``; every process must call it.

    The file appears under its name only when it is complete and on disk, so a run killed at any
    moment leaves the checkpoints before it untouched.

    Raises:
        OSError: the folder is not writable or the disk is full; earlier checkpoints stay whole.
    """
    tensors = _gathered(learner)
    path = checkpoint_path(folder, position.steps_done)
    if not learner.processes.is_first:
        return path
    metadata = {
        "format": FORMAT,
        "config": config_to_json(config),
        "state": json.dumps(asdict(position)),
    }
    write_safetensors(path, tensors, metadata)
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint files of a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.match(path.name))


def remove_unfinished(folder: Path) -> None:
    """Removes what runs that were killed while they wrote a file have left of it."""
    for path in folder.glob(".*.safetensors.*"):
        path.unlink()


def load_checkpoint(path: Path, config: Config) -> TrainingState:
    """Reads a checkpoint of a run with the same configuration.

    Fields that say how the work is done (``FREE_FIELDS``) may differ.

    Raises:
        ValueError: a damaged file, no checkpoint of ours, or one of another configuration (with
            the first differing fields).
    """
    tensors, metadata = _read(path)
    theirs = _with_our_ways(config_from_json(metadata["config"]), config)
    differing = first_differences(config, theirs)
    if differing:
        raise ValueError(
            f"checkpoint {path} must be of the same configuration; ours != its: "
            f"{'; '.join(differing)}. Give another --out, or the configuration it was made with"
        )
    return TrainingState(
        position=_position(json.loads(metadata["state"]), config.training.batch_size),
        model=_with_prefix(tensors, "model."),
        optimizer=_with_prefix(tensors, "optimizer."),
        average=_with_prefix(tensors, "average."),
    )


def is_checkpoint(path: Path) -> bool:
    """Whether a safetensors file is a checkpoint, and not a model.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file.
    """
    return read_safetensors(path)[1].get("format") == FORMAT


def weights_of(path: Path) -> tuple[dict[str, Tensor], Config, RunPosition]:
    """What would be kept if a run ended at its checkpoint: the averaged weights, or the trained.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or no checkpoint of ours.
    """
    tensors, metadata = _read(path)
    config = config_from_json(metadata["config"])
    position = _position(json.loads(metadata["state"]), config.training.batch_size)
    weights = _with_prefix(tensors, "model.") | _with_prefix(tensors, "average.")
    return weights, config, position


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} must be a {FORMAT}; got format {metadata.get('format')!r}")
    return tensors, metadata


def restore(learner: Learner, state: TrainingState) -> None:
    """Puts saved state back, shared among the processes; rates stay as constructed."""
    load_shared(learner.model, state.model)
    if learner.average is not None:
        learner.average.load(state.average)
    optimizer = learner.optimizer
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    restored: dict[int, dict[str, Tensor]] = {}
    for key, value in state.optimizer.items():
        index, name = key.split(".", 1)
        own = as_shared(value, parameters[int(index)])
        restored.setdefault(int(index), {})[name] = own
    optimizer.load_state_dict({**optimizer.state_dict(), "state": restored})


@torch.no_grad()
def _gathered(learner: Learner) -> dict[str, Tensor]:
    """Everything to be saved, on the CPU; in the other processes than the first, nothing."""
    sections: dict[str, Mapping[str, Tensor]] = {"model": learner.model.state_dict()}
    for index, state in learner.optimizer.state_dict()["state"].items():
        sections[f"optimizer.{index}"] = state
    if learner.average is not None:
        sections["average"] = learner.average.tensors
    gathered = {}
    for section, tensors in sections.items():
        for name, tensor in tensors.items():
            of_all = whole(tensor)
            if learner.processes.is_first:
                gathered[f"{section}.{name}"] = of_all.cpu()
    return gathered


def _with_our_ways(theirs: Config, ours: Config) -> Config:
    ways = {name: getattr(ours.training, name) for name in FREE_FIELDS}
    # Together, as one field may contradict another's old value.
    return replace(theirs, training=replace(theirs.training, **ways))


def _position(state: Mapping[str, float], batch_size: int) -> RunPosition:
    """The saved position; the first checkpoints held the number of steps alone."""
    steps = int(state["steps_done"])
    return RunPosition(**{"steps_done": steps, "samples_seen": steps * batch_size, **state})


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
