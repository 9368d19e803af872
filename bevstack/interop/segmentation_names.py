"""Names of the parameters of published segmenters, and of ours."""

from __future__ import annotations

from bevstack.interop.detection2d_names import ATTENTION_NAMES, BACKBONE_ROWS
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
_PARTS = ("weight", "bias")
_PIXELS, _DECODER = _HEAD + "pixel_decoder.", _HEAD + "transformer_decoder."
_ENCODER_LAYER, _OUR_ENCODER = _PIXELS + "encoder.layers.{i}.", "pixel_decoder.encoder.{i}."
_SAMPLING = _ENCODER_LAYER + "attentions.0."
_DECODER_LAYER, _OUR_DECODER = _DECODER + "layers.{i}.", "decoder.layers.{i}."


def _norm_rows(published: str, ours: str) -> tuple[Rename, ...]:
    """Return rows of a convolution and its group norm."""
    return (
        Rename(published + ".conv.{p}", ours + ".conv.{p}"),
        Rename(published + ".gn.{p}", ours + ".norm.{p}"),
    )


def _attention_rows(place: int, ours: str) -> tuple[Rename, ...]:
    """Return rows of an attention of the decoder, which is the first or the second of its layer."""
    published = f"{_DECODER_LAYER}attentions.{place}.attn."
    return (
        *(Rename(f"{published}in_proj_{p}", f"{_OUR_DECODER}{ours}.in_proj.{p}") for p in _PARTS),
        Rename(published + "out_proj.{p}", f"{_OUR_DECODER}{ours}.out_proj.{{p}}"),
    )


def _feedforward_rows(published: str, ours: str) -> tuple[Rename, ...]:
    """Return rows of the linear maps and the norms of a layer."""
    return (
        Rename(published + "ffns.0.layers.0.0.{p}", ours + "feedforward.linear1.{p}"),
        Rename(published + "ffns.0.layers.1.{p}", ours + "feedforward.linear2.{p}"),
        Rename(published + "norms.{j}.{p}", ours + "norms.{j}.{p}"),
    )


MASK2FORMER_ROWS = (
    *BACKBONE_ROWS,
    *_norm_rows(_PIXELS + "input_convs.{i}", "pixel_decoder.inputs.{i}"),
    *_norm_rows(_PIXELS + "lateral_convs.0", "pixel_decoder.lateral"),
    *_norm_rows(_PIXELS + "output_convs.0", "pixel_decoder.output"),
    Rename(_PIXELS + "level_encoding.weight", "pixel_decoder.level_embeds"),
    Rename(_PIXELS + "mask_feature.{p}", "pixel_decoder.mask_features.{p}"),
    *(
        Rename(
            _ENCODER_LAYER + f"attentions.0.{name}." + "{p}",
            f"{_OUR_ENCODER}attention.{name}." + "{p}",
        )
        for name in ATTENTION_NAMES
    ),
    *_feedforward_rows(_ENCODER_LAYER, _OUR_ENCODER),
    *_attention_rows(0, "cross_attention"),
    *_attention_rows(1, "self_attention"),
    *_feedforward_rows(_DECODER_LAYER, _OUR_DECODER),
    Rename(_DECODER + "post_norm.{p}", "decoder.norm.{p}"),
    Rename(_HEAD + "query_feat.weight", "decoder.queries"),
    Rename(_HEAD + "query_embed.weight", "decoder.query_positions"),
    Rename(_HEAD + "level_embed.weight", "decoder.level_embeds"),
    Rename(_HEAD + "cls_embed.{p}", "decoder.class_branch.{p}"),
    Rename(_HEAD + "mask_embed.{i}.{p}", "decoder.mask_branch.{i}.{p}"),
)
