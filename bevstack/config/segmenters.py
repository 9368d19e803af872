"""Configurations of all models that label pixels: by name, by path, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, cast

from bevstack.config.loading import defines, load_task_config, packaged_configs
from bevstack.config.mask_segmentation import MaskSegmentationConfig
from bevstack.config.segmentation import SEGMENTATION, SegmentationConfig
from bevstack.config.serialization import first_differences, union_from_json, union_to_json

# The first is that of a file without a kind.
SegmenterConfig: TypeAlias = SegmentationConfig | MaskSegmentationConfig
KINDS = (SegmentationConfig, MaskSegmentationConfig)


def load_segmenter(name_or_path: str | Path, overrides: Sequence[str] = ()) -> SegmenterConfig:
    """Return a segmenter's configuration, packaged or from a file; see ``load_config``.

    Raises:
        FileNotFoundError: neither a packaged name nor a file; the message names the nearest name.
        ValueError: the file defines another kind of configuration, or an override does not fit.
    """
    return cast(SegmenterConfig, load_task_config(KINDS, SEGMENTATION, name_or_path, overrides))


def find_segmenter(
    name_or_path: str | Path, overrides: Sequence[str] = ()
) -> SegmenterConfig | None:
    """Return a segmenter's configuration; None for a name or file of another kind.

    Raises:
        ValueError: an override does not fit.
    """
    own = str(name_or_path) in packaged_configs(SEGMENTATION)
    if own or any(defines(name_or_path, kind) for kind in KINDS):
        return load_segmenter(name_or_path, overrides)
    return None


def segmenter_to_json(config: SegmenterConfig) -> str:
    """Return the configuration as JSON, with its kind."""
    return json.dumps(union_to_json(SegmenterConfig, config), sort_keys=True)


def segmenter_from_json(text: str) -> SegmenterConfig:
    """Return the configuration of a JSON text.

    Raises:
        ValueError: see ``config_from_json``.
    """
    return cast(SegmenterConfig, union_from_json(SegmenterConfig, text))


def segmenter_differences(ours: SegmenterConfig, stored: str, free: Sequence[str]) -> list[str]:
    """Return how a configuration differs from a stored one; see ``stored_differences``."""
    theirs = segmenter_from_json(stored)
    if type(ours) is not type(theirs):
        return [f"kind: {type(ours).__name__} != {type(theirs).__name__}"]
    values = {name: getattr(ours.training, name) for name in free}
    return first_differences(ours, replace(theirs, training=replace(theirs.training, **values)))
