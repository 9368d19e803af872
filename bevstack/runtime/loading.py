"""Loading of what a weights file offers: its detector, and predictors of its further tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.config.detection2d import DETECTION2D
from bevstack.config.segmentation import SEGMENTATION
from bevstack.json_files import shorten
from bevstack.models.build import DETECTION3D, list_tasks, model_from_file, read_task_config
from bevstack.models.weights import WeightsFile, read_weights_file, task_weights
from bevstack.runtime.detector import Detector
from bevstack.runtime.picture_detector import PictureDetector
from bevstack.runtime.pixel_labeller import PixelLabeller
from bevstack.runtime.precision import FLOAT32, choose_precision
from bevstack.runtime.shipped import weights_path
from bevstack.runtime.traffic_predictor import TrafficPredictor
from bevstack.uncertainty.calibration import read_box_calibration
from bevstack.uncertainty.sectors import read_sector_model

# Makes a predictor of weights, of the task's configuration as JSON, and for a device.
PredictorLoader = Callable[[Mapping[str, Tensor], str, torch.device], object]

# Tasks of the package besides 3D detection. A user's own tasks are given to ``load``.
PREDICTORS: Mapping[str, PredictorLoader] = MappingProxyType(
    {
        "traffic": TrafficPredictor.load,
        DETECTION2D: PictureDetector.load,
        SEGMENTATION: PixelLabeller.load,
    }
)


def load(
    weights: str | Path,
    device: str | torch.device = "cpu",
    *,
    expected: Config | None = None,
    predictors: Mapping[str, PredictorLoader] | None = None,
    verify: bool = True,
    calibrated: bool = True,
    precision: str = FLOAT32,
) -> Detector:
    """Load a detector from a weights file, which holds its configuration.

    Args:
        weights: a safetensors file, as training writes it; or the name of packaged weights, such
            as "tiny_cpu_t4".
        device: the device of the model.
        expected: refuse weights of another configuration.
        predictors: loaders of further tasks, by name, besides those of the package.
        verify: False skips the checksum of the file, but no other check.
        calibrated: False leaves out the calibrations beside the file.
        precision: of the arithmetic of 3D detection: "float32", "bfloat16", "auto", and on a GPU
            "tf32" and "float16". Further tasks compute in float32.

    Returns:
        The detector. Its ``further`` holds the predictor of every further task of the file that
        has a loader. Its boxes have an uncertainty if the file of calibrations beside the weights
        holds one of boxes, and its streams trust in sectors if it holds one of sectors
        (docs/uncertainty.md).

    Raises:
        FileNotFoundError: there is no such file or name. The message lists the names.
        ValueError: the file is damaged or pickled, it has no task of 3D detection
            (``load_tasks`` loads any), a value is not finite, the weights do not fit their
            configuration, or the configuration is not the expected one (names the first differing
            fields); the calibration beside the file is malformed or of other weights; or the device
            does not compute in the precision.
    """
    precision = choose_precision(precision, device)
    file = read_weights_file(weights_path(weights), verify=verify)
    model, config = model_from_file(file, expected=expected)
    further = _load_further(file, torch.device(device), predictors)
    return Detector(
        model.to(device),
        config,
        further=further,
        calibration=read_box_calibration(file.path, config.class_names) if calibrated else None,
        sector_model=read_sector_model(file.path) if calibrated else None,
        precision=precision,
    )


def load_any(
    weights: str | Path,
    device: str | torch.device = "cpu",
    *,
    expected: Config | None = None,
    predictors: Mapping[str, PredictorLoader] | None = None,
    verify: bool = True,
    calibrated: bool = True,
    precision: str = FLOAT32,
) -> Any:
    """Load what a weights file holds: a detector of 3D boxes, or the predictor of its only task.

    The arguments are those of ``load``. The last and ``expected`` and ``calibrated`` are of
    detectors of 3D boxes alone.

    Returns:
        A ``Detector`` for a file with 3D boxes (see ``load``). For a file of objects in pictures a
        ``PictureDetector``, whose ``detect`` takes arrays of any size; for one of labels of pixels
        a ``PixelLabeller``, whose ``segment`` does.

    Raises:
        FileNotFoundError: there is no such file or name. The message lists the names.
        ValueError: see ``load``; or the file has several tasks but no 3D boxes.
    """
    choose_precision(precision, device)  # refused before a large file is read
    file = read_weights_file(weights_path(weights), verify=verify)
    names = list_tasks(file.path, file.metadata)
    loaders = {**PREDICTORS, **(predictors or {})}
    options = expected is None and precision == FLOAT32
    if DETECTION3D in names or len(names) > 1 or names[0] not in loaders or not options:
        return load(
            weights,
            device,
            expected=expected,
            predictors=predictors,
            verify=verify,
            calibrated=calibrated,
            precision=precision,
        )
    (only,) = _load_further(file, torch.device(device), predictors).values()
    return only


def load_tasks(
    weights: str | Path,
    device: str | torch.device = "cpu",
    *,
    predictors: Mapping[str, PredictorLoader] | None = None,
    verify: bool = True,
) -> dict[str, object]:
    """Load the predictors of all tasks of a weights file that have a loader, by task.

    The arguments are those of ``load``.

    Raises:
        FileNotFoundError: there is no such file or name. The message lists the names.
        ValueError: the file is damaged or pickled, or none of its tasks has a loader.
    """
    file = read_weights_file(weights_path(weights), verify=verify)
    names = list_tasks(file.path, file.metadata)
    found: dict[str, object] = {}
    if DETECTION3D in names:
        model, config = model_from_file(file)
        found[DETECTION3D] = Detector(
            model.to(device),
            config,
            calibration=read_box_calibration(file.path, config.class_names),
            sector_model=read_sector_model(file.path),
        )
    found |= _load_further(file, torch.device(device), predictors)
    if not found:
        raise ValueError(
            f"predictors must hold a loader of one of the tasks {shorten(names)} of {file.path}; "
            f"got {sorted(predictors or ())}"
        )
    return found


def _load_further(
    file: WeightsFile, device: torch.device, predictors: Mapping[str, PredictorLoader] | None
) -> dict[str, object]:
    loaders = {**PREDICTORS, **(predictors or {})}
    path, tensors, metadata = file
    names = list_tasks(path, metadata)
    wanted = [name for name in names if name != DETECTION3D and name in loaders]
    return {
        name: loaders[name](
            task_weights(tensors, name), read_task_config(path, metadata, name), device
        )
        for name in wanted
    }
