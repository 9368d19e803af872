"""Names of the parameters of published segmenters, and of ours."""

from __future__ import annotations

from bevstack.interop.detection2d_names import BACKBONE_ROWS
from bevstack.interop.public_weights import Rename


def _layer_rows(published: str, ours: str) -> tuple[Rename, ...]:
    """Return rows of a convolution and its norm."""
    return (
        Rename(published + ".conv.{p}", ours + ".conv.{p}"),
        Rename(published + ".bn.{p}", ours + ".norm.{p}"),
    )


_HEAD, _AUXILIARY = "decode_head.", "auxiliary_head."
_SHARED_ROWS = (
    *BACKBONE_ROWS,
    Rename(_HEAD + "conv_seg.{p}", "head.classifier.logits.{p}"),
)
UPERNET_ROWS = (
    *_SHARED_ROWS,
    *_layer_rows(_HEAD + "psp_modules.{i}.1", "head.pooled.{i}"),
    *_layer_rows(_HEAD + "bottleneck", "head.bottleneck"),
    *_layer_rows(_HEAD + "lateral_convs.{i}", "head.laterals.{i}"),
    *_layer_rows(_HEAD + "fpn_convs.{i}", "head.outputs.{i}"),
    *_layer_rows(_HEAD + "fpn_bottleneck", "head.fusion"),
    *_layer_rows(_AUXILIARY + "convs.0", "auxiliary.conv"),
    Rename(_AUXILIARY + "conv_seg.{p}", "auxiliary.classifier.logits.{p}"),
)
SEGFORMER_ROWS = (
    *_SHARED_ROWS,
    *_layer_rows(_HEAD + "convs.{i}", "head.laterals.{i}"),
    *_layer_rows(_HEAD + "fusion_conv", "head.fusion"),
)
