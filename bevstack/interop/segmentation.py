"""Conversion of published models that label pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from bevstack.config.loading import packaged_configs
from bevstack.config.segmentation import SEGFORMER, SEGMENTATION, SegmentationConfig
from bevstack.config.segmenters import SegmenterConfig, load_segmenter
from bevstack.interop.detection2d import recognise
from bevstack.interop.public_weights import Report, convert_weights
from bevstack.interop.published_files import PublishedFile
from bevstack.interop.segmentation_names import MASK2FORMER_ROWS, SEGFORMER_ROWS, UPERNET_ROWS
from bevstack.models.segmentation.build import build_segmenter
from bevstack.models.skeleton import skeleton


@dataclass(frozen=True)
class ConvertedSegmenter:
    """Weights of a segmenter under our names, and the report of their conversion."""

    weights: dict[str, Tensor]
    report: Report


# Kinds of models, with their names of weights and the one that has a row for each output.
ROWS = MappingProxyType(
    {"UperNet": UPERNET_ROWS, "SegFormer": SEGFORMER_ROWS, "Mask2Former": MASK2FORMER_ROWS}
)
_OUTPUTS = ("decode_head.conv_seg.weight", "decode_head.cls_embed.weight")


def kind_of(config: SegmenterConfig) -> str:
    """Return the name of a configuration's kind of model."""
    if not isinstance(config, SegmentationConfig):
        return "Mask2Former"
    return "SegFormer" if config.head.kind == SEGFORMER else "UperNet"


def fitting_segmenters(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names of the packaged configurations that fit a published file."""
    found = recognise(tensors)
    configs = map(load_segmenter, packaged_configs(SEGMENTATION))
    return tuple(
        config.name
        for config in configs
        if kind_of(config) == found.kind
        and config.backbone.channels == found.channels
        and config.backbone.depths == found.depths
        and _outputs(tensors) in (None, _output_shape(config))
    )


def _outputs(tensors: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """Return the number of outputs and channels of a file's classifier; None without one."""
    shapes = [tuple(tensors[name].shape[:2]) for name in _OUTPUTS if name in tensors]
    return shapes[0] if shapes else None


def _output_shape(config: SegmenterConfig) -> tuple[int, int]:
    """Return the same of a configuration; Mask2Former has one output more, of no object."""
    empty = not isinstance(config, SegmentationConfig)
    return config.num_outputs + empty, config.head.channels


def describe(file: PublishedFile) -> str:
    """Return a sentence about what a published file of pictures holds, and what fits it."""
    fitting = fitting_segmenters(file.tensors)
    found = recognise(file.tensors)
    return found._replace(configs=found.configs or fitting).describe(file.name)


def convert_segmenter(file: PublishedFile, config: SegmenterConfig) -> ConvertedSegmenter:
    """Convert a published UperNet, Mask2Former, or a model with SegFormer's head.

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
        expected = build_segmenter(config).state_dict()
    weights, report = convert_weights(file.tensors, expected, ROWS[found.kind])
    return ConvertedSegmenter(weights, report)
