"""Names of published InternImage parameters and of ours.

One table covers the released classification weights, the detection and segmentation weights and
the Hugging Face copies. Our names drop the list positions of published ones (``norm1.0``), name the
part at a position (``dw_conv.1.1`` is ``dw_norm``), and separate backbone and head.
"""

from __future__ import annotations

import re

# Prefixes of published names, in any order and number: from data-parallel training, the copies at
# Hugging Face and the state dicts of detectors.
WRAPPERS = ("module.", "model.", "state_dict.", "backbone.", "img_backbone.")

_BLOCK = "levels.{i}.blocks.{j}."
_OUR_BLOCK = "backbone.levels.{i}.blocks.{j}."

# (published, ours). {i}, {j}, {k} are numbers, {s} is 1 or 2, {a} is q, k or v, {p} is the
# parameter. If two rows lead to one of our names, the first is the released spelling.
RENAMES: tuple[tuple[str, str], ...] = (
    ("patch_embed.conv{s}.{p}", "backbone.patch_embed.conv{s}.{p}"),
    ("patch_embed.norm{s}.1.{p}", "backbone.patch_embed.norm{s}.{p}"),
    (_BLOCK + "gamma{s}", _OUR_BLOCK + "gamma{s}"),
    (_BLOCK + "norm{s}.0.{p}", _OUR_BLOCK + "norm{s}.{p}"),
    (
        _BLOCK + "dcn.center_feature_scale_proj_{p}",
        _OUR_BLOCK + "dcn.center_feature_scale.{p}",
    ),
    (_BLOCK + "dcn.dw_conv.0.{p}", _OUR_BLOCK + "dcn.dw_conv.{p}"),
    (_BLOCK + "dcn.dw_conv.1.1.{p}", _OUR_BLOCK + "dcn.dw_norm.{p}"),
    (_BLOCK + "dcn.offset.{p}", _OUR_BLOCK + "dcn.offset.{p}"),
    (_BLOCK + "dcn.mask.{p}", _OUR_BLOCK + "dcn.mask.{p}"),
    (_BLOCK + "dcn.input_proj.{p}", _OUR_BLOCK + "dcn.input_proj.{p}"),
    (_BLOCK + "dcn.output_proj.{p}", _OUR_BLOCK + "dcn.output_proj.{p}"),
    (_BLOCK + "mlp.fc{s}.{p}", _OUR_BLOCK + "mlp.fc{s}.{p}"),
    (_BLOCK + "res_post_norm{s}.0.{p}", _OUR_BLOCK + "res_post_norm{s}.{p}"),
    ("levels.{i}.norm.0.{p}", "backbone.levels.{i}.norm.{p}"),
    ("levels.{i}.post_norms.{k}.0.{p}", "backbone.levels.{i}.post_norms.{k}.{p}"),
    ("levels.{i}.downsample.conv.{p}", "backbone.levels.{i}.downsample.conv.{p}"),
    ("levels.{i}.downsample.norm.1.{p}", "backbone.levels.{i}.downsample.norm.{p}"),
    ("conv_head.0.{p}", "head.conv.{p}"),
    ("conv_head.1.0.{p}", "head.norm.{p}"),
    ("dcnv3_head_x4.0.{p}", "head.project_coarse.{p}"),
    ("dcnv3_head_x3.{p}", "head.project_fine.{p}"),
    ("clip_projector.norm1_{a}.0.{p}", "head.pool.norm_{a}.{p}"),
    ("clip_projector.cross_dcn.{a}_bias", "head.pool.attention.{a}_bias"),
    ("clip_projector.cross_dcn.{a}.{p}", "head.pool.attention.{a}.{p}"),
    ("clip_projector.cross_dcn.proj.{p}", "head.pool.attention.proj.{p}"),
    ("fc_norm.0.{p}", "head.fc_norm.{p}"),
    ("head.{p}", "head.fc.{p}"),
    # Name of the layer scales at Hugging Face.
    (_BLOCK + "layer_scale{s}", _OUR_BLOCK + "gamma{s}"),
    # A batch norm (norm_layer "BN") needs no permutation before it: its list position is one lower.
    ("patch_embed.norm{s}.0.{p}", "backbone.patch_embed.norm{s}.{p}"),
    (_BLOCK + "dcn.dw_conv.1.0.{p}", _OUR_BLOCK + "dcn.dw_norm.{p}"),
    ("levels.{i}.downsample.norm.0.{p}", "backbone.levels.{i}.downsample.norm.{p}"),
)

_PLACEHOLDERS = {
    "i": r"\d+",
    "j": r"\d+",
    "k": r"\d+",
    "s": "[12]",
    "a": "[qkv]",
    "p": "weight|bias|running_mean|running_var|num_batches_tracked",
}


def as_pattern(template: str) -> str:
    """Return a template as a regular expression; each placeholder is a group of the same name."""
    pieces = re.split(r"\{(\w)\}", template)  # text, placeholder, text, ...
    return "".join(
        f"(?P<{piece}>{_PLACEHOLDERS[piece]})" if index % 2 else re.escape(piece)
        for index, piece in enumerate(pieces)
    )


_TO_OURS = tuple((re.compile(as_pattern(theirs)), ours) for theirs, ours in RENAMES)
_TO_OFFICIAL = tuple((re.compile(as_pattern(ours)), theirs) for theirs, ours in RENAMES)


def _rename(key: str, rows: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    for pattern, template in rows:
        match = pattern.fullmatch(key)
        if match:
            return template.format(**match.groupdict())
    return None


def without_wrappers(key: str) -> str:
    """Remove every leading ``WRAPPERS`` entry from a published name."""
    wrapper = next((w for w in WRAPPERS if key.startswith(w)), None)
    return key if wrapper is None else without_wrappers(key[len(wrapper) :])


def official_to_ours(key: str) -> str | None:
    """Return our name of a published parameter, in ``InternImageClassifier``; None if unknown.

    Without their prefix ``backbone.``, the names of the backbone are those in ``InternImage``.

    >>> official_to_ours("module.levels.2.blocks.7.dcn.dw_conv.1.1.bias")
    'backbone.levels.2.blocks.7.dcn.dw_norm.bias'
    """
    return _rename(without_wrappers(key), _TO_OURS)


def ours_to_official(key: str) -> str | None:
    """Return the released code's name (with layer norms) of our parameter; None if unknown.

    >>> ours_to_official("head.fc.weight")
    'head.weight'
    """
    return _rename(key, _TO_OFFICIAL)
