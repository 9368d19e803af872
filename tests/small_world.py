"""A small synthetic world, built once a run, and a configuration that trains within a test."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bevstack.config import (
    BEVEncoderConfig,
    BEVGrid,
    Config,
    DecoderConfig,
    FPNConfig,
    ImageConfig,
    InternImageConfig,
    TrainingConfig,
)
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.synthetic import WorldSpec, make_world
from bevstack.tasks.detection3d import Detection3D
from bevstack.training import TrainingResult, train

SPEC = WorldSpec(train_scenes=2, val_scenes=2, samples_per_scene=3)

CONFIG = Config(
    name="small",
    images=ImageConfig(size=(64, 160)),
    grid=BEVGrid(shape=(10, 12)),
    backbone=InternImageConfig(
        channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8), drop_path_rate=0.1
    ),
    fpn=FPNConfig(num_outputs=3, channels=32),
    encoder=BEVEncoderConfig(num_layers=1, num_heads=2, feedforward_channels=32),
    decoder=DecoderConfig(num_layers=2, num_heads=2, feedforward_channels=32, num_queries=20),
    training=TrainingConfig(
        num_steps=6,
        batch_size=2,
        learning_rate=1e-3,
        warmup_steps=2,
        checkpoint_every=2,
        num_workers=0,
    ),
)


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder that the workers of one run share."""
    base = factory.getbasetemp()
    return base if base.name.startswith("pytest-") else base.parent


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Return a folder that is built once a run: by the first worker, while the rest wait.

    The tests of a module are spread over workers. Without this, each worker would build the folder.
    """
    folder = run_folder(factory) / name
    finished = folder / "finished"
    with FileLock(folder.with_suffix(".lock")):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            finished.touch()
    return folder


def small_world(factory: pytest.TempPathFactory) -> Path:
    """Return the root of the world, which the workers of one run share."""
    folder = build_once(factory, "small_world", lambda folder: make_world(folder / "world", SPEC))
    return folder / "world"


def dataset(root: Path, split: str = "synth_train") -> NuScenesDataset:
    """Return the samples of a split of the small world."""
    return NuScenesDataset(root, SPEC.version, split=split)


def train_detector(
    config: Config,
    samples: NuScenesDataset,
    out: Path,
    *,
    held_out: NuScenesDataset | None = None,
    **options: Any,
) -> TrainingResult:
    """Train the task of 3D detection."""
    return train(Detection3D(config, samples, held_out=held_out), out, **options)


def with_training(**changes: object) -> Config:
    """Return the small configuration with changed training fields."""
    return dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, **changes))
