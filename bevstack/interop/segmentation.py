"""Conversion of published models that label pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from bevstack.config.loading import load_task_config, packaged_configs
from bevstack.config.segmentation import SEGFORMER, SEGMENTATION, SegmentationConfig
from bevstack.interop.detection2d import recognise
from bevstack.interop.public_weights import Report, convert_weights
from bevstack.interop.published_files import PublishedFile
from bevstack.interop.segmentation_names import SEGFORMER_ROWS, UPERNET_ROWS
from bevstack.models.segmentation.model import Segmenter
from bevstack.models.skeleton import skeleton


@dataclass(frozen=True)
class ConvertedSegmenter:
    """Weights of a segmenter under our names, and the report of their conversion."""

    weights: dict[str, Tensor]
    report: Report


def kind_of(config: SegmentationConfig) -> str:
    """Return the name of a configuration's kind of model."""
    return "SegFormer" if config.head.kind == SEGFORMER else "UperNet"


def fitting_segmenters(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names of the packaged configurations that fit a published file."""
    found = recognise(tensors)
    configs = (
        load_task_config(SegmentationConfig, SEGMENTATION, name)
        for name in packaged_configs(SEGMENTATION)
    )
    return tuple(
        config.name
        for config in configs
        if kind_of(config) == found.kind
        and config.backbone.channels == found.channels
        and config.backbone.depths == found.depths
    )


def describe(file: PublishedFile) -> str:
    """Return a sentence about what a published file of pictures holds, and what fits it."""
    fitting = fitting_segmenters(file.tensors)
    found = recognise(file.tensors)
    return found._replace(configs=found.configs or fitting).describe(file.name)


def convert_segmenter(file: PublishedFile, config: SegmentationConfig) -> ConvertedSegmenter:
    """Convert a published UperNet, or a model with SegFormer's head.

    Raises:
        ValueError: the file holds another model, a name has no counterpart, or a tensor has
            another shape.
    """
    found = recognise(file.tensors)
    if found.kind != kind_of(config):
        raise ValueError(
            f"weights must be of {kind_of(config)} for {config.name}; got {file.name}, which "
            f"holds {found.kind or 'no model that is known'}"
        )
    with skeleton():
        expected = Segmenter(config).state_dict()
    rows = SEGFORMER_ROWS if config.head.kind == SEGFORMER else UPERNET_ROWS
    weights, report = convert_weights(file.tensors, expected, rows)
    return ConvertedSegmenter(weights, report)
