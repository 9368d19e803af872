"""Files that the page about objects in pictures takes for granted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from bevstack.config.detection2d import Detection2DConfig, PictureConfig
from bevstack.config.picture_detectors import load_picture_detector
from bevstack.models.build_detection2d import save_detector2d
from bevstack.models.detection2d.build import build_picture_model


def write_detector(path: Path) -> None:
    """Write a small Mask R-CNN with random weights."""
    config = load_picture_detector("mask_rcnn_nano")
    assert isinstance(config, Detection2DConfig)
    config = replace(
        config,
        pictures=PictureConfig(long_side=160, short_side=96),
        roi=replace(config.roi, score_threshold=0.0),
    )
    torch.manual_seed(0)
    save_detector2d(path, build_picture_model(config).state_dict(), config)
