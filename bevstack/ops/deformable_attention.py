"""Deformable attention from offsets, logits and reference points.

It computes ``ms_deform_attn`` without its two largest tensors: sampling locations and normalised
weights are made point by point inside the kernel (Deformable DETR, Zhu et al., arXiv:2010.04159,
equations 2 and 3). Letters as there; A reference points of a query.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bevstack.ops import library
from bevstack.ops.ms_deform_attn import check_sizes, flat_sizes
from bevstack.shapes import expect_shape

_ARGUMENTS = (
    "Tensor value, Tensor offsets, Tensor logits, Tensor reference_points, Tensor? value_index, *, "
    "SymInt[] spatial_shapes, SymInt parts"
)


def deformable_attention(
    value: Tensor,  # (B, S, H, D)
    spatial_shapes: Sequence[tuple[int, int]] | Tensor,  # L pairs (height, width)
    offsets: Tensor,  # (B, Q, H, L, P, 2), or (M, H, L, P, 2) with value_index; pixels of the level
    logits: Tensor,  # (B, Q, H, L, P), or (M, H, L, P) with value_index
    reference_points: Tensor,  # (B, Q, A, 2), or (M, A, 2) with value_index; normalised x, y
    *,
    value_index: Tensor | None = None,  # (M,) int64
    parts: int = 1,
) -> Tensor:
    """Attend to every level at offsets from reference points, with weights from logits.

    It equals ``ms_deform_attn`` at the locations ``reference_points[p % A] + offsets / (width,
    height)``, with the softmax of the logits over the levels and points of a head as weights. With
    several ``parts``, the softmax is over each of that many equal runs of a head's points, and the
    weights of a part sum to 1 / parts: the mean over the queues of BEVFormer's temporal
    self-attention.

    Types, autocast, samples outside the maps and derivatives at pixel centres are those of
    ``ms_deform_attn``. The gradient to ``reference_points`` flows through the offsets.

    Args:
        value: Pixels of each level row by row, one level after the other.
        spatial_shapes: Sizes of the levels.
        offsets: Distance of each point from its reference point.
        logits: Weight of each point before the softmax.
        reference_points: Places where offsets start; point p of a level starts at p % A.
        value_index: Image of each packed row.
        parts: Number of runs of points that are normalised by themselves.

    Returns:
        (B, Q, H * D), or (M, H * D) with ``value_index``; of the type of ``value``.

    Raises:
        TypeError: A tensor is not of a floating type, or ``value_index`` is not int64.
        ValueError: Names the argument whose shape, device or value does not fit.
    """
    tensors = {
        "value": value,
        "offsets": offsets,
        "logits": logits,
        "reference_points": reference_points,
    }
    library.check_tensors(tensors)
    flat_shapes = flat_sizes(spatial_shapes)
    names = ("offsets", "logits")
    sizes = check_sizes(value, flat_shapes, offsets, logits, value_index, names=names)
    rows = ("B", "Q") if value_index is None else ("M",)
    expect_shape("reference_points", reference_points, (*rows, "A", 2), sizes)
    points = logits.shape[-1] * logits.shape[-2]
    if parts < 1 or points % parts:
        raise ValueError(f"parts must divide the {points} points of a head; got {parts}")
    if reference_points.shape[-2] < 1:
        raise ValueError(
            f"reference_points must hold at least one point of a query; got "
            f"{tuple(reference_points.shape)}"
        )
    if reference_points.requires_grad and torch.is_grad_enabled():
        # Adds exactly zero: the operator has no gradient of its own to the reference points.
        moved = reference_points - reference_points.detach()
        offsets = offsets + in_pixels(moved, offsets, flat_shapes)
        reference_points = reference_points.detach()
    output: Tensor = _OPERATOR(
        value,
        offsets,
        logits,
        reference_points,
        value_index,
        spatial_shapes=flat_shapes,
        parts=parts,
    )
    return output


def in_pixels(
    reference_points: Tensor,  # (..., A, 2) normalised
    offsets: Tensor,  # (..., H, L, P, 2)
    flat_shapes: Sequence[int],  # height and width of each level
) -> Tensor:  # (..., 1, L, P, 2)
    """Return the reference point of each sample in pixels of its level, without half a pixel."""
    return _by_point(reference_points, offsets.shape[-2])[..., None, None, :, :] * _widths_heights(
        reference_points, flat_shapes
    )


def _by_point(reference_points: Tensor, points: int) -> Tensor:  # (..., P, 2)
    anchors = reference_points.shape[-2]
    if anchors == 1:
        return reference_points.expand(*reference_points.shape[:-2], points, 2)
    index = torch.arange(points, device=reference_points.device) % anchors
    return reference_points.index_select(-2, index)


def _widths_heights(like: Tensor, flat_shapes: Sequence[int]) -> Tensor:  # (L, 1, 2)
    sides = [[flat_shapes[i + 1], flat_shapes[i]] for i in range(0, len(flat_shapes), 2)]
    numbers = [like.new_full((1,), float(side)) for pair in sides for side in pair]
    return torch.cat(numbers).view(-1, 1, 2)


def locations_and_weights(
    offsets: Tensor,
    logits: Tensor,
    reference_points: Tensor,
    *,
    spatial_shapes: Sequence[int],
    parts: int,
) -> tuple[Tensor, Tensor]:  # (..., H, L, P, 2), (..., H, L, P)
    """Return the arguments of ``ms_deform_attn`` that give the same result."""
    dtype = torch.promote_types(offsets.dtype, torch.float32)
    dtype = torch.promote_types(reference_points.dtype, dtype)
    starts = _by_point(reference_points.to(dtype), offsets.shape[-2])[..., None, None, :, :]
    steps = _widths_heights(starts, spatial_shapes)
    return starts + offsets.to(dtype) / steps, _softmax(logits, parts)


def _softmax(logits: Tensor, parts: int) -> Tensor:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    by_part = wide.reshape(*wide.shape[:-2], parts, wide.shape[-2] * wide.shape[-1] // parts)
    return (by_part.softmax(-1) / parts).view(wide.shape)


def reference(
    value: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference_points: Tensor,
    value_index: Tensor | None,
    *,
    spatial_shapes: Sequence[int],
    parts: int,
) -> Tensor:
    """Compute ``deformable_attention`` with ``ms_deform_attn``."""
    locations, weights = locations_and_weights(
        offsets, logits, reference_points, spatial_shapes=spatial_shapes, parts=parts
    )
    output: Tensor = torch.ops.bevstack.ms_deform_attn(
        value, locations, weights, value_index, spatial_shapes=spatial_shapes
    )
    return output


def reference_backward(
    grad_output: Tensor,
    value: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference_points: Tensor,
    value_index: Tensor | None,
    *,
    spatial_shapes: Sequence[int],
    parts: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients to value, offsets and logits with those of ``ms_deform_attn``."""
    locations, weights = locations_and_weights(
        offsets, logits, reference_points, spatial_shapes=spatial_shapes, parts=parts
    )
    to_value, to_locations, to_weights = torch.ops.bevstack.ms_deform_attn_backward(
        grad_output, value, locations, weights, value_index, spatial_shapes=spatial_shapes
    )
    to_offsets = to_locations / _widths_heights(to_locations, spatial_shapes)
    shares = weights.reshape(*weights.shape[:-2], parts, -1) if weights.numel() else weights
    grads = to_weights.view(shares.shape)
    mean = (shares * grads).sum(-1, keepdim=True) * parts
    to_logits = (shares * (grads - mean)).view(logits.shape)
    return to_value, to_offsets.to(offsets.dtype), to_logits.to(logits.dtype)


def _fake(
    value: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference_points: Tensor,
    value_index: Tensor | None,
) -> Tensor:
    axes = logits.shape[: 2 if value_index is None else 1]
    return value.new_empty((*axes, value.shape[2] * value.shape[3]))


def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference_points: Tensor,
    value_index: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    to_value, to_offsets, to_logits = (t.new_empty(t.shape) for t in (value, offsets, logits))
    return to_value, to_offsets, to_logits


_OPERATOR = library.define(
    f"deformable_attention({_ARGUMENTS}) -> Tensor", reference, composed=True
)
library.define(
    f"deformable_attention_backward(Tensor grad_output, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    reference_backward,
    composed=True,
)
library.register_gradient("deformable_attention", _fake, _fake_backward)
library.register_autocast("deformable_attention", cast_positions=(0,))
