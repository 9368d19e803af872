"""Deformable operators as nodes of our own domain, for runtimes that load our kernels.

Letters: B batch, H W input size, Y X output size, C channels, G groups or heads, D channels of one,
P points, L levels, M packed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bevstack.ops.deformable_attention import locations_and_weights

DOMAIN = "bevstack"
VERSION = 1  # of the domain; the library in ops/openvino knows these nodes
DCNV3, MS_DEFORM_ATTN = "Dcnv3", "MsDeformAttn"
DEFORMABLE_ATTENTION = "DeformableAttention"


def decompositions(*, whole_attention: bool = True) -> dict[Any, Callable[..., Any]]:
    """Return the functions below by the operator that they trace.

    Without ``whole_attention``, ``deformable_attention`` becomes locations, a softmax and the node
    ``MsDeformAttn``, for runtimes without a kernel for the whole.
    """
    own = torch.ops.bevstack
    return {
        own.dcnv3.default: dcnv3,
        own.ms_deform_attn.default: ms_deform_attn,
        own.deformable_attention.default: (
            deformable_attention if whole_attention else located_attention
        ),
    }


def dcnv3(
    input: Tensor,  # (B, H, W, G * D)
    offset: Tensor,  # (B, Y, X, G * P * 2)
    mask: Tensor,  # (B, Y, X, G * P)
    *,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
    softmax: bool = False,
) -> Tensor:  # (B, Y, X, G * D)
    """Trace ``bevstack.ops.dcnv3`` as a node ``Dcnv3`` with the same attributes."""
    attributes = {
        "kernel_size": list(kernel_size),
        "stride": list(stride),
        "padding": list(padding),
        "dilation": list(dilation),
        "groups": groups,
        "offset_scale": float(offset_scale),
        "remove_center": int(remove_center),
        "softmax": int(softmax),
    }
    shape = (*offset.shape[:3], input.shape[3])
    return _node(DCNV3, (input.float(), offset.float(), mask.float()), attributes, shape)


def ms_deform_attn(
    value: Tensor,  # (B, S, G, D)
    sampling_locations: Tensor,  # (B, Q, G, L, P, 2), or (M, G, L, P, 2) with value_index
    attention_weights: Tensor,  # (B, Q, G, L, P), or (M, G, L, P) with value_index
    value_index: Tensor | None = None,  # (M,)
    *,
    spatial_shapes: Sequence[int],
) -> Tensor:  # (B, Q, G * D), or (M, G * D) with value_index
    """Trace ``bevstack.ops.ms_deform_attn`` as a node ``MsDeformAttn``."""
    inputs = (value, sampling_locations, attention_weights)
    attributes = {"spatial_shapes": list(spatial_shapes)}
    return _attention(MS_DEFORM_ATTN, inputs, value_index, attributes)


def deformable_attention(
    value: Tensor,  # (B, S, G, D)
    offsets: Tensor,  # (B, Q, G, L, P, 2), or (M, G, L, P, 2) with value_index
    logits: Tensor,  # (B, Q, G, L, P), or (M, G, L, P) with value_index
    reference_points: Tensor,  # (B, Q, A, 2), or (M, A, 2) with value_index
    value_index: Tensor | None = None,  # (M,)
    *,
    spatial_shapes: Sequence[int],
    parts: int,
) -> Tensor:  # (B, Q, G * D), or (M, G * D) with value_index
    """Trace ``bevstack.ops.deformable_attention`` as a node ``DeformableAttention``."""
    inputs = (value, offsets, logits, reference_points)
    attributes = {"spatial_shapes": list(spatial_shapes), "parts": parts}
    return _attention(DEFORMABLE_ATTENTION, inputs, value_index, attributes)


def located_attention(
    value: Tensor,  # (B, S, G, D)
    offsets: Tensor,  # (B, Q, G, L, P, 2), or (M, G, L, P, 2) with value_index
    logits: Tensor,  # (B, Q, G, L, P), or (M, G, L, P) with value_index
    reference_points: Tensor,  # (B, Q, A, 2), or (M, A, 2) with value_index
    value_index: Tensor | None = None,  # (M,)
    *,
    spatial_shapes: Sequence[int],
    parts: int,
) -> Tensor:  # (B, Q, G * D), or (M, G * D) with value_index
    """Trace ``bevstack.ops.deformable_attention`` with a node ``MsDeformAttn``."""
    locations, weights = locations_and_weights(
        offsets, logits, reference_points, spatial_shapes=spatial_shapes, parts=parts
    )
    return ms_deform_attn(value, locations, weights, value_index, spatial_shapes=spatial_shapes)


def _attention(
    name: str,
    inputs: tuple[Tensor, ...],  # value, locations or offsets, weights or logits, ...
    value_index: Tensor | None,
    attributes: dict[str, Any],
) -> Tensor:
    floats = tuple(tensor.float() for tensor in inputs)
    value, _, weights = floats[:3]
    axes = weights.shape[: 2 if value_index is None else 1]
    shape = (*axes, value.shape[2] * value.shape[3])
    return _node(name, floats if value_index is None else (*floats, value_index), attributes, shape)


def _node(
    name: str, inputs: tuple[Tensor, ...], attributes: dict[str, Any], shape: tuple[int, ...]
) -> Tensor:
    output: Tensor = torch.onnx.ops.symbolic(
        f"{DOMAIN}::{name}", inputs, attributes, dtype=torch.float32, shape=shape, version=VERSION
    )
    return output
