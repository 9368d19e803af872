"""Checkpoints: one safetensors file each, written completely or not at all.

A file holds the model, the optimiser's state, the average of the weights and, as JSON in its
metadata, the configuration and the position of the run. Nothing else is needed to resume: every
random draw of a sample comes from (seed, epoch, sample), every other one of a step from (seed,
step, pass, process). Sharded state is gathered first, so a run may resume with another number of
processes. Each process reads the file, so all must have access to its folder.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from bevstack.json_files import (
    expect_integer,
    expect_number,
    expect_object,
    parse_json,
    shorten,
)
from bevstack.models.weights import (
    DamagedWeightsError,
    read_safetensors,
    read_weights_file,
    write_safetensors,
)
from bevstack.tasks.task import Task
from bevstack.training.optimizer_step import OptimizerStep
from bevstack.training.parallel import full_tensor, load_full_state_dict, shard_like

FORMAT = "bevstack-checkpoint-1"
_NAME = re.compile(r"^checkpoint_(\d{7})\.safetensors$")
# Fields of the training section that do not affect the trained weights: a resumed run may change
# them.
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
    """Position of a run, over all processes."""

    steps_done: int = 0
    samples_seen: int = 0
    epoch: int = 0  # of the next sample, from 0
    skipped: int = 0  # samples and steps
    elapsed_s: float = 0.0  # time in steps, without restarts


@dataclass(frozen=True)
class TrainingState:
    """State from which a run resumes; tensors are not sharded."""

    position: RunPosition
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # "<parameter index>.<state name>" of torch's state_dict
    average: dict[str, Tensor]  # by parameter name; empty without an average


def checkpoint_path(folder: Path, steps_done: int) -> Path:
    """Return the path of the checkpoint after a number of steps."""
    return folder / f"checkpoint_{steps_done:07d}.safetensors"


def save_checkpoint(
    folder: Path,
    optimizer_step: OptimizerStep,
    task: Task,
    position: RunPosition,
    keep: int = 2,
) -> Path:
    """Write a checkpoint and remove all but the newest ``keep``; every process must call it.

    Checkpoints of later steps are removed too: the run has resumed from an earlier one, because
    they were damaged. The file gets its name only when it is complete and on disk, so a run that
    is killed at any moment leaves earlier checkpoints intact.

    Raises:
        OSError: the folder is not writable or the disk is full. Earlier checkpoints stay intact.
    """
    tensors = _gathered(optimizer_step)
    path = checkpoint_path(folder, position.steps_done)
    if not optimizer_step.processes.is_first:
        return path
    metadata = {
        "format": FORMAT,
        "config": task.to_json(),
        "state": json.dumps(asdict(position)),
    }
    write_safetensors(path, tensors, metadata)
    kept = [file for file in list_checkpoints(folder) if file.name <= path.name][-keep:]
    for file in list_checkpoints(folder):
        if file not in kept:
            file.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoint files of a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.match(path.name))


def load_newest(folder: Path, task: Task, *, verify: bool = True) -> TrainingState:
    """Read the newest checkpoint of a folder that is whole; a note names each damaged one.

    Raises:
        ValueError: no checkpoint is whole (the message names the newest), or one has another
            configuration.
    """
    damaged: list[DamagedWeightsError] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            state = load_checkpoint(path, task, verify=verify)
        except DamagedWeightsError as error:
            damaged.append(error)
            continue
        for fault in damaged:
            warnings.warn(
                f"resuming from the older {path.name}, after {state.position.steps_done} steps, as "
                f"a newer checkpoint is damaged: {fault}",
                stacklevel=2,
            )
        return state
    raise damaged[0]


def load_checkpoint(path: Path, task: Task, *, verify: bool = True) -> TrainingState:
    """Read a checkpoint of a run with the same configuration; ``FREE_FIELDS`` may differ.

    Args:
        path: the file.
        task: the task with the present configuration.
        verify: False skips the checksum of the file, but no other check.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedWeightsError: the file is damaged, or a value is not finite.
        ValueError: the file is not a checkpoint of bevstack, or has another configuration (the
            message names the first differing fields).
    """
    tensors, metadata = _read(path, verify)
    differing = task.differences(metadata["config"], FREE_FIELDS)
    if differing:
        raise ValueError(
            f"checkpoint {path} must be of the same configuration; got (given != stored) "
            f"{'; '.join(differing)}: give another --out, or the stored configuration"
        )
    return TrainingState(
        position=_position(path, metadata, task.recipe.batch_size),
        model=_with_prefix(tensors, "model."),
        optimizer=_with_prefix(tensors, "optimizer."),
        average=_with_prefix(tensors, "average."),
    )


def is_checkpoint(path: Path) -> bool:
    """Return True if a safetensors file is a checkpoint, not a model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    return read_safetensors(path)[1].get("format") == FORMAT


def read_weights(path: Path) -> tuple[dict[str, Tensor], str, RunPosition]:
    """Read the weights that a run would keep if it ended at a checkpoint: averaged if it averages.

    Returns:
        Weights, the task's ``to_json``, and the position of the run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or is not a checkpoint of bevstack.
    """
    tensors, metadata = _read(path)
    where = f"configuration of {path}"
    config = expect_object(where, parse_json(metadata["config"], where, allow_nan=True))
    recipe = expect_object(f"training in the {where}", config.get("training"))
    size = expect_integer(f"training.batch_size in the {where}", recipe.get("batch_size"), low=1)
    position = _position(path, metadata, size)
    weights = _with_prefix(tensors, "model.") | _with_prefix(tensors, "average.")
    return weights, metadata["config"], position


def _read(path: Path, verify: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    _, tensors, metadata = read_weights_file(path, verify=verify)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} must be a {FORMAT}; got format {metadata.get('format')!r}")
    missing = {"config", "state"} - metadata.keys()
    if missing:
        raise DamagedWeightsError(f"{path} must hold its {' and '.join(sorted(missing))}; got none")
    return tensors, metadata


def restore(optimizer_step: OptimizerStep, state: TrainingState) -> None:
    """Load saved state, sharded as in ``optimizer_step``; learning rates stay as constructed.

    Raises:
        DamagedWeightsError: a value of the optimizer belongs to no parameter, or has another shape.
    """
    load_full_state_dict(optimizer_step.model, state.model)
    if optimizer_step.average is not None:
        optimizer_step.average.load(state.average)
    optimizer = optimizer_step.optimizer
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    restored: dict[int, dict[str, Tensor]] = {}
    for key, value in state.optimizer.items():
        index, _, name = key.partition(".")
        if not (name and index.isdecimal() and int(index) < len(parameters)):
            raise DamagedWeightsError(
                "optimizer values of a checkpoint must be named by the number of one of "
                f"{len(parameters)} parameters; got {shorten(key)}: use an earlier checkpoint"
            )
        parameter = parameters[int(index)]
        if value.dim() and value.shape != parameter.shape:
            raise DamagedWeightsError(
                f"optimizer value {shorten(key)} of a checkpoint must have the shape "
                f"{tuple(parameter.shape)} of its parameter; got {tuple(value.shape)}: use an "
                "earlier checkpoint"
            )
        restored.setdefault(int(index), {})[name] = shard_like(value, parameter)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": restored})


@torch.no_grad()
def _gathered(optimizer_step: OptimizerStep) -> dict[str, Tensor]:
    """Gather all state to save, on the CPU; processes after the first get an empty mapping."""
    sections: dict[str, Mapping[str, Tensor]] = {"model": optimizer_step.model.state_dict()}
    for index, state in optimizer_step.optimizer.state_dict()["state"].items():
        sections[f"optimizer.{index}"] = state
    if optimizer_step.average is not None:
        sections["average"] = optimizer_step.average.tensors
    gathered = {}
    for section, tensors in sections.items():
        for name, tensor in tensors.items():
            full = full_tensor(tensor)
            if optimizer_step.processes.is_first:
                gathered[f"{section}.{name}"] = full.cpu()
    return gathered


def _position(path: Path, metadata: Mapping[str, str], batch_size: int) -> RunPosition:
    """Restore the saved position; the first checkpoints stored only the number of steps."""
    where = f"position in {path}"
    try:
        state = expect_object(where, parse_json(metadata["state"], where))
        steps = expect_integer("steps_done", state.get("steps_done"), low=0)
        values = {"steps_done": steps, "samples_seen": steps * batch_size, **state}
        for name, value in values.items():
            if name == "elapsed_s":
                expect_number(name, value)
            else:
                expect_integer(name, value, low=0)
        return RunPosition(**values)
    except (ValueError, TypeError):
        raise DamagedWeightsError(
            f"{path} must hold the position of its run; got {metadata['state'][:60]!r}"
        ) from None


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
