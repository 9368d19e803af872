"""A small synthetic world and a configuration small enough to train in a test, made once a run."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

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


def folder_of_the_run(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder that the workers of one run share."""
    base = factory.getbasetemp()
    return base if base.name.startswith("pytest-") else base.parent


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first worker to ask fills and the others wait for: for what takes long.

    Tests of a module are spread over workers, each of which would else make it.
    """
    folder = folder_of_the_run(factory) / name
    finished = folder / "finished"
    with FileLock(folder.with_suffix(".lock")):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


def small_world(factory: pytest.TempPathFactory) -> Path:
    """Root of the world; the workers of one run share it."""
    root = folder_of_the_run(factory) / "small_world"
    with contextlib.suppress(OSError):  # another worker was quicker: its world is the same
        make_world(root, SPEC)
    make_world(root, SPEC)
    return root


def dataset(root: Path, split: str = "synth_train") -> NuScenesDataset:
    """The samples of a split of the small world."""
    return NuScenesDataset(root, SPEC.version, split=split)


def with_training(**changes: object) -> Config:
    """The small configuration with another recipe."""
    return dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, **changes))
