"""Bilinear sampling of feature maps stored as a table of rows; used by the reference operators.

A feature map becomes a contiguous table with one row for each (image, pixel, group). A row holds
the channels of that group. A last row of zeros stands for every corner outside the map. A sample
is then four row indices and four weights, and sampling is a weighted sum of rows.

Letters: R rows of the table, D channels of a row, S sums (output rows), K entries of one sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_ENTRIES_AT_ONCE = 1 << 16  # row indices in memory at a time: limits scratch memory to a few MB


class Samples(NamedTuple):
    """Corners of bilinear samples, in the order (y0, x0), (y0, x1), (y1, x0), (y1, x1)."""

    rows: Tensor  # (..., 4) int64 row indices; the index of the zero row for a corner outside
    weights: Tensor  # (..., 4)
    fraction_x: Tensor  # (...)
    fraction_y: Tensor  # (...)
    valid: Tensor  # (...) bool: the sample touches the map; False for NaN and infinities


def blocks(sums: int, entries: int) -> Iterator[slice]:
    """Yield slices that split ``sums`` sums of ``entries`` entries each into cache-sized blocks."""
    step = max(1, _ENTRIES_AT_ONCE // max(1, entries))
    for start in range(0, sums, step):
        yield slice(start, min(start + step, sums))


def row_table(rows: Tensor, dtype: torch.dtype) -> Tensor:  # rows (R, D)
    """Copy rows into a table (R + 1, D) of the given type whose last row is zero."""
    table = rows.new_zeros((rows.shape[0] + 1, rows.shape[1]), dtype=dtype)
    table[:-1] = rows
    return table


def locate(
    x: Tensor,  # (...) in pixels, pixel centres at integers
    y: Tensor,  # (...)
    height: Tensor | int,  # of the sampled map; a tensor broadcasts to x
    width: Tensor | int,
    first_row: Tensor,  # int64, broadcasts to x: the table row of the map's pixel (0, 0)
    row_stride: int,  # table rows from one pixel to the next
    zero_row: int,
) -> Samples:
    """Compute the four corners of each sample.

    A sample is valid if -1 < x < width and -1 < y < height; the map is zero outside its borders.
    Corners come from the floor, so the derivative at integer positions is the right-hand one.
    """
    valid = (x > -1) & (x < width) & (y > -1) & (y < height)
    x = torch.where(valid, x, 0.0)
    y = torch.where(valid, y, 0.0)
    x0, y0 = x.floor(), y.floor()
    fraction_x, fraction_y = x - x0, y - y0
    column, line = x0.long(), y0.long()
    inside_x0, inside_x1 = valid & (column >= 0), valid & (column + 1 < width)
    inside_y0, inside_y1 = line >= 0, line + 1 < height
    row = first_row + (line * width + column) * row_stride
    below = row_stride * width
    rows = torch.stack(
        (
            torch.where(inside_x0 & inside_y0, row, zero_row),
            torch.where(inside_x1 & inside_y0, row + row_stride, zero_row),
            torch.where(inside_x0 & inside_y1, row + below, zero_row),
            torch.where(inside_x1 & inside_y1, row + row_stride + below, zero_row),
        ),
        dim=-1,
    )
    left, top = 1 - fraction_x, 1 - fraction_y
    weights = torch.stack(
        (top * left, top * fraction_x, fraction_y * left, fraction_y * fraction_x), dim=-1
    )
    return Samples(rows, weights, fraction_x, fraction_y, valid)


def weighted_rows(samples: Samples, factor: Tensor) -> Tensor:  # factor (...), one for each sample
    """Return the corner weights times a factor, zero for invalid samples."""
    factor = torch.where(samples.valid, factor, 0.0)
    return samples.weights * factor.unsqueeze(-1)  # (..., 4)


def gather_sums(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Return sum_k weights[s, k] * table[rows[s, k]]: (S, D)."""
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


def scatter_sums(grad_table: Tensor, rows: Tensor, weights: Tensor, grad: Tensor) -> None:
    """Add weights[s, k] * grad[s] to grad_table[rows[s, k]]: the transpose of gather_sums."""
    spread = weights.unsqueeze(-1) * grad.unsqueeze(1)  # (S, K, D)
    grad_table.index_add_(0, rows.flatten(), spread.flatten(0, 1))


def corner_products(table: Tensor, rows: Tensor, grad: Tensor) -> Tensor:
    """Return the inner product of grad[s] with table[rows[s, k]]: (S, K)."""
    corners = torch.unflatten(table.index_select(0, rows.flatten()), 0, rows.shape)  # (S, K, D)
    return torch.bmm(corners, grad.unsqueeze(-1)).squeeze(-1)


def sample_gradients(
    samples: Samples,
    products: Tensor,  # (..., 4), see corner_products
    factor: Tensor,  # (...) the factor that multiplied the sample
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients to factor, x and y, each (...) and exactly 0 for invalid samples."""
    p00, p01, p10, p11 = products.unbind(-1)
    fraction_x, fraction_y = samples.fraction_x, samples.fraction_y
    top, bottom = p01 - p00, p11 - p10
    left, right = p10 - p00, p11 - p01
    grad_x = factor * (top + fraction_y * (bottom - top))
    grad_y = factor * (left + fraction_x * (right - left))
    grad_factor = (samples.weights * products).sum(-1)
    zero = products.new_zeros(())
    return (
        torch.where(samples.valid, grad_factor, zero),
        torch.where(samples.valid, grad_x, zero),
        torch.where(samples.valid, grad_y, zero),
    )


def computing_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the type of the arithmetic: float64 if any tensor is float64, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
