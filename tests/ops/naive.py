"""Operators and their gradients as plain loops over numbers, written from the formulas.

The code shares nothing with the implementation. It computes one sample at a time in Python floats,
so that each line can be compared with the formula that defines it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Corner = tuple[int, int, float, float, float]


def corners(x: float, y: float, height: int, width: int) -> Iterator[Corner]:
    """Yield (row, column, weight, d weight / dx, d weight / dy) of the corners inside the map."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return
    if not (-1 < x < width and -1 < y < height):
        return
    column, row = math.floor(x), math.floor(y)
    for down, right in product((0, 1), (0, 1)):
        if 0 <= row + down < height and 0 <= column + right < width:
            along_x = x - column if right else 1 - (x - column)
            along_y = y - row if down else 1 - (y - row)
            to_x = along_y * (1 if right else -1)
            to_y = along_x * (1 if down else -1)
            yield row + down, column + right, along_x * along_y, to_x, to_y


def normalised(values: Array) -> Array:
    exponentials = np.array([math.exp(v - max(values)) for v in values])
    return exponentials / exponentials.sum()


def kernel_points(kernel_size: tuple[int, int], remove_center: bool) -> list[tuple[int, int]]:
    """Return (i, j), the kernel's column and row, of each point; the column is the outer index."""
    rows, columns = kernel_size
    points = []
    for i in range(columns):
        for j in range(rows):
            if not (remove_center and i == columns // 2 and j == rows // 2):
                points.append((i, j))
    return points


def dcnv3(
    input: Array,
    offset: Array,
    mask: Array,
    grad_output: Array,
    *,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
    softmax: bool = False,
) -> tuple[Array, Array, Array, Array]:
    """Return the output and the gradients to input, offset and mask."""
    _, height, width, channels = input.shape
    points = kernel_points(kernel_size, remove_center)
    depth = channels // groups
    output = np.zeros((*mask.shape[:3], channels))
    grad_input, grad_offset, grad_mask = (np.zeros(a.shape) for a in (input, offset, mask))
    center = [math.floor(d * (k - 1) / 2) for d, k in zip(dilation, kernel_size, strict=True)]
    for b, oy, ox, g in product(*map(range, (*mask.shape[:3], groups))):
        here = mask[b, oy, ox, g * len(points) : (g + 1) * len(points)]
        factors = normalised(here) if softmax else here
        to_factor = np.zeros(len(points))
        for p, (i, j) in enumerate(points):
            at = (g * len(points) + p) * 2
            dx, dy = offset[b, oy, ox, at], offset[b, oy, ox, at + 1]
            x = ox * stride[1] - padding[1] + center[1] - center[1] * offset_scale
            x += (i * dilation[1] + dx) * offset_scale
            y = oy * stride[0] - padding[0] + center[0] - center[0] * offset_scale
            y += (j * dilation[0] + dy) * offset_scale
            for row, column, weight, to_x, to_y in corners(x, y, height, width):
                for c in range(g * depth, (g + 1) * depth):
                    pixel, grad = input[b, row, column, c], grad_output[b, oy, ox, c]
                    output[b, oy, ox, c] += factors[p] * weight * pixel
                    grad_input[b, row, column, c] += factors[p] * weight * grad
                    to_factor[p] += weight * pixel * grad
                    grad_offset[b, oy, ox, at] += factors[p] * to_x * pixel * grad * offset_scale
                    grad_offset[b, oy, ox, at + 1] += (
                        factors[p] * to_y * pixel * grad * offset_scale
                    )
        if softmax:
            to_factor = factors * (to_factor - (factors * to_factor).sum())
        grad_mask[b, oy, ox, g * len(points) : (g + 1) * len(points)] = to_factor
    return output, grad_input, grad_offset, grad_mask


def ms_deform_attn(
    value: Array,
    spatial_shapes: Sequence[tuple[int, int]],
    locations: Array,
    weights: Array,
    images: Sequence[int],
    grad_output: Array,
) -> tuple[Array, Array, Array, Array]:
    """Return the output and the gradients to value, locations and weights.

    Locations are (M, H, L, P, 2), weights (M, H, L, P), and row m samples ``value[images[m]]``.
    """
    heads, depth = value.shape[2:]
    output = np.zeros((weights.shape[0], heads * depth))
    grad_value, grad_locations, grad_weights = (
        np.zeros(a.shape) for a in (value, locations, weights)
    )
    for m, h, level, p in product(*map(range, weights.shape)):
        height, width = spatial_shapes[level]
        start = sum(a * b for a, b in spatial_shapes[:level])
        x = locations[m, h, level, p, 0] * width - 0.5
        y = locations[m, h, level, p, 1] * height - 0.5
        factor = weights[m, h, level, p]
        for row, column, weight, to_x, to_y in corners(x, y, height, width):
            for c in range(depth):
                pixel = value[images[m], start + row * width + column, h, c]
                grad = grad_output[m, h * depth + c]
                output[m, h * depth + c] += factor * weight * pixel
                grad_value[images[m], start + row * width + column, h, c] += factor * weight * grad
                grad_weights[m, h, level, p] += weight * pixel * grad
                grad_locations[m, h, level, p, 0] += factor * to_x * width * pixel * grad
                grad_locations[m, h, level, p, 1] += factor * to_y * height * pixel * grad
    return output, grad_value, grad_locations, grad_weights
