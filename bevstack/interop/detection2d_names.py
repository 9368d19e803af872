"""Names of the parameters of published detectors for single pictures, and of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from bevstack.interop.internimage_names import RENAMES
from bevstack.interop.public_weights import Rename

_BOX = "roi_head.bbox_head."
_MASK = "roi_head.mask_head."
# Moving averages beside the weights, under names with underscores in place of dots. The plain names
# hold the averages already: the released training swaps both before it writes a file.
AVERAGES = ("ema_*",)

BACKBONE_ROWS = tuple(
    Rename(f"backbone.{published}", ours)
    for published, ours in RENAMES
    if ours.startswith("backbone.")
)
_PROPOSAL_ROWS = (
    Rename("neck.lateral_convs.{i}.conv.{p}", "neck.lateral_convs.{i}.{p}"),
    Rename("neck.fpn_convs.{i}.conv.{p}", "neck.output_convs.{i}.{p}"),
    Rename("rpn_head.rpn_conv.{p}", "rpn.conv.{p}"),
    Rename("rpn_head.rpn_cls.{p}", "rpn.logits.{p}"),
    Rename("rpn_head.rpn_reg.{p}", "rpn.codes.{p}"),
)


def _stage_rows(published: str, ours: str) -> tuple[Rename, ...]:
    """Return rows of a stage.

    Args:
        published: number of the stage with a dot; empty if there is only one.
        ours: the same, never empty.
    """
    box, mask = f"{_BOX}{published}", f"{_MASK}{published}"
    return (
        Rename(box + "shared_convs.{j}.conv.{p}", f"stages.{ours}box_head.convs." + "{j}.{p}"),
        Rename(box + "shared_convs.{j}.bn.{p}", f"stages.{ours}box_head.norms." + "{j}.{p}"),
        Rename(box + "shared_fcs.{j}.{p}", f"stages.{ours}box_head.linear." + "{j}.{p}"),
        Rename(box + "fc_cls.{p}", f"stages.{ours}box_head.logits." + "{p}"),
        Rename(box + "fc_reg.{p}", f"stages.{ours}box_head.codes." + "{p}"),
        Rename(mask + "convs.{j}.conv.{p}", f"stages.{ours}mask_head.convs." + "{j}.{p}"),
        Rename(mask + "upsample.{p}", f"stages.{ours}mask_head.upsample." + "{p}"),
        Rename(mask + "conv_logits.{p}", f"stages.{ours}mask_head.logits." + "{p}"),
    )


REGION_ROWS = (
    *BACKBONE_ROWS,
    *_PROPOSAL_ROWS,
    *_stage_rows("", "0."),
    *_stage_rows("{i}.", "{i}."),
)

_HEAD = "bbox_head."
_TRANSFORMER = "bbox_head.transformer."
ATTENTION_NAMES = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")


def _layer_rows(part: str, cross: int) -> tuple[Rename, ...]:
    """Return rows of the encoder or the decoder; ``cross`` is the deformable attention's place."""
    own = "attention" if part == "encoder" else "cross_attention"
    layer = f"{_TRANSFORMER}{part}.layers." + "{i}."
    ours = part + ".{i}."
    return (
        *(
            Rename(f"{layer}attentions.{cross}.{name}." + "{p}", f"{ours}{own}.{name}." + "{p}")
            for name in ATTENTION_NAMES
        ),
        Rename(layer + "ffns.0.layers.0.0.{p}", ours + "feedforward.linear1.{p}"),
        Rename(layer + "ffns.0.layers.1.{p}", ours + "feedforward.linear2.{p}"),
        Rename(layer + "norms.{j}.{p}", ours + "norms.{j}.{p}"),
    )


_SELF = _TRANSFORMER + "decoder.layers.{i}.attentions.0.attn."
# The second backbone of a composite one has no stem of its own.
_COMPOSITE_ROWS = (
    *(
        Rename(
            f"backbone.cb_modules.{place}.{published}",
            ours.replace("backbone.", f"backbone.{name}.", 1),
        )
        for place, name in enumerate(("first", "second"))
        for published, ours in RENAMES
        if ours.startswith("backbone.")
    ),
    *(
        Rename(f"backbone.cb_modules.1.gamma{stage}", f"backbone.gammas.{stage}")
        for stage in range(4)
    ),
    Rename("backbone.cb_linears.{i}.{j}.{p}", "backbone.linears.{i}.{j}.{p}"),
)
_NECKS = ("neck.", "neck.0.")
DINO_ROWS = (
    *BACKBONE_ROWS,
    *_COMPOSITE_ROWS,
    *(Rename(neck + "convs.{i}.conv.{p}", "neck.convs.{i}.{p}") for neck in _NECKS),
    *(Rename(neck + "convs.{i}.gn.{p}", "neck.norms.{i}.{p}") for neck in _NECKS),
    *(Rename(neck + "extra_convs.0.conv.{p}", "neck.extra_conv.{p}") for neck in _NECKS),
    *(Rename(neck + "extra_convs.0.gn.{p}", "neck.extra_norm.{p}") for neck in _NECKS),
    Rename(_TRANSFORMER + "level_embeds", "level_embeds"),
    *_layer_rows("encoder", 0),
    *_layer_rows("decoder", 1),
    Rename(_SELF + "in_proj_weight", "decoder.{i}.self_attention.in_proj_weight"),
    Rename(_SELF + "in_proj_bias", "decoder.{i}.self_attention.in_proj_bias"),
    Rename(_SELF + "out_proj.{p}", "decoder.{i}.self_attention.out_proj.{p}"),
    Rename(_TRANSFORMER + "decoder.ref_point_head.{i}.{p}", "reference_head.{i}.{p}"),
    Rename(_TRANSFORMER + "decoder.norm.{p}", "decoder_norm.{p}"),
    Rename(_TRANSFORMER + "enc_output.{p}", "proposal_linear.{p}"),
    Rename(_TRANSFORMER + "enc_output_norm.{p}", "proposal_norm.{p}"),
    Rename(_TRANSFORMER + "query_embed.{p}", "query_embed.{p}"),
    Rename(_HEAD + "cls_branches.{i}.{p}", "class_branches.{i}.{p}"),
    Rename(_HEAD + "reg_branches.{i}.{j}.{p}", "box_branches.{i}.{j}.{p}"),
    Rename(_HEAD + "label_embedding.{p}", "label_embedding.{p}"),
)
# The feed-forward part of G is stored in pieces: rows of the first map, columns of the second.
_PIECE = re.compile(r"(.*\.ffns\.0\.)(fc1|fc2)_(\d+)\.(weight|bias)")
_PIECES = {
    ("fc1", "weight"): ("layers.0.0.weight", 0),
    ("fc1", "bias"): ("layers.0.0.bias", 0),
    ("fc2", "weight"): ("layers.1.weight", 1),
}


def join_pieces(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published tensors with each feed-forward part in one piece, under plain names.

    Raises:
        ValueError: a piece is missing.
    """
    joined: dict[str, Tensor] = {}
    pieces: dict[tuple[str, int], dict[int, Tensor]] = {}
    for name, tensor in published.items():
        match = _PIECE.fullmatch(name)
        kind = None if match is None else _PIECES.get((match[2], match[4]))
        if match is not None and kind is not None:
            pieces.setdefault((match[1] + kind[0], kind[1]), {})[int(match[3])] = tensor
        elif name.endswith(".ffns.0.fc2_bias"):
            joined[name.removesuffix("fc2_bias") + "layers.1.bias"] = tensor
        else:
            joined[name] = tensor
    for (name, axis), parts in pieces.items():
        if sorted(parts) != list(range(len(parts))):
            raise ValueError(f"pieces of {name} must be numbered from 0; got {sorted(parts)}")
        joined[name] = torch.cat([parts[index] for index in range(len(parts))], axis)
    return joined
