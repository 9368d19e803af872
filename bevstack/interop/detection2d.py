"""Conversion of published 2D detectors, and recognition of what a published file holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.config import packaged_configs
from bevstack.config.detection2d import DETECTION2D, Detection2DConfig
from bevstack.config.picture_detectors import PictureDetectorConfig, load_picture_detector
from bevstack.interop.conversion import Allowed
from bevstack.interop.detection2d_names import AVERAGES, DINO_ROWS, REGION_ROWS, join_pieces
from bevstack.interop.public_weights import Report, convert_weights
from bevstack.interop.published_files import PublishedFile
from bevstack.models.detection2d.build import build_picture_model
from bevstack.models.skeleton import skeleton

# Kinds of models by the start of a name that no other kind has, the first that fits.
_KINDS = (
    ("roi_head.bbox_head.0.", "Cascade Mask R-CNN"),
    ("roi_head.", "Mask R-CNN"),
    ("pts_bbox_head.", "BEVFormer"),
    ("backbone.cb_modules.", "DINO with two backbones"),
    ("bbox_head.transformer.", "DINO"),
    ("decode_head.pixel_decoder.", "Mask2Former"),
    ("decode_head.psp_modules.", "UperNet"),
    ("decode_head.fusion_conv.", "SegFormer"),
)
_STEM = re.compile(r"(?:^|\.)patch_embed\.conv2\.weight$")
_BLOCK = re.compile(r"(?:^|\.)levels\.(\d+)\.blocks\.(\d+)\.")


class Recognised(NamedTuple):
    """Content of a published file, by its names and shapes."""

    kind: str  # such as "Mask R-CNN"; "" if it is unknown
    channels: int | None  # of the first stage of InternImage; None: another backbone
    depths: tuple[int, ...]  # layers of its stages
    configs: tuple[str, ...]  # packaged configurations that fit

    def describe(self, name: str) -> str:
        """Return a sentence about the file."""
        kind = self.kind or "no model that is known"
        backbone = f" on InternImage of {self.channels} channels" if self.channels else ""
        if not self.configs:
            return f"{name} holds {kind}{backbone}; no packaged configuration of pictures fits"
        return f"{name} holds {kind}{backbone}, which fits {' and '.join(self.configs)}"


@dataclass(frozen=True)
class ConvertedDetector2D:
    """Weights of a 2D detector under our names, and the report of their conversion."""

    weights: dict[str, Tensor]
    config: PictureDetectorConfig
    report: Report
    notes: tuple[str, ...]


def recognise(tensors: Mapping[str, Tensor]) -> Recognised:
    """Return what a published file holds."""
    kind = next(
        (text for start, text in _KINDS if any(name.startswith(start) for name in tensors)), ""
    )
    stems = [tensor for name, tensor in tensors.items() if _STEM.search(name)]
    channels = int(stems[0].shape[0]) if stems else None
    blocks: dict[int, int] = {}
    for match in filter(None, map(_BLOCK.search, tensors)):
        stage = int(match[1])
        blocks[stage] = max(blocks.get(stage, 0), int(match[2]) + 1)
    depths = tuple(blocks[stage] for stage in sorted(blocks))
    fitting = tuple(
        config.name
        for config in _packaged()
        if _kind_of(config) == kind
        and config.backbone.channels == channels
        and config.backbone.depths == depths
    )
    return Recognised(kind, channels, depths, fitting)


def _packaged() -> Iterator[PictureDetectorConfig]:
    for name in packaged_configs(DETECTION2D):
        yield load_picture_detector(name)


def _kind_of(config: PictureDetectorConfig) -> str:
    if not isinstance(config, Detection2DConfig):
        return "DINO with two backbones" if config.composite else "DINO"
    return "Mask R-CNN" if len(config.roi.stds) == 1 else "Cascade Mask R-CNN"


def convert_detector2d(
    file: PublishedFile, config: PictureDetectorConfig, *, allowed: Allowed | None = None
) -> ConvertedDetector2D:
    """Convert a published Mask R-CNN, Cascade Mask R-CNN or DINO.

    Raises:
        ValueError: the file holds another model, a name without a counterpart is not allowed, or a
            tensor has another shape.
    """
    found = recognise(file.tensors)
    if found.kind != _kind_of(config):
        raise ValueError(
            f"weights must be of a {_kind_of(config)} for {config.name}; got: "
            f"{found.describe(file.name)}"
        )
    allowed = allowed or Allowed()
    averages = any(name.startswith("ema_") for name in file.tensors)
    with skeleton():
        expected = build_picture_model(config).state_dict()
    weights, report = convert_weights(
        join_pieces(file.tensors),
        expected,
        REGION_ROWS if isinstance(config, Detection2DConfig) else DINO_ROWS,
        allow_missing=[f"{prefix}*" for prefix in allowed.missing],
        allow_left_over=[*AVERAGES, *(f"{prefix}*" for prefix in allowed.left_over)],
    )
    if report.missing:  # allowed: they start from the seed of the recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.training.seed)
            fresh = build_picture_model(config).state_dict()
        weights |= {name: fresh[name] for name in report.missing}
    note = "moving averages: the plain names hold them, and the names ema_* were left out"
    return ConvertedDetector2D(weights, config, report, (note,) if averages else ())
