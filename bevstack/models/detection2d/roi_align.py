"""RoIAlign (arXiv 1703.06870): the average of a map over the bins of a region of interest.

Each bin is averaged over a grid of bilinear samples. The weights of a bilinear sample are a product
of one over rows and one over columns, and so is the average over a grid. A region therefore needs
two small matrix products over the window of the map that it reads: rows to bins, then columns to
bins. Regions with windows of similar size are computed together.

Letters: B batch, C channels, H W map, R regions, P bins along an axis, G samples a bin along an
axis, S rows or columns of a window.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.shapes import expect_shape

# Values of windows that are read at once: limits the memory.
MAX_WINDOW_VALUES = 2**23


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
    A region without extent gives zeros.

    Samples are centred on cells, as pixel i covers [i, i + 1). Without ``aligned`` they are half a
    cell off, and a side is at least one cell long, which is the older form.

    Raises:
        ValueError: a wrong shape.
    """
    expect_shape("maps", maps, ("B", "C", "H", "W"))
    expect_shape("rois", rois, ("R", 5))
    boxes = rois[:, 1:].detach() * spatial_scale - (0.5 if aligned else 0.0)
    axes = [
        _axis(boxes[:, axis], boxes[:, axis + 2], cells, bins, sampling_ratio, aligned)
        for axis, cells, bins in (
            (1, maps.shape[2], output_size[0]),
            (0, maps.shape[3], output_size[1]),
        )
    ]
    output = maps.new_zeros((len(rois), maps.shape[1], *output_size))
    if not output.numel():
        return output + maps.sum() * 0  # connected to the maps even without a region
    windows = [_window(axis) for axis in axes]
    flat = maps.permute(0, 2, 3, 1).flatten(0, 2)  # (B H W, C)
    start = rois[:, 0].long() * (maps.shape[2] * maps.shape[3])
    parts, order = [], _groups(windows, maps.shape[1])
    for rows in order:
        (top, tall), (left, wide) = (
            (first[rows], int(size[rows].max())) for first, size in windows
        )
        y, x = (
            (first[:, None] + torch.arange(size, device=maps.device)).clamp(max=cells - 1)
            for first, size, cells in ((top, tall, maps.shape[2]), (left, wide, maps.shape[3]))
        )
        index = start[rows, None, None] + y[:, :, None] * maps.shape[3] + x[:, None]  # (R, S, S)
        window = flat[index]  # (R, S, S, C)
        by_rows = _weights(axes[0].pick(rows), top, tall).to(maps.dtype)  # (R, P, S)
        by_columns = _weights(axes[1].pick(rows), left, wide).to(maps.dtype)
        x_bins = torch.unflatten(
            torch.bmm(by_rows, window.flatten(2)), 2, (wide, -1)
        )  # (R, P, S, C)
        parts.append(torch.matmul(by_columns[:, None], x_bins).permute(0, 3, 1, 2))  # (R, C, P, P)
    return torch.cat(parts)[torch.cat(order).argsort()]


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
        samples = bin_size.ceil().long().clamp(min=0)
    return _Axis(low, bin_size, samples, cells, bins)


def _window(axis: _Axis) -> tuple[Tensor, Tensor]:  # (R,) int64 each
    """Return the first cell that each region reads, and the number of cells."""
    last = axis.first + axis.bins * axis.bin_size
    first_cell = axis.first.floor().clamp(0, axis.cells - 1).long()
    last_cell = (last.floor() + 1).clamp(0, axis.cells - 1).long()
    return first_cell, (last_cell - first_cell + 1).clamp(min=1)


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
    at = at.clamp(0, axis.cells - 1)
    low = at.floor()
    share = at - low  # of the next cell
    each = used / samples.clamp(min=1)
    low_cell = (low.long() - first_cell[:, None, None]).clamp(0, size - 1)
    high_cell = (low_cell + 1).clamp(max=size - 1)
    weights = at.new_zeros((len(at), axis.bins, size))
    weights.scatter_add_(2, low_cell, (1 - share) * each)
    return weights.scatter_add_(2, high_cell, share * each)
