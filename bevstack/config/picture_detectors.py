"""Configurations of all detectors for single pictures: by name, by path, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, cast

from bevstack.config.detection2d import DETECTION2D, Detection2DConfig
from bevstack.config.dino import DinoDetectorConfig
from bevstack.config.loading import defines, load_task_config, packaged_configs
from bevstack.config.serialization import first_differences, union_from_json, union_to_json

PictureDetectorConfig: TypeAlias = Detection2DConfig | DinoDetectorConfig
KINDS = (Detection2DConfig, DinoDetectorConfig)


def load_picture_detector(
    name_or_path: str | Path, overrides: Sequence[str] = ()
) -> PictureDetectorConfig:
    """Return a detector's configuration, packaged or from a file; see ``load_config``.

    Raises:
        FileNotFoundError: neither a packaged name nor a file; the message names the nearest name.
        ValueError: the file defines another kind of configuration, or an override does not fit.
    """
    config = load_task_config(KINDS, DETECTION2D, name_or_path, overrides)
    return cast(PictureDetectorConfig, config)


def find_picture_detector(
    name_or_path: str | Path, overrides: Sequence[str] = ()
) -> PictureDetectorConfig | None:
    """Return a detector's configuration; None for a name or file of another kind.

    Raises:
        ValueError: an override does not fit.
    """
    own = str(name_or_path) in packaged_configs(DETECTION2D)
    if own or any(defines(name_or_path, kind) for kind in KINDS):
        return load_picture_detector(name_or_path, overrides)
    return None


def picture_detector_to_json(config: PictureDetectorConfig) -> str:
    """Return the configuration as JSON, with its kind."""
    return json.dumps(union_to_json(PictureDetectorConfig, config), sort_keys=True)


def picture_detector_from_json(text: str) -> PictureDetectorConfig:
    """Return the configuration of a JSON text.

    Raises:
        ValueError: see ``config_from_json``.
    """
    return cast(PictureDetectorConfig, union_from_json(PictureDetectorConfig, text))


def picture_detector_differences(
    ours: PictureDetectorConfig, stored: str, free: Sequence[str]
) -> list[str]:
    """Return how a configuration differs from a stored one; see ``stored_differences``."""
    from dataclasses import replace

    theirs = picture_detector_from_json(stored)
    if type(ours) is not type(theirs):
        return [f"kind: {type(ours).__name__} != {type(theirs).__name__}"]
    values = {name: getattr(ours.training, name) for name in free}
    return first_differences(ours, replace(theirs, training=replace(theirs.training, **values)))
