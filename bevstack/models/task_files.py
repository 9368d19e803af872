"""Weights files of a single task besides 3D boxes, and its model with given weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from bevstack.models.build import (
    CONFIG_KEY,
    FORMAT,
    FORMAT_KEY,
    TASKS_KEY,
    list_tasks,
    read_task_config,
)
from bevstack.models.fit import fitted_weights
from bevstack.models.skeleton import skeleton
from bevstack.models.weights import (
    BACKBONE,
    joint_name,
    read_weights_file,
    task_weights,
    write_safetensors,
)

Model = TypeVar("Model", bound=nn.Module)


def read_task_file(
    path: str | Path, task: str, *, verify: bool = True
) -> tuple[dict[str, Tensor], str]:
    """Return the weights of a task and its configuration as JSON, from a file that holds them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or does not hold the task.
    """
    file = read_weights_file(path, verify=verify)
    tasks = list_tasks(path, file.metadata)
    if task not in tasks:
        raise ValueError(f"weights must be of the task {task!r}; got {path} of {', '.join(tasks)}")
    text = read_task_config(path, file.metadata, task)
    return task_weights(file.tensors, task), text


def read_start(
    path: str | Path, task: str, build: Callable[[], nn.Module], *, seed: int, verify: bool = True
) -> dict[str, Tensor]:
    """Return the weights with which a training of a task starts.

    A file that holds the task gives all of them; another one gives those of the backbone, and the
    rest is that of a model which ``build`` makes with this seed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    file = read_weights_file(path, verify=verify)
    if task in file.metadata.get(TASKS_KEY, ""):
        return read_task_file(path, task, verify=verify)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh: dict[str, Tensor] = build().state_dict()
    shared = {n: v for n, v in file.tensors.items() if n.startswith(BACKBONE) and n in fresh}
    return {**fresh, **{name: v.to(fresh[name].dtype) for name, v in shared.items()}}


def write_task_file(
    path: str | Path,
    task: str,
    weights: Mapping[str, Tensor],
    *,
    config_json: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights of a task with its configuration, named as in a joint model.

    The file is written completely or not at all.

    Raises:
        OSError: the file cannot be written; an older one stays intact.
    """
    named = {joint_name(task, name): value for name, value in weights.items()}
    config = json.dumps({"tasks": {task: {"task": json.loads(config_json)}}})
    own = {FORMAT_KEY: FORMAT, CONFIG_KEY: config, TASKS_KEY: json.dumps([task])}
    write_safetensors(path, named, {**(metadata or {}), **own})


def task_model_with(
    task: str, build: Callable[[], Model], weights: Mapping[str, Tensor], device: torch.device
) -> Model:
    """Build a task's model with given weights, in evaluation mode.

    Draws no random numbers. Weights of half precision become float32.

    Raises:
        ValueError: the weights do not fit the model.
    """
    with skeleton():
        model = build()
    fitted = fitted_weights(f"the task {task!r} of the file", weights, model.state_dict())
    model.load_state_dict({k: v.to(device) for k, v in fitted.items()}, assign=True)
    return model.eval()
