"""Deformable convolution v3, the core of InternImage (Wang et al., arXiv:2211.05778, section 3.1).

Letters: B batch, H W input size, Y X output size, G groups, D channels of a group, P points of the
kernel (height * width, minus one with ``remove_center``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.ops import bilinear, library
from bevstack.shapes import expect_shape

_ARGUMENTS = (
    "Tensor input, Tensor offset, Tensor mask, *, SymInt[2] kernel_size, SymInt[2] stride, "
    "SymInt[2] padding, SymInt[2] dilation, SymInt groups, float offset_scale=1.0, "
    "bool remove_center=False, bool softmax=False"
)


def dcnv3(
    input: Tensor,  # (B, H, W, G * D)
    offset: Tensor,  # (B, Y, X, G * P * 2), pairs (x, y) in input pixels before offset_scale
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
) -> Tensor:
    """Sample each channel group at P deformable points and sum the samples with the mask weights.

    Pairs are (height, width). Point p = i * kernel_height + j of output (y, x), with kernel column
    i as the outer and kernel row j as the inner index, samples the input at

        x_px = x * stride - padding + c + (i * dilation - c + offset_x) * offset_scale,

    where c = floor(dilation * (kernel - 1) / 2), and at y_px, computed likewise with j. Sampling is
    bilinear with pixel centres at integers; the input is zero outside its borders. A point whose
    coordinate is <= -1, >= the size, NaN or infinite contributes exactly 0 to the value and to
    every gradient. At integer coordinates the derivative is the right-hand one, like in the
    published CUDA kernel.

    Coordinates and sums are computed in float32 (in float64 if a tensor is float64), independent of
    the type of ``input``. Autocast lowers only ``input``.

    Args:
        input: Features, channels last.
        offset: Displacement of each point.
        mask: Weight of each point; logits if ``softmax`` is set.
        kernel_size: Rows and columns of the kernel.
        stride: Input pixels from one output to the next.
        padding: Zero pixels added at each border of the input.
        dilation: Input pixels from one kernel point to the next.
        groups: G; each group has its offsets and masks.
        offset_scale: Factor on offsets and kernel grid, about the kernel's centre.
        remove_center: Omit the centre point of a kernel of odd size.
        softmax: Normalise ``mask`` over the points of each group first.

    Returns:
        (B, Y, X, G * D), of the type of ``input``.

    Raises:
        TypeError: A tensor is not of a floating type.
        ValueError: Names the argument whose shape, device or value does not fit.
    """
    library.check_tensors({"input": input, "offset": offset, "mask": mask})
    _check_pair("kernel_size", kernel_size, 1)
    _check_pair("stride", stride, 1)
    _check_pair("padding", padding, 0)
    _check_pair("dilation", dilation, 1)
    points = _check_points(kernel_size, groups, offset_scale, remove_center)
    sizes = expect_shape("input", input, ("B", "H", "W", "C"))
    if sizes["C"] % groups:
        raise ValueError(
            f"input must have a multiple of groups={groups} channels; got {sizes['C']}"
        )
    height, width = dcnv3_output_size(
        (sizes["H"], sizes["W"]), kernel_size, stride, padding, dilation
    )
    expect_shape("offset", offset, (sizes["B"], height, width, groups * points * 2))
    expect_shape("mask", mask, (sizes["B"], height, width, groups * points))
    output: Tensor = _OPERATOR(
        input,
        offset,
        mask,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        offset_scale=offset_scale,
        remove_center=remove_center,
        softmax=softmax,
    )
    return output


def dcnv3_output_size(
    input_size: tuple[int, int],
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Return the (height, width) of the output, which equals that of a convolution.

    Raises:
        ValueError: The kernel does not fit into the padded input.
    """
    height, width = (
        (size + 2 * pad - dil * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, dil in zip(
            input_size, kernel_size, stride, padding, dilation, strict=True
        )
    )
    if height < 1 or width < 1:
        raise ValueError(
            f"input must be at least as large as the dilated kernel after padding; got size "
            f"{tuple(input_size)}, kernel_size {tuple(kernel_size)}, padding {tuple(padding)}, "
            f"dilation {tuple(dilation)}"
        )
    return height, width


def _check_pair(name: str, pair: tuple[int, int], at_least: int) -> None:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"{name} must be a pair (height, width); got {pair!r}")
    if pair[0] < at_least or pair[1] < at_least:
        raise ValueError(f"{name} must be two integers of at least {at_least}; got {pair!r}")


def _check_points(
    kernel_size: tuple[int, int], groups: int, offset_scale: float, remove_center: bool
) -> int:
    if groups < 1:
        raise ValueError(f"groups must be at least 1; got {groups}")
    if not -math.inf < offset_scale < math.inf:  # isfinite() cannot be compiled
        raise ValueError(f"offset_scale must be finite; got {offset_scale}")
    points = kernel_size[0] * kernel_size[1] - int(remove_center)
    if remove_center and (kernel_size[0] % 2 == 0 or kernel_size[1] % 2 == 0):
        raise ValueError(f"kernel_size must be odd with remove_center; got {tuple(kernel_size)}")
    if points < 1:
        raise ValueError("kernel_size must leave a point with remove_center; got (1, 1)")
    return points


def point_grid(
    axis: int,  # 0: rows, 1: columns
    *,
    kernel_size: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    offset_scale: float,
    remove_center: bool,
) -> list[float]:
    """Return the coordinate of each point along an axis, in pixels, for output 0 and offset 0."""
    center = dilation[axis] * (kernel_size[axis] - 1) // 2
    start = center - padding[axis]
    rows, columns = kernel_size
    steps = [(j, i) for i in range(columns) for j in range(rows)]
    if remove_center:
        steps.remove((rows // 2, columns // 2))
    return [start + (step[axis] * dilation[axis] - center) * offset_scale for step in steps]


class _Geometry(NamedTuple):
    """Options of one call of the reference."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    offset_scale: float
    remove_center: bool
    softmax: bool

    def grid(self, axis: int) -> list[float]:
        """Return the coordinate of each point along an axis, for output 0 and zero offset."""
        return point_grid(
            axis,
            kernel_size=self.kernel_size,
            padding=self.padding,
            dilation=self.dilation,
            offset_scale=self.offset_scale,
            remove_center=self.remove_center,
        )


def _locate_block(
    part: slice, input: Tensor, offset: Tensor, geometry: _Geometry
) -> bilinear.Samples:
    """Compute the samples of the outputs ``part`` of (B * Y * X); each field is (S, G, P, ...)."""
    _, height, width, _ = input.shape
    _, out_height, out_width, _ = offset.shape
    groups, device = geometry.groups, input.device
    offset = torch.unflatten(offset.flatten(0, 2)[part], 1, (groups, -1, 2))  # (S, G, P, 2)
    output = torch.arange(part.start, part.stop, device=device)  # index into (B * Y * X)
    column, line = output % out_width, (output // out_width) % out_height
    image = output // (out_height * out_width)

    def coordinate(index: Tensor, axis: int, shift: Tensor) -> Tensor:
        grid = offset.new_tensor(geometry.grid(axis))
        start = (index * geometry.stride[axis]).to(offset.dtype)[:, None, None]
        return start + grid + shift * geometry.offset_scale

    group = torch.arange(groups, device=device)
    first_row = image[:, None] * (height * width * groups) + group  # (S, G)
    return bilinear.locate(
        coordinate(column, 1, offset[..., 0]),
        coordinate(line, 0, offset[..., 1]),
        height,
        width,
        first_row[:, :, None],
        groups,
        zero_row=input.shape[0] * height * width * groups,
    )


def _mask_block(part: slice, mask: Tensor, geometry: _Geometry) -> Tensor:  # (S, G, P)
    block = torch.unflatten(mask.flatten(0, 2)[part], 1, (geometry.groups, -1))
    return block.softmax(-1) if geometry.softmax else block


def reference(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
    softmax: bool = False,
) -> Tensor:
    """Compute ``dcnv3`` with torch functions, one block of outputs at a time."""
    geometry = _Geometry(
        kernel_size, stride, padding, dilation, groups, offset_scale, remove_center, softmax
    )
    dtype = bilinear.computing_dtype(input, offset, mask)
    table = _table(input, groups, dtype)
    offset, mask = offset.to(dtype), mask.to(dtype)
    output = input.new_empty((*mask.shape[:3], input.shape[3]))
    sums = output.view(-1, groups, input.shape[3] // groups)  # (B * Y * X, G, D)
    for part in bilinear.blocks(sums.shape[0], mask.shape[3] * 4):
        samples = _locate_block(part, input, offset, geometry)
        weights = bilinear.weighted_rows(samples, _mask_block(part, mask, geometry))
        block = bilinear.gather_sums(
            table, samples.rows.flatten(2).flatten(0, 1), weights.flatten(2).flatten(0, 1)
        )
        sums[part] = block.view(-1, *sums.shape[1:]).to(sums.dtype)
    return output


def reference_backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
    softmax: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of ``dcnv3`` to input, offset and mask, one block at a time."""
    geometry = _Geometry(
        kernel_size, stride, padding, dilation, groups, offset_scale, remove_center, softmax
    )
    dtype = bilinear.computing_dtype(input, offset, mask)
    table = _table(input, groups, dtype)
    grad_table = torch.zeros_like(table)
    channels = input.shape[3] // groups
    grads = grad_output.reshape(-1, groups, channels)
    grad_offset = torch.empty_like(offset, memory_format=torch.contiguous_format)
    grad_mask = torch.empty_like(mask, memory_format=torch.contiguous_format)
    offset, mask = offset.to(dtype), mask.to(dtype)
    for part in bilinear.blocks(grads.shape[0], mask.shape[3] * 4):
        samples = _locate_block(part, input, offset, geometry)
        factor = _mask_block(part, mask, geometry)
        rows = samples.rows.flatten(2).flatten(0, 1)  # (S * G, P * 4)
        grad = grads[part].reshape(-1, channels).to(dtype)  # (S * G, D)
        weights = bilinear.weighted_rows(samples, factor).flatten(2).flatten(0, 1)
        bilinear.scatter_sums(grad_table, rows, weights, grad)
        products = bilinear.corner_products(table, rows, grad).view(samples.rows.shape)
        to_factor, to_x, to_y = bilinear.sample_gradients(samples, products, factor)
        if softmax:
            to_factor = factor * (to_factor - (factor * to_factor).sum(-1, keepdim=True))
        to_offset = torch.stack((to_x, to_y), dim=-1) * offset_scale
        grad_mask.flatten(0, 2)[part] = to_factor.flatten(1).to(grad_mask.dtype)
        grad_offset.flatten(0, 2)[part] = to_offset.flatten(1).to(grad_offset.dtype)
    grad_input = grad_table[:-1].to(input.dtype).view(input.shape)
    return grad_input, grad_offset, grad_mask


def _table(input: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    return bilinear.row_table(input.reshape(-1, input.shape[3] // groups), dtype)


def _fake(input: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    return input.new_empty((*mask.shape[:3], input.shape[3]))


def _fake_backward(
    grad_output: Tensor, input: Tensor, offset: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return input.new_empty(input.shape), offset.new_empty(offset.shape), mask.new_empty(mask.shape)


_OPERATOR = library.define(f"dcnv3({_ARGUMENTS}) -> Tensor", reference)
library.define(
    f"dcnv3_backward(Tensor grad_output, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    reference_backward,
)
library.register_gradient("dcnv3", _fake, _fake_backward)
library.register_autocast("dcnv3", cast_positions=(0,))
