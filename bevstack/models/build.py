"""Building of models from configurations, and saving and loading of their weights.

The only module of ``bevstack.models`` that uses a whole ``Config``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bevstack.config import (
    Config,
    PerspectiveConfig,
    ResNetConfig,
    config_from_json,
    config_to_json,
    first_differences,
)
from bevstack.config.perspective import BOX
from bevstack.json_files import shorten
from bevstack.models.backbones.fpn import FPN
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.backbones.resnet import ResNet
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.decoder import Decoder
from bevstack.models.fit import fitted_weights
from bevstack.models.perspective.head import PerspectiveHead
from bevstack.models.perspective.proposals import find_proposals
from bevstack.models.skeleton import skeleton
from bevstack.models.temporal.fusion import TemporalFusion
from bevstack.models.temporal.history import History
from bevstack.models.weights import (
    WeightsFile,
    read_weights_file,
    task_weights,
    write_safetensors,
)

FORMAT = "bevstack-model-1"
# Metadata keys that this module writes to a weights file; the caller may add further ones.
FORMAT_KEY = "format"
CONFIG_KEY = "config"
TASKS_KEY = "tasks"  # JSON list of names; absent: 3D detection alone
DETECTION3D = "detection3d"


def build_model(config: Config, backbone: InternImage | ResNet | None = None) -> BEVFormerV2:
    """Build the detector of a configuration, with initial weights and in training mode.

    Draws from torch's global random state. Under ``torch.device("meta")`` nothing is allocated.

    Args:
        config: the configuration.
        backbone: a backbone to share, of the configuration's section; None builds one.
    """
    backbone = build_backbone(config) if backbone is None else backbone
    channels = config.fpn.channels
    perspective, proposals = config.perspective, config.proposals
    return BEVFormerV2(
        backbone,
        FPN(backbone.out_channels, num_outputs=config.fpn.num_outputs, channels=channels),
        encoder=BEVEncoder(
            config.grid, config.encoder, channels=channels, num_levels=config.bev_levels
        ),
        decoder=Decoder(
            config.grid,
            config.decoder,
            channels=channels,
            num_classes=len(config.class_names),
            num_proposals=0 if proposals is None else proposals.max_proposals,
            start_from_boxes=proposals is not None and proposals.start == BOX,
        ),
        perspective_head=None
        if perspective is None
        else PerspectiveHead(perspective, channels=channels),
        propose=None
        if perspective is None or proposals is None
        else partial(find_proposals, grid=config.grid, perspective=perspective, config=proposals),
        history=_build_history(config),
        pixels_per_pass=config.images.pixels_per_pass,
    )


def _build_history(config: Config) -> History | None:
    if config.temporal is None:
        return None
    fusion = TemporalFusion(config.temporal, channels=config.fpn.channels, frames=config.frames)
    return History(config.temporal, fusion, grid=config.grid, fingerprint=_fingerprint(config))


def _fingerprint(config: Config) -> int:
    """Return a 63-bit hash of the parts of the configuration that a memory's features depend on."""
    defaults = Config(name="memory")
    relevant = replace(
        config,
        name=defaults.name,
        training=defaults.training,
        augmentation=defaults.augmentation,
        loss=defaults.loss,
        traffic=None,
    )
    digest = hashlib.sha256(config_to_json(relevant).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def build_backbone(config: Config) -> InternImage | ResNet:
    """Build the backbone such that it returns the stages that the neck takes."""
    stages = config.fpn.in_stages
    if isinstance(config.backbone, ResNetConfig):
        return ResNet(replace(config.backbone, out_indices=stages))
    return InternImage(replace(config.backbone, out_indices=stages))


def save_model(
    path: str | Path,
    model: nn.Module,
    config: Config,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model's weights with its configuration, completely or not at all.

    Args:
        path: the file; its folder is created if needed.
        model: the result of ``build_model(config)``.
        config: the model's configuration.
        metadata: further metadata for the file, such as the training step.

    Raises:
        OSError: not writable, or the disk is full; an older file of that name stays intact.
        ValueError: ``metadata`` has a key that this module uses.
    """
    reserved = {FORMAT_KEY: FORMAT, CONFIG_KEY: config_to_json(config)}
    conflicts = reserved.keys() & (metadata or {}).keys()
    if conflicts:
        raise ValueError(
            f"metadata must not use the keys {sorted(reserved)}; got {sorted(conflicts)}"
        )
    write_safetensors(path, model.state_dict(), {**(metadata or {}), **reserved})


def build_with_weights(
    weights: Mapping[str, Tensor], config: Config, device: torch.device
) -> BEVFormerV2:
    """Build a separate model with given weights, in evaluation mode.

    Draws no random numbers, so that a training is not affected.
    """
    with skeleton():
        model = build_model(config)
    model.load_state_dict({name: w.to(device) for name, w in weights.items()}, assign=True)
    return model.eval()


def save_weights(
    path: str | Path,
    weights: Mapping[str, Tensor],
    config: Config,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights of a model as ``save_model`` writes the model.

    Raises:
        OSError: not writable, or the disk is full; an older file of that name stays intact.
        ValueError: ``metadata`` has a key that this module uses.
    """
    save_model(path, build_with_weights(weights, config, torch.device("cpu")), config, metadata)


def load_model(
    path: str | Path, *, expected: Config | None = None, verify: bool = True
) -> tuple[BEVFormerV2, Config]:
    """Load a model and its configuration from a weights file; no other file is needed.

    The model is on the CPU and in evaluation mode. Weights stored in half precision (float16,
    bfloat16), as the packaged ones are, become float32.

    Args:
        path: a file written by ``save_model``.
        expected: if given, the configuration that the file must have.
        verify: False skips the checksum of the file, but no other check.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged or pickled file, or a value that is not finite; a file without a
            configuration, or with another one than ``expected`` (the message names the first
            differing fields); or weights that do not fit the file's configuration.
    """
    return model_from_file(read_weights_file(path, verify=verify), expected=expected)


def model_from_file(
    file: WeightsFile, *, expected: Config | None = None
) -> tuple[BEVFormerV2, Config]:
    """Build the model of a weights file that has been read, as ``load_model`` does.

    Raises:
        ValueError: see ``load_model``.
    """
    path, tensors, metadata = file
    tasks = list_tasks(path, metadata)
    if DETECTION3D not in tasks:
        raise ValueError(
            f"weights must be of the task {DETECTION3D}; got {path} of {shorten(tasks)}"
        )
    config = _read_config(path, metadata)
    if len(tasks) > 1:
        tensors = task_weights(tensors, DETECTION3D)
    if expected is not None:
        _check_same_model(path, expected, config)
    with skeleton():  # draws and allocates nothing: the file's tensors become the weights
        model = build_model(config)
    wanted = model.state_dict()
    model.load_state_dict(fitted_weights(str(path), tensors, wanted), assign=True)
    return model.eval(), config


def list_tasks(path: str | Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tasks of a weights file, by its metadata.

    Raises:
        ValueError: the list cannot be read.
    """
    text = metadata.get(TASKS_KEY, json.dumps([DETECTION3D]))
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{TASKS_KEY} must be a JSON list of names; got {text[:60]!r} in {path}")
    if len(set(names)) < len(names):
        raise ValueError(f"{TASKS_KEY} must name each task once; got {text[:60]!r} in {path}")
    return tuple(names)


def read_task_config(path: str | Path, metadata: Mapping[str, str], task: str) -> str:
    """Return the configuration of one task of a weights file, as JSON.

    Raises:
        ValueError: the file has no such task, or its configuration cannot be read.
    """
    tasks = list_tasks(path, metadata)
    if len(tasks) == 1 and tasks[0] == task == DETECTION3D:
        return metadata[CONFIG_KEY]
    try:
        return json.dumps(json.loads(metadata[CONFIG_KEY])["tasks"][task]["task"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(f"{path} must hold the configuration of the task {task!r}") from None


def _read_config(path: Path, metadata: Mapping[str, str]) -> Config:
    if metadata.get(FORMAT_KEY) != FORMAT or CONFIG_KEY not in metadata:
        raise ValueError(
            f"weights must hold their configuration, as format {FORMAT!r}; got {path} with format "
            f"{shorten(metadata.get(FORMAT_KEY))}: write it with save_model"
        )
    try:
        return config_from_json(read_task_config(path, metadata, DETECTION3D))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds a configuration that cannot be read: {error}") from None


def _check_same_model(path: Path, expected: Config, config: Config) -> None:
    # Weights fit a model whatever its name, training, augmentation, loss, targets and traffic head.
    same_training = replace(
        config,
        name=expected.name,
        training=expected.training,
        augmentation=expected.augmentation,
        loss=expected.loss,
        traffic=expected.traffic,
        perspective=_with_targets(config.perspective, expected.perspective),
    )
    differing = first_differences(expected, same_training)
    if differing:
        raise ValueError(
            f"weights must be of the configuration given ({expected.name}); got {path} of "
            f"{config.name}, which differs (given != file's): {'; '.join(differing)}. Leave the "
            "configuration out to use the file's own"
        )


def _with_targets(
    own: PerspectiveConfig | None, expected: PerspectiveConfig | None
) -> PerspectiveConfig | None:
    """Return the section with the expected choice of boxes to train on.

    Sides that were learned with the other activation are a start for it: they differ by less than
    a stride.
    """
    if own is None or expected is None or own.small_images is None:
        return own
    wanted = expected.changes
    small_images = replace(
        own.small_images,
        choice=wanted.choice,
        min_visibility=wanted.min_visibility,
        sides_activation=wanted.sides_activation,
    )
    return replace(own, small_images=small_images)
