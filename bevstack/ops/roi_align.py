"""RoIAlign (arXiv 1703.06870): the average of a map over the bins of a region of interest.

Each bin is averaged over a grid of bilinear samples. The weights of a bilinear sample are a product
of one over rows and one over columns, and so is the average over a grid. The reference therefore
needs two small matrix products over the window of the map that a region reads: rows to bins, then
columns to bins. Regions with windows of similar size are computed together.

Letters: B batch, C channels, H W map, R regions, P bins along an axis, G samples a bin along an
axis, S rows or columns of a window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.ops import bilinear, library
from bevstack.shapes import expect_shape

# Values of windows that are read at once: limits the memory.
MAX_WINDOW_VALUES = 2**23
_ARGUMENTS = (
    "Tensor maps, Tensor rois, *, SymInt[] output_size, float spatial_scale, int sampling_ratio, "
    "bool aligned"
)


def roi_align(
    maps: Tensor,  # (B, C, H, W)
    rois: Tensor,  # (R, 5) index in the batch, left, top, right, bottom in pixels
    output_size: tuple[int, int],  # bins along the height, the width
    *,
    spatial_scale: float,  # cells a pixel
    sampling_ratio: int = 0,  # samples a bin along an axis; 0: one a cell, rounded up
    aligned: bool = True,
) -> Tensor:  # (R, C, P, P)
    """Return the bins of every region.

    Samples further than one cell outside the map are zero; nearer ones take the value at its edge.
    A region without extent gives zeros. Only the maps get a gradient.

    Samples are centred on cells, as pixel i covers [i, i + 1). Without ``aligned`` they are half a
    cell off, and a side is at least one cell long, which is the older form.

    Raises:
        TypeError: a tensor is not of a floating type.
        ValueError: a wrong shape, or a region of an image that is not in the batch. On a GPU the
            latter stops the program.
    """
    library.check_tensors({"maps": maps, "rois": rois})
    expect_shape("maps", maps, ("B", "C", "H", "W"))
    expect_shape("rois", rois, ("R", 5))
    if min(output_size) < 1 or sampling_ratio < 0:
        raise ValueError(
            "output_size must be positive and sampling_ratio not negative; got "
            f"{output_size}, {sampling_ratio}"
        )
    output: Tensor = _OPERATOR(
        maps,
        rois.detach(),
        output_size=list(output_size),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    return output


class _Axis(NamedTuple):
    """Samples of the regions along one axis, in cells of the map."""

    first: Tensor  # (R,) first coordinate of a region
    bin_size: Tensor  # (R,)
    samples: Tensor  # (R,) int64, number in a bin; 0 for a region without extent
    cells: int  # of the map
    bins: int

    def pick(self, rows: Tensor) -> _Axis:
        """Return the samples of some regions."""
        return _Axis(
            self.first[rows], self.bin_size[rows], self.samples[rows], self.cells, self.bins
        )


class _Window(NamedTuple):
    """Cells that a group of regions reads, and their weights in the bins."""

    rows: Tensor  # (R,) int64, the regions
    cells: Tensor  # (R, S, S) int64, rows of (B H W)
    by_rows: Tensor  # (R, P, S)
    by_columns: Tensor  # (R, P, S)


def reference(
    maps: Tensor,
    rois: Tensor,
    *,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Compute ``roi_align`` with torch functions, one group of regions at a time."""
    dtype = bilinear.computing_dtype(maps, rois)
    output = maps.new_zeros((len(rois), maps.shape[1], *output_size))
    flat = maps.permute(0, 2, 3, 1).flatten(0, 2)  # (B H W, C)
    axes = _axes(maps, rois, dtype, output_size, spatial_scale, sampling_ratio, aligned)
    for window in _windows(maps, rois, axes):
        wide = window.cells.shape[2]
        values = flat[window.cells].to(dtype)  # (R, S, S, C)
        x_bins = torch.bmm(window.by_rows, values.flatten(2))  # (R, P, S C)
        x_bins = torch.unflatten(x_bins, 2, (wide, -1))
        bins = torch.matmul(window.by_columns[:, None], x_bins)  # (R, P, P, C)
        output[window.rows] = bins.permute(0, 3, 1, 2).to(output.dtype)
    return output


def reference_backward(
    grad_output: Tensor,
    maps: Tensor,
    rois: Tensor,
    *,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Compute the gradient to the maps, one group of regions at a time."""
    dtype = bilinear.computing_dtype(maps, rois)
    batch, channels, height, width = maps.shape
    grad = maps.new_zeros((batch * height * width, channels), dtype=dtype)
    axes = _axes(maps, rois, dtype, output_size, spatial_scale, sampling_ratio, aligned)
    for window in _windows(maps, rois, axes):
        bins = grad_output[window.rows].to(dtype).permute(0, 2, 3, 1)  # (R, P, P, C)
        x_cells = torch.matmul(window.by_columns.mT[:, None], bins)  # (R, P, S, C)
        cells = torch.bmm(window.by_rows.mT, x_cells.flatten(2))  # (R, S, S C)
        grad.index_add_(0, window.cells.flatten(), cells.reshape(-1, channels))
    shaped = grad.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return shaped.to(maps.dtype).contiguous()


def _axes(
    maps: Tensor,
    rois: Tensor,
    dtype: torch.dtype,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> list[_Axis]:  # of rows, of columns
    boxes = rois[:, 1:].to(dtype) * spatial_scale - (0.5 if aligned else 0.0)
    return [
        _axis(boxes[:, axis], boxes[:, axis + 2], cells, bins, sampling_ratio, aligned)
        for axis, cells, bins in (
            (1, maps.shape[2], output_size[0]),
            (0, maps.shape[3], output_size[1]),
        )
    ]


def _axis(
    low: Tensor,  # (R,) in cells
    high: Tensor,  # (R,)
    cells: int,
    bins: int,
    sampling_ratio: int,
    aligned: bool,
) -> _Axis:
    side = high - low if aligned else (high - low).clamp(min=1.0)
    bin_size = side / bins
    if sampling_ratio > 0:
        samples = torch.full_like(low, sampling_ratio, dtype=torch.int64)
    else:
        samples = bin_size.ceil().nan_to_num(0.0, 0.0, 0.0).long().clamp(min=0)
    return _Axis(low, bin_size, samples, cells, bins)


def _windows(maps: Tensor, rois: Tensor, axes: list[_Axis]) -> Iterator[_Window]:
    """Return the windows of groups of regions; of no region without a number in its output."""
    batch, channels, height, width = maps.shape
    if not (len(rois) and channels and height and width):
        return
    image = rois[:, 0].long()
    _check_images(image, batch)
    start = image * (height * width)
    sides = [_side(axis) for axis in axes]
    for rows in _groups(sides, channels):
        (top, tall), (left, wide) = ((first[rows], int(size[rows].max())) for first, size in sides)
        y, x = (
            (first[:, None] + torch.arange(size, device=maps.device)).clamp(max=cells - 1)
            for first, size, cells in ((top, tall, height), (left, wide, width))
        )
        cells = start[rows, None, None] + y[:, :, None] * width + x[:, None]  # (R, S, S)
        by_rows = _weights(axes[0].pick(rows), top, tall)
        by_columns = _weights(axes[1].pick(rows), left, wide)
        yield _Window(rows, cells, by_rows, by_columns)


def _check_images(image: Tensor, batch: int) -> None:
    inside = ((image >= 0) & (image < batch)).all()
    message = f"rois must be of images 0..{batch - 1}"
    if image.device.type != "cpu":
        torch._assert_async(inside, message)  # no synchronisation
    elif not inside:
        raise ValueError(f"{message}; got {image.min()}..{image.max()}")


def _side(axis: _Axis) -> tuple[Tensor, Tensor]:  # (R,) int64 each
    """Return the first cell that each region reads, and the number of cells."""
    last = axis.first + axis.bins * axis.bin_size
    ends = torch.stack((axis.first, last)).nan_to_num(0.0)
    first_cell = ends.amin(0).floor().clamp(0, axis.cells - 1).long()
    last_cell = (ends.amax(0).floor() + 1).clamp(0, axis.cells - 1).long()
    return first_cell, last_cell - first_cell + 1


def _groups(windows: list[tuple[Tensor, Tensor]], channels: int) -> list[Tensor]:
    """Return indices of regions in groups with windows of similar sides, each within the memory."""
    (_, tall), (_, wide) = windows
    kinds = 64 * _size_class(tall) + _size_class(wide)
    order = kinds.argsort(stable=True)
    rows = zip(kinds[order].tolist(), tall[order].tolist(), wide[order].tolist(), strict=True)
    sizes: list[int] = []
    previous, most_tall, most_wide = -1, 0, 0
    for kind, height, width in rows:
        most_tall, most_wide = max(most_tall, height), max(most_wide, width)
        full = sizes and (sizes[-1] + 1) * most_tall * most_wide * channels > MAX_WINDOW_VALUES
        if kind != previous or full:
            sizes.append(0)
            previous, most_tall, most_wide = kind, height, width
        sizes[-1] += 1
    return list(torch.split(order, sizes))


def _size_class(
    size: Tensor,  # (R,) int64, at least 1
) -> Tensor:  # (R,) int64
    """Return a number that sizes within a factor of 1.5 share; those up to 8 share one."""
    return ((size / 8).log() / math.log(1.5)).ceil().clamp(min=0).long()


def _weights(
    axis: _Axis,
    first_cell: Tensor,  # (R,) int64
    size: int,  # S
) -> Tensor:  # (R, P, S)
    """Return the weight of each cell of the window in each bin."""
    device = axis.first.device
    most = max(1, int(axis.samples.max()))
    bins = torch.arange(axis.bins, device=device)[:, None]
    steps = torch.arange(most, device=device) + 0.5
    samples = axis.samples[:, None, None]
    bin_size = axis.bin_size[:, None, None]
    at = axis.first[:, None, None] + bins * bin_size + steps * bin_size / samples.clamp(min=1)
    used = (steps < samples) & (at >= -1) & (at <= axis.cells)  # (R, P, G)
    at = torch.where(used, at, 0.0).clamp(0, axis.cells - 1)
    low = at.floor()
    share = at - low  # of the next cell
    each = used / samples.clamp(min=1)
    low_cell = (low.long() - first_cell[:, None, None]).clamp(0, size - 1)
    high_cell = (low_cell + 1).clamp(max=size - 1)
    weights = at.new_zeros((len(at), axis.bins, size))
    weights.scatter_add_(2, low_cell, (1 - share) * each)
    return weights.scatter_add_(2, high_cell, share * each)


def _fake(
    maps: Tensor,
    rois: Tensor,
    *,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return maps.new_empty((rois.shape[0], maps.shape[1], *output_size))


def _fake_backward(
    grad_output: Tensor,
    maps: Tensor,
    rois: Tensor,
    *,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return maps.new_empty(maps.shape)


_OPERATOR = library.define(f"roi_align({_ARGUMENTS}) -> Tensor", reference)
library.define(
    f"roi_align_backward(Tensor grad_output, {_ARGUMENTS}) -> Tensor", reference_backward
)
library.register_map_gradient("roi_align", _fake, _fake_backward)
