"""Loading of what a weights file offers: its detector, and predictors of its further tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.models.build import DETECTION3D, list_tasks, read_task_config
from bevstack.models.weights import read_safetensors, task_weights
from bevstack.runtime.detector import Detector, load_detector
from bevstack.runtime.shipped import weights_path

# Makes a predictor of weights, of the task's configuration as JSON, and for a device.
PredictorLoader = Callable[[Mapping[str, Tensor], str, torch.device], object]

# Tasks of the package besides 3D detection. A user's own tasks are given to ``load``.
PREDICTORS: Mapping[str, PredictorLoader] = {}


def load(
    weights: str | Path,
    device: str | torch.device = "cpu",
    *,
    expected: Config | None = None,
    predictors: Mapping[str, PredictorLoader] | None = None,
) -> Detector:
    """Load a detector from a weights file, which holds its configuration.

    Args:
        weights: a safetensors file, as training writes it; or the name of packaged weights, such
            as "tiny_cpu_t4".
        device: the device of the model.
        expected: refuse weights of another configuration.
        predictors: loaders of further tasks, by name, besides those of the package.

    Returns:
        The detector. Its ``further`` holds the predictor of every further task of the file that
        has a loader.

    Raises:
        FileNotFoundError: there is no such file or name. The message lists the names.
        ValueError: the file is corrupt or pickled, it has no task of 3D detection
            (``load_tasks`` loads any), the weights do not fit their configuration, or the
            configuration is not the expected one (names the first differing fields).
    """
    detector = load_detector(weights, device, expected=expected)
    detector.further = _load_further(weights_path(weights), torch.device(device), predictors)
    return detector


def load_tasks(
    weights: str | Path,
    device: str | torch.device = "cpu",
    *,
    predictors: Mapping[str, PredictorLoader] | None = None,
) -> dict[str, object]:
    """Load the predictors of all tasks of a weights file that have a loader, by task.

    Raises:
        FileNotFoundError: there is no such file or name. The message lists the names.
        ValueError: the file is corrupt or pickled, or none of its tasks has a loader.
    """
    path = weights_path(weights)
    names = list_tasks(path, read_safetensors(path)[1])
    found: dict[str, object] = {}
    if DETECTION3D in names:
        found[DETECTION3D] = load_detector(weights, device)
    found |= _load_further(path, torch.device(device), predictors)
    if not found:
        raise ValueError(
            f"predictors must hold a loader of one of the tasks {names} of {path}; got "
            f"{sorted(predictors or ())}"
        )
    return found


def _load_further(
    path: Path, device: torch.device, predictors: Mapping[str, PredictorLoader] | None
) -> dict[str, object]:
    loaders = {**PREDICTORS, **(predictors or {})}
    tensors, metadata = read_safetensors(path)
    names = list_tasks(path, metadata)
    wanted = [name for name in names if name != DETECTION3D and name in loaders]
    return {
        name: loaders[name](
            task_weights(tensors, name), read_task_config(path, metadata, name), device
        )
        for name in wanted
    }
