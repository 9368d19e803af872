"""Multi-scale deformable attention (Deformable DETR, Zhu et al., arXiv:2010.04159, equation 3).

Letters: B batch, Q queries, M packed query rows (each with an image index), H heads, D channels of
a head, L levels, P points, S pixels of all levels together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bevstack.ops import bilinear, library
from bevstack.shapes import expect_shape

_ARGUMENTS = (
    "Tensor value, Tensor sampling_locations, Tensor attention_weights, Tensor? value_index, *, "
    "SymInt[] spatial_shapes"
)


def ms_deform_attn(
    value: Tensor,  # (B, S, H, D)
    spatial_shapes: Sequence[tuple[int, int]] | Tensor,  # L pairs (height, width)
    sampling_locations: Tensor,  # (B, Q, H, L, P, 2), or (M, H, L, P, 2) with value_index
    attention_weights: Tensor,  # (B, Q, H, L, P), or (M, H, L, P) with value_index
    *,
    value_index: Tensor | None = None,  # (M,) int64
) -> Tensor:
    """Sum bilinear samples of every level with their attention weights.

    Sampling locations are (x, y), normalised to the image: 0 is its left or top edge, 1 its right
    or bottom edge. Pixel centres are at (i + 0.5) / size; the value is zero outside. A sample one
    pixel or more outside, or at a NaN or infinite location, contributes exactly 0 to the value and
    to every gradient. At a pixel's centre the derivative is the right-hand one.

    Coordinates and sums are computed in float32 (in float64 if a tensor is float64), independent of
    the type of ``value``. Autocast lowers only ``value``. Keep the locations in float32: bfloat16
    shifts a sample by 0.4 cell on a 200-cell grid.

    Args:
        value: Pixels of each level row by row, one level after the other.
        spatial_shapes: Sizes of the levels. A tensor is copied to the host, which a compiled graph
            cannot do.
        sampling_locations: Sampling location of each point.
        attention_weights: Weight of each sample, usually normalised over levels and points.
        value_index: Image of each packed row: row m samples ``value[value_index[m]]``. An index
            outside 0..B-1 raises on the CPU. On a GPU its row is NaN, and the next call on that GPU
            raises; with CUDA_LAUNCH_BLOCKING=1, the call itself.

    Returns:
        (B, Q, H * D), or (M, H * D) with ``value_index``; of the type of ``value``.

    Raises:
        TypeError: A tensor is not of a floating type, or ``value_index`` is not int64.
        ValueError: Names the argument whose shape, device or value does not fit.
    """
    tensors = {
        "value": value,
        "sampling_locations": sampling_locations,
        "attention_weights": attention_weights,
    }
    library.check_tensors(tensors)
    flat_shapes = flat_sizes(spatial_shapes)
    names = ("sampling_locations", "attention_weights")
    check_sizes(value, flat_shapes, sampling_locations, attention_weights, value_index, names=names)
    output: Tensor = _OPERATOR(
        value, sampling_locations, attention_weights, value_index, spatial_shapes=flat_shapes
    )
    return output


def check_sizes(
    value: Tensor,  # (B, S, H, D)
    flat_shapes: Sequence[int],
    places: Tensor,  # (..., H, L, P, 2)
    weights: Tensor,  # (..., H, L, P)
    value_index: Tensor | None,
    *,
    names: tuple[str, str],  # of places and weights
) -> dict[str, int]:
    """Return the sizes of a call by their letters.

    Raises:
        TypeError: ``value_index`` is not int64.
        ValueError: Names the argument whose shape or device does not fit.
    """
    levels = len(flat_shapes) // 2
    sizes = expect_shape("value", value, ("B", "S", "H", "D"))
    pixels = sum(h * w for h, w in zip(flat_shapes[::2], flat_shapes[1::2], strict=True))
    if sizes["S"] != pixels:
        raise ValueError(
            f"value must have the {pixels} pixels of spatial_shapes {list(flat_shapes)}; got "
            f"{sizes['S']}"
        )
    query: tuple[int | str, ...] = ("B", "Q", "H", levels, "P")
    if value_index is not None:
        query = ("M", "H", levels, "P")
        _check_value_index(value_index, value)
    sizes = expect_shape(names[0], places, (*query, 2), sizes)
    expect_shape(names[1], weights, query, sizes)
    if value_index is not None:
        expect_shape("value_index", value_index, ("M",), sizes)
    return sizes


def flat_sizes(spatial_shapes: Sequence[tuple[int, int]] | Tensor) -> list[int]:
    """Return height and width of each level in one list.

    Raises:
        ValueError: They are no pairs of positive sizes.
    """
    if isinstance(spatial_shapes, Tensor):
        expect_shape("spatial_shapes", spatial_shapes, ("L", 2))
        spatial_shapes = spatial_shapes.tolist()
    if any(len(pair) != 2 for pair in spatial_shapes):
        raise ValueError(
            f"spatial_shapes must hold pairs (height, width); got {list(spatial_shapes)}"
        )
    flat = [size for pair in spatial_shapes for size in pair]
    if not flat or any(size < 1 for size in flat):
        raise ValueError(f"spatial_shapes must be positive (height, width) pairs; got {flat}")
    return flat


def _check_value_index(value_index: Tensor, value: Tensor) -> None:
    if value_index.dtype != torch.int64:
        raise TypeError(f"value_index must be int64; got {value_index.dtype}")
    if value_index.device != value.device:
        raise ValueError(
            f"value_index must be on {value.device}, where value is; got {value_index.device}"
        )


class _Rows:
    """Tensors of one call, reshaped to rows of (query, head) for both forms of the arguments."""

    def __init__(
        self,
        value: Tensor,
        sampling_locations: Tensor,
        *,
        attention_weights: Tensor,
        value_index: Tensor | None,
        spatial_shapes: Sequence[int],
    ) -> None:
        self.batch, self.pixels, self.heads, self.channels = value.shape
        self.dtype = bilinear.computing_dtype(value, sampling_locations, attention_weights)
        self.table = bilinear.row_table(value.reshape(-1, self.channels), self.dtype)
        self.locations = sampling_locations.reshape(-1, *sampling_locations.shape[-3:])
        self.weights = attention_weights.reshape(-1, *attention_weights.shape[-2:])
        self.index = value_index
        self.queries = attention_weights.shape[1]
        if value_index is not None:
            _check_range(value_index, self.batch)
        shapes = torch.tensor(spatial_shapes, device=value.device).view(-1, 1, 2)
        self.height, self.width = shapes.unbind(-1)  # (L, 1)
        areas = (self.height * self.width).squeeze(-1)
        self.level_start = (areas.cumsum(0) - areas).unsqueeze(-1)  # (L, 1)

    def parts(self) -> list[slice]:
        levels, points = self.weights.shape[1:]
        return list(bilinear.blocks(self.weights.shape[0], levels * points * 4))

    def locate(self, part: slice) -> bilinear.Samples:
        """Compute the samples of rows ``part``; each field is (rows, L, P, ...)."""
        row = torch.arange(part.start, part.stop, device=self.table.device)
        query, head = row // self.heads, row % self.heads
        image = query // self.queries if self.index is None else self.index[query]
        pixel = image[:, None, None] * self.pixels + self.level_start  # (rows, L, 1)
        locations = self.locations[part].to(self.dtype)
        return bilinear.locate(
            locations[..., 0] * self.width - 0.5,
            locations[..., 1] * self.height - 0.5,
            self.height,
            self.width,
            pixel * self.heads + head[:, None, None],
            self.heads,
            zero_row=self.table.shape[0] - 1,
        )


def _check_range(value_index: Tensor, batch: int) -> None:
    inside = ((value_index >= 0) & (value_index < batch)).all()
    message = f"value_index must lie in 0..{batch - 1}, the images of value"
    if value_index.is_cuda and torch.cuda.is_current_stream_capturing():
        torch._assert_async(inside, message)  # a graph cannot be read while it is recorded
    elif not inside:
        raise ValueError(f"{message}; got {value_index.min()}..{value_index.max()}")


def reference(
    value: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    value_index: Tensor | None,
    *,
    spatial_shapes: Sequence[int],
) -> Tensor:
    """Compute ``ms_deform_attn`` with torch functions, one block of rows at a time."""
    rows = _Rows(
        value,
        sampling_locations,
        attention_weights=attention_weights,
        value_index=value_index,
        spatial_shapes=spatial_shapes,
    )
    output = value.new_empty((rows.weights.shape[0], rows.channels))
    for part in rows.parts():
        samples = rows.locate(part)
        weights = bilinear.weighted_rows(samples, rows.weights[part].to(rows.dtype))
        block = bilinear.gather_sums(rows.table, samples.rows.flatten(1), weights.flatten(1))
        output[part] = block.to(output.dtype)
    return output.view(*_query_axes(attention_weights, value_index), rows.heads * rows.channels)


def reference_backward(
    grad_output: Tensor,
    value: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    value_index: Tensor | None,
    *,
    spatial_shapes: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients to value, locations and weights, one block of rows at a time."""
    rows = _Rows(
        value,
        sampling_locations,
        attention_weights=attention_weights,
        value_index=value_index,
        spatial_shapes=spatial_shapes,
    )
    grads = grad_output.reshape(-1, rows.channels)
    grad_table = torch.zeros_like(rows.table)
    grad_locations = torch.empty_like(rows.locations, memory_format=torch.contiguous_format)
    grad_weights = torch.empty_like(rows.weights, memory_format=torch.contiguous_format)
    for part in rows.parts():
        samples = rows.locate(part)
        factor = rows.weights[part].to(rows.dtype)
        entries = samples.rows.flatten(1)  # (rows, L * P * 4)
        grad = grads[part].to(rows.dtype)
        weights = bilinear.weighted_rows(samples, factor).flatten(1)
        bilinear.scatter_sums(grad_table, entries, weights, grad)
        products = bilinear.corner_products(rows.table, entries, grad).view(samples.rows.shape)
        to_factor, to_x, to_y = bilinear.sample_gradients(samples, products, factor)
        to_location = torch.stack((to_x * rows.width, to_y * rows.height), dim=-1)
        grad_locations[part] = to_location.to(grad_locations.dtype)
        grad_weights[part] = to_factor.to(grad_weights.dtype)
    return (
        grad_table[:-1].to(value.dtype).view(value.shape),
        grad_locations.view(sampling_locations.shape),
        grad_weights.view(attention_weights.shape),
    )


def _query_axes(attention_weights: Tensor, value_index: Tensor | None) -> Sequence[int]:
    return attention_weights.shape[: 2 if value_index is None else 1]


def _fake(
    value: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    value_index: Tensor | None,
) -> Tensor:
    axes = _query_axes(attention_weights, value_index)
    return value.new_empty((*axes, value.shape[2] * value.shape[3]))


def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    value_index: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = (value, sampling_locations, attention_weights)
    grad_value, grad_locations, grad_weights = (t.new_empty(t.shape) for t in tensors)
    return grad_value, grad_locations, grad_weights


_OPERATOR = library.define(f"ms_deform_attn({_ARGUMENTS}) -> Tensor", reference)
library.define(
    f"ms_deform_attn_backward(Tensor grad_output, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    reference_backward,
)
library.register_gradient("ms_deform_attn", _fake, _fake_backward)
library.register_autocast("ms_deform_attn", cast_positions=(0,))
