"""Operators without an equal in ONNX, written with those that have one.

Tables of decompositions for ``torch.export``. Deformable operators become GridSample, which ONNX
Runtime runs in two thirds of the time of gathers of four corners; measured errors are of 1e-5.

Letters: B batch, H W input size, Y X output size, G groups or heads, D channels of one, P points,
L levels, M packed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.export.onnx import custom_operators
from bevstack.geometry import constant
from bevstack.ops.dcnv3 import point_grid
from bevstack.ops.deformable_attention import locations_and_weights

Decompositions = dict[Any, Callable[..., Any]]


def decompositions(*, custom_ops: bool = False, whole_attention: bool = True) -> Decompositions:
    """Return the decompositions by operator.

    With ``custom_ops``, deformable operators become nodes of our own domain; ``whole_attention`` as
    for ``custom_operators.decompositions``.

    ``topk`` stands for a stable order: ONNX's TopK puts the first of equal values first, which
    torch's does not promise. So the decomposed program is for export alone.
    """
    aten = torch.ops.aten
    own = custom_operators.decompositions(whole_attention=whole_attention)
    return {
        **(own if custom_ops else _standard_operators()),
        torch.ops.bevstack.roi_align.default: roi_align,
        aten.nonzero_static.default: nonzero_static,
        aten.linalg_inv_ex.default: invert_3x3,
        aten.cummin.default: _running(torch.le),
        aten.cummax.default: _running(torch.ge),
        aten.argsort.stable: stable_argsort,
        aten.atan2.default: atan2,
        aten.where.self: where,
    }


def _standard_operators() -> Decompositions:
    own = torch.ops.bevstack
    return {
        own.dcnv3.default: dcnv3,
        own.ms_deform_attn.default: ms_deform_attn,
        own.deformable_attention.default: deformable_attention,
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
    """Compute ``bevstack.ops.dcnv3`` with one GridSample."""
    batch, height, width, channels = input.shape
    rows, columns = offset.shape[1:3]
    points = mask.shape[3] // groups
    grid_y, grid_x = (
        constant(
            offset,
            point_grid(
                axis,
                kernel_size=kernel_size,
                padding=padding,
                dilation=dilation,
                offset_scale=offset_scale,
                remove_center=remove_center,
            ),
        )
        for axis in (0, 1)
    )
    shift = offset.view(batch, rows * columns, groups, points, 2) * offset_scale
    line, column = (
        (torch.arange(count, dtype=offset.dtype, device=offset.device) * step)
        for count, step in zip((rows, columns), stride, strict=True)
    )
    line = line[:, None].expand(rows, columns).flatten()[:, None, None]
    column = column.expand(rows, columns).flatten()[:, None, None]
    x_px, y_px = column + grid_x + shift[..., 0], line + grid_y + shift[..., 1]
    value = input.view(batch, height * width, groups, channels // groups)
    sampled = _sample(_planes(value, (height, width)), _by_group(x_px), _by_group(y_px))
    weights = mask.view(batch, rows * columns, groups, points)
    weights = _by_group(weights.softmax(-1) if softmax else weights)
    sums = (sampled * weights[:, None]).sum(-1)  # (B * G, D, Y * X)
    return sums.view(batch, channels, rows, columns).permute(0, 2, 3, 1)


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
    """Compute ``bevstack.ops.deformable_attention`` as ``ms_deform_attn`` of its locations."""
    locations, weights = locations_and_weights(
        offsets, logits, reference_points, spatial_shapes=spatial_shapes, parts=parts
    )
    return ms_deform_attn(value, locations, weights, value_index, spatial_shapes=spatial_shapes)


def ms_deform_attn(
    value: Tensor,  # (B, S, G, D)
    sampling_locations: Tensor,  # (B, Q, G, L, P, 2), or (M, G, L, P, 2) with value_index
    attention_weights: Tensor,  # (B, Q, G, L, P), or (M, G, L, P) with value_index
    value_index: Tensor | None = None,  # (M,)
    *,
    spatial_shapes: Sequence[int],
) -> Tensor:  # (B, Q, G * D), or (M, G * D) with value_index
    """Compute ``bevstack.ops.ms_deform_attn`` with one GridSample a level.

    Packed rows read the maps of many images: these are stacked to one high map, with a row of zeros
    after each, and rows are clamped to the map of their image and its zeros.
    """
    sides = list(zip(spatial_shapes[::2], spatial_shapes[1::2], strict=True))
    levels = torch.split(value, [height * width for height, width in sides], 1)
    packed = value_index is not None
    locations = sampling_locations[None] if packed else sampling_locations
    weights = attention_weights[None] if packed else attention_weights
    total: Tensor | None = None
    for level, (height, width) in enumerate(sides):
        x_px = locations[..., level, :, 0] * width - 0.5  # (B, Q, G, P)
        y_px = locations[..., level, :, 1] * height - 0.5
        planes = _planes(levels[level], (height, width))  # (B * G, D, H, W)
        if value_index is not None:
            planes = _stack_images(planes, value.shape[2])
            first = (value_index * (height + 1) + 1).to(y_px.dtype)
            y_px = first[:, None, None] + y_px.clamp(-1.0, float(height))
        sampled = _sample(planes, _by_group(x_px), _by_group(y_px))  # (B * G, D, Q, P)
        part = (sampled * _by_group(weights[..., level, :])[:, None]).sum(-1)
        total = part if total is None else total + part
    assert total is not None  # there is a level
    batch, queries, groups = weights.shape[:3]
    output = total.view(batch, groups * value.shape[3], queries).transpose(1, 2)
    return output[0] if packed else output


def _planes(
    value: Tensor,  # (B, H * W, G, D)
    size: tuple[int, int],
) -> Tensor:  # (B * G, D, H, W)
    batch, _, groups, channels = value.shape
    return value.permute(0, 2, 3, 1).reshape(batch * groups, channels, *size)


def _stack_images(
    planes: Tensor,  # (B * G, D, H, W)
    groups: int,
) -> Tensor:  # (G, D, B * (H + 1) + 1, W)
    """Stack the images of a batch upon each other, with zeros between, before and after."""
    channels, height, width = planes.shape[1:]
    apart = functional.pad(planes, (0, 0, 0, 1)).view(-1, groups, channels, height + 1, width)
    return functional.pad(apart.permute(1, 2, 0, 3, 4).flatten(2, 3), (0, 0, 1, 0))


def _by_group(x: Tensor) -> Tensor:  # (B, Q, G, P) to (B * G, Q, P)
    return x.transpose(1, 2).flatten(0, 1)


def _sample(
    planes: Tensor,  # (B, D, H, W)
    x_px: Tensor,  # (B, Q, P) pixel centres at integers
    y_px: Tensor,  # (B, Q, P)
) -> Tensor:  # (B, D, Q, P)
    """Sample bilinearly, zero outside."""
    height, width = planes.shape[2:]
    grid = torch.stack(((2 * x_px + 1) / width - 1, (2 * y_px + 1) / height - 1), -1)
    return functional.grid_sample(planes, grid.to(planes.dtype), align_corners=False)


def nonzero_static(x: Tensor, *, size: int, fill_value: int = -1) -> Tensor:  # (size, axes)
    """Return the indices of the first ``size`` values that are not zero, in their order."""
    chosen = x.flatten() != 0
    place = chosen.to(torch.int64).cumsum(0) - 1
    dropped = ~chosen | (place >= size)
    place = place.masked_fill(dropped, size)  # one more row collects what is dropped
    index = torch.arange(chosen.numel(), device=x.device)
    start = torch.full((size + 1,), -1, dtype=torch.int64, device=x.device)
    flat = start.scatter_reduce(0, place, index, "amax")[:size]
    axes = []
    for length in reversed(x.shape):
        axes.append(flat % length)
        flat = torch.div(flat, length, rounding_mode="floor")
    rows = torch.stack(axes[::-1], -1)
    missing = start.scatter_reduce(0, place, index, "amax")[:size, None] < 0
    return rows.masked_fill(missing, fill_value)


def invert_3x3(
    matrix: Tensor,  # (..., 3, 3)
    *,
    check_errors: bool = False,
) -> tuple[Tensor, Tensor]:  # (..., 3, 3), and (...) int32, nonzero where there is no inverse
    """Return the inverse by cofactors."""
    a, b, c = matrix.unbind(-2)
    columns = (torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b))
    determinant = (a * columns[0]).sum(-1)
    inverse = torch.stack(columns, -1) / determinant[..., None, None]
    return inverse, (determinant == 0).to(torch.int32)


def _running(precedes: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    """Return the running extreme value along an axis and its index, for short axes."""

    def run(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        values: list[Tensor] = []
        indices: list[Tensor] = []
        for step, value in enumerate(x.unbind(dim)):
            index = torch.full_like(value, step, dtype=torch.int64)
            if values:
                better = precedes(value, values[-1])
                value = torch.where(better, value, values[-1])
                index = torch.where(better, index, indices[-1])
            values.append(value)
            indices.append(index)
        return torch.stack(values, dim), torch.stack(indices, dim)

    return run


def roi_align(
    maps: Tensor,  # (B, C, H, W)
    rois: Tensor,  # (R, 5) index in the batch, left, top, right, bottom in pixels
    *,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:  # (R, C, P, P)
    """Trace ``bevstack.ops.roi_align`` as ONNX's operator RoiAlign, which computes the same."""
    attributes: dict[str, int | float | str | bool | Sequence[Any]] = {
        "mode": "avg",
        "output_height": int(output_size[0]),
        "output_width": int(output_size[1]),
        "sampling_ratio": sampling_ratio,
        "spatial_scale": float(spatial_scale),
        "coordinate_transformation_mode": "half_pixel" if aligned else "output_half_pixel",
    }
    shape = (rois.shape[0], maps.shape[1], *output_size)
    inputs = (maps, rois[:, 1:], rois[:, 0].long())
    output: Tensor = torch.onnx.ops.symbolic(
        "RoiAlign", inputs, attributes, dtype=maps.dtype, shape=shape
    )
    return output


def stable_argsort(
    x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False
) -> Tensor:  # int64, the shape of x
    """Return the order of values; see ``decompositions`` about equal ones.

    Small integers, most of them flags, are made different first: OpenVINO's TopK keeps the order
    of equal values only in a mode that ONNX cannot ask for.
    """
    size = x.shape[dim]
    keys = x
    if x.dtype in (torch.bool, torch.uint8):
        place = torch.arange(size, device=x.device)
        place = place.flip(0) if descending else place
        shape = [1] * x.dim()
        shape[dim] = size
        keys = x.to(torch.int64) * size + place.view(shape)
    return keys.topk(size, dim=dim, largest=descending, sorted=True).indices


def atan2(y: Tensor, x: Tensor) -> Any:  # a tensor, or NotImplemented: keep the operator
    """Compute float64 arc tangents in float32, as ONNX Runtime has none for float64."""
    if y.dtype != torch.float64:
        return NotImplemented
    return torch.atan2(y.float(), x.float()).double()


def where(condition: Tensor, first: Tensor, second: Tensor) -> Any:  # as for ``atan2``
    """Choose between booleans by logic, as ONNX Runtime chooses between numbers only."""
    if first.dtype != torch.bool:
        return NotImplemented
    return (condition & first) | (~condition & second)
