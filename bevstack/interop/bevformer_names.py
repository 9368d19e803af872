"""Names of published BEVFormer v2 parameters and of ours, and conversion of conventions.

Published weights use the boxes of mmdetection3d before 1.0: (width, length, height) and
yaw' = -yaw - pi/2. The rows of the box branches are permuted and negated here, so that no other
code handles this convention. The BEV grid of these weights lies in nuScenes' LIDAR_TOP frame.
"""

from __future__ import annotations

import torch
from torch import Size, Tensor

from bevstack.interop.public_weights import Rename

# For each row of our box code (cx, cy, log l, log w, cz, log h, sin yaw, cos yaw, vx, vy): the row
# of the published code (cx, cy, log w, log l, cz, log h, sin yaw', cos yaw', vx, vy) and its sign.
# sin yaw = -cos yaw', cos yaw = -sin yaw'.
LEGACY_ROWS = (0, 1, 3, 2, 4, 5, 7, 6, 8, 9)
LEGACY_SIGNS = (1, 1, 1, 1, 1, 1, -1, -1, 1, 1)

# Published tensors that are not parameters: the code weights of the loss, and the depth statistics
# that initialise the depth scales and offsets (which are parameters).
NOT_WEIGHTS = (
    "pts_bbox_head.code_weights",
    "fcos3d_bbox_head.fcos3d_head.mean_depth_per_level",
    "fcos3d_bbox_head.fcos3d_head.std_depth_per_level",
)


def from_legacy_boxes(tensor: Tensor, shape: Size) -> Tensor:
    """Convert the last layer of a box branch, weight or bias (rows on axis 0), to our box code."""
    if tensor.shape[0] != len(LEGACY_ROWS):
        return tensor  # of another shape: the caller refuses it by name
    signs = tensor.new_tensor(LEGACY_SIGNS).view(-1, *([1] * (tensor.dim() - 1)))
    return tensor[list(LEGACY_ROWS)] * signs


def query_half(tensor: Tensor, shape: Size) -> Tensor:
    """Return the matrix of q in [q, q + pos] W = q (W1 + W2) + pos W2."""
    first, second = tensor.chunk(2, 1)
    return first + second


def position_half(tensor: Tensor, shape: Size) -> Tensor:
    """Return the matrix of pos in [q, q + pos] W = q (W1 + W2) + pos W2."""
    return tensor.chunk(2, 1)[1]


def first_two_thirds(tensor: Tensor, shape: Size) -> Tensor:
    """Return the query and key rows of a joint input projection."""
    return tensor[: tensor.shape[0] // 3 * 2]


def last_third(tensor: Tensor, shape: Size) -> Tensor:
    """Return the value rows of a joint input projection."""
    return tensor[tensor.shape[0] // 3 * 2 :]


def first_groups(tensor: Tensor, shape: Size) -> Tensor:
    """Return the first groups of query rows if the file holds more groups (900 of 9,900 rows)."""
    is_multiple = len(shape) == 2 and shape[0] and tensor.shape[0] % shape[0] == 0
    return tensor[: shape[0]] if is_multiple else tensor


def length_before_width(tensor: Tensor, shape: Size) -> Tensor:
    """Permute the rows of the 3D size branch: (w, l, h), each for all classes, to (l, w, h)."""
    if tensor.shape[0] % 3:
        return tensor  # of another shape: the caller refuses it by name
    width, length, height = tensor.chunk(3)
    return torch.cat((length, width, height))


_HEAD = "pts_bbox_head."
QUERIES = _HEAD + "query_embedding.weight"
_ENCODER = "pts_bbox_head.transformer.encoder.layers.{i}."
_DECODER = "pts_bbox_head.transformer.decoder.layers.{i}."
_OUR_ENCODER = "encoder.layers.{i}."
_OUR_DECODER = "decoder.layers.{i}."
_OUR_TSA = _OUR_ENCODER + "self_attention."
_OUR_SCA = _OUR_ENCODER + "cross_attention."
_OUR_MHA = _OUR_DECODER + "self_attention."

_FUSION = _HEAD + "transformer.fusion."

BACKBONE = (
    Rename("img_backbone.conv1.{p}", "backbone.conv1.{p}"),
    Rename("img_backbone.bn1.{p}", "backbone.bn1.{p}"),
    Rename("img_backbone.layer{i}.{j}.conv{k}.{p}", "backbone.layer{i}.{j}.conv{k}.{p}"),
    Rename("img_backbone.layer{i}.{j}.bn{k}.{p}", "backbone.layer{i}.{j}.bn{k}.{p}"),
    Rename(
        "img_backbone.layer{i}.{j}.downsample.{k}.{p}", "backbone.layer{i}.{j}.downsample.{k}.{p}"
    ),
)

NECK = (
    Rename("img_neck.lateral_convs.{i}.conv.{p}", "neck.lateral_convs.{i}.{p}"),
    Rename("img_neck.fpn_convs.{i}.conv.{p}", "neck.output_convs.{i}.{p}"),
)

ENCODER = (
    Rename(_HEAD + "bev_embedding.weight", "encoder.bev_embedding"),
    Rename(_HEAD + "positional_encoding.row_embed.weight", "encoder.positional_encoding.row_embed"),
    Rename(_HEAD + "positional_encoding.col_embed.weight", "encoder.positional_encoding.col_embed"),
    Rename(_HEAD + "transformer.level_embeds", "encoder.level_embeds"),
    Rename(_HEAD + "transformer.cams_embeds", "encoder.camera_embeds"),
    *(
        row
        for linear in ("sampling_offsets", "attention_weights")
        for row in (
            Rename(
                _ENCODER + f"attentions.0.{linear}.weight",
                _OUR_TSA + f"{linear}.weight",
                query_half,
            ),
            Rename(
                _ENCODER + f"attentions.0.{linear}.weight",
                _OUR_TSA + f"{linear}_pos.weight",
                position_half,
            ),
            Rename(_ENCODER + f"attentions.0.{linear}.bias", _OUR_TSA + f"{linear}.bias"),
            Rename(
                _ENCODER + f"attentions.1.deformable_attention.{linear}.{{p}}",
                _OUR_SCA + f"{linear}.{{p}}",
            ),
        )
    ),
    Rename(_ENCODER + "attentions.0.value_proj.{p}", _OUR_TSA + "value_proj.{p}"),
    Rename(_ENCODER + "attentions.0.output_proj.{p}", _OUR_TSA + "output_proj.{p}"),
    Rename(
        _ENCODER + "attentions.1.deformable_attention.value_proj.{p}",
        _OUR_SCA + "value_proj.{p}",
    ),
    Rename(_ENCODER + "attentions.1.output_proj.{p}", _OUR_SCA + "output_proj.{p}"),
    Rename(_ENCODER + "ffns.0.layers.0.0.{p}", _OUR_ENCODER + "feedforward.fc1.{p}"),
    Rename(_ENCODER + "ffns.0.layers.1.{p}", _OUR_ENCODER + "feedforward.fc2.{p}"),
    Rename(_ENCODER + "norms.{j}.{p}", _OUR_ENCODER + "norms.{j}.{p}"),
)

DECODER = (
    Rename(QUERIES, "decoder.query_embedding", first_groups),
    Rename(_HEAD + "transformer.reference_points.{p}", "decoder.reference_points.{p}"),
    *(
        row
        for kind in ("weight", "bias")
        for row in (
            Rename(
                _DECODER + f"attentions.0.attn.in_proj_{kind}",
                _OUR_MHA + f"qk_proj.{kind}",
                first_two_thirds,
            ),
            Rename(
                _DECODER + f"attentions.0.attn.in_proj_{kind}",
                _OUR_MHA + f"v_proj.{kind}",
                last_third,
            ),
        )
    ),
    Rename(_DECODER + "attentions.0.attn.out_proj.{p}", _OUR_MHA + "out_proj.{p}"),
    *(
        Rename(
            _DECODER + f"attentions.1.{linear}.{{p}}",
            _OUR_DECODER + f"cross_attention.{linear}.{{p}}",
        )
        for linear in ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    ),
    Rename(_DECODER + "ffns.0.layers.0.0.{p}", _OUR_DECODER + "feedforward.fc1.{p}"),
    Rename(_DECODER + "ffns.0.layers.1.{p}", _OUR_DECODER + "feedforward.fc2.{p}"),
    Rename(_DECODER + "norms.{j}.{p}", _OUR_DECODER + "norms.{j}.{p}"),
    Rename(_HEAD + "cls_branches.{i}.{j}.{p}", "decoder.head.class_branches.{i}.{j}.{p}"),
    Rename(_HEAD + "reg_branches.{i}.0.{p}", "decoder.head.box_branches.{i}.0.{p}"),
    Rename(_HEAD + "reg_branches.{i}.2.{p}", "decoder.head.box_branches.{i}.2.{p}"),
    Rename(
        _HEAD + "reg_branches.{i}.4.{p}", "decoder.head.box_branches.{i}.4.{p}", from_legacy_boxes
    ),
)

FUSION = (
    Rename(_FUSION + "layers.{i}.conv{k}.{p}", "fusion.blocks.{i}.conv{k}.{p}"),
    Rename(_FUSION + "layers.{i}.bn{k}.{p}", "fusion.blocks.{i}.bn{k}.{p}"),
    Rename(_FUSION + "layers.{i}.downsample.{k}.{p}", "fusion.blocks.{i}.downsample.{k}.{p}"),
    Rename(_FUSION + "layer_norm.0.{p}", "fusion.linear.{p}"),
    Rename(_FUSION + "layer_norm.1.{p}", "fusion.norm.{p}"),
)

_IMAGE = "fcos3d_bbox_head."
_IMAGE_2D = "fcos3d_bbox_head.fcos2d_head."
_IMAGE_3D = "fcos3d_bbox_head.fcos3d_head."
_OUR_IMAGE = "perspective_head."

PERSPECTIVE = (
    *(
        row
        for theirs, ours in (
            (_IMAGE_2D + "cls_tower", "class_tower"),
            (_IMAGE_2D + "box2d_tower", "box2d_tower"),
            (_IMAGE_3D + "box3d_tower", "box3d_tower"),
        )
        for row in (
            Rename(theirs + ".{i}.weight", _OUR_IMAGE + ours + ".convs.{i}.weight"),
            Rename(theirs + ".{i}.norm.{j}.{p}", _OUR_IMAGE + ours + ".norms.{i}.{j}.{p}"),
        )
    ),
    Rename(_IMAGE_2D + "cls_logits.{p}", _OUR_IMAGE + "logits.{p}"),
    Rename(_IMAGE_2D + "box2d_reg.{p}", _OUR_IMAGE + "ltrb.{p}"),
    Rename(_IMAGE_2D + "centerness.{p}", _OUR_IMAGE + "centerness.{p}"),
    Rename(_IMAGE_2D + "scales_box2d_reg.{i}.scale", _OUR_IMAGE + "ltrb_scales.{i}"),
    Rename(_IMAGE_3D + "box3d_quat.0.{p}", _OUR_IMAGE + "quaternion.{p}"),
    Rename(_IMAGE_3D + "box3d_ctr.0.{p}", _OUR_IMAGE + "center_offset.{p}"),
    Rename(_IMAGE_3D + "box3d_depth.0.{p}", _OUR_IMAGE + "depth.{p}"),
    Rename(_IMAGE_3D + "box3d_size.0.{p}", _OUR_IMAGE + "size.{p}", length_before_width),
    Rename(_IMAGE_3D + "box3d_conf.0.{p}", _OUR_IMAGE + "confidence.{p}"),
    Rename(_IMAGE_3D + "scales_proj_ctr.{i}.scale", _OUR_IMAGE + "center_offset_scales.{i}"),
    Rename(_IMAGE_3D + "scales_size.{i}.scale", _OUR_IMAGE + "size_scales.{i}"),
    Rename(_IMAGE_3D + "scales_conf.{i}.scale", _OUR_IMAGE + "confidence_scales.{i}"),
    Rename(_IMAGE_3D + "scales_depth.{i}.scale", _OUR_IMAGE + "depth_scales.{i}"),
    Rename(_IMAGE_3D + "offsets_depth.{i}.bias", _OUR_IMAGE + "depth_offsets.{i}"),
    Rename(_IMAGE + "attr_logits.{p}", _OUR_IMAGE + "attributes.{p}"),
    Rename(_IMAGE + "speed.{p}", _OUR_IMAGE + "speed.{p}"),
)

BEVFORMER_V2 = (*BACKBONE, *NECK, *ENCODER, *DECODER, *FUSION, *PERSPECTIVE)


def bevformer_rows(boxes: str) -> tuple[Rename, ...]:
    """Return the table of names for a box convention, "legacy" or "modern".

    Modern boxes (mmdetection3d from 1.0 on) are ours: length before width, yaw counter-clockwise.
    Boxes of the perspective head do not depend on the convention.

    Raises:
        ValueError: ``boxes`` is another convention.
    """
    if boxes not in ("legacy", "modern"):
        raise ValueError(f"boxes must be 'legacy' or 'modern'; got {boxes!r}")
    if boxes == "legacy":
        return BEVFORMER_V2
    return tuple(
        row._replace(convert=None) if row.convert is from_legacy_boxes else row
        for row in BEVFORMER_V2
    )
