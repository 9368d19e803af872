"""Benchmark cases: both operators at the sizes of real models, and `F.grid_sample` references."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bevstack import ops
from bevstack.experiments.benchmark.subjects import DCNV3_SHAPES, PYRAMID

PAIRS = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
# name: images, queries per image, levels; eight heads of 32 channels, eight points
ATTENTION_SHAPES = {
    "spatial_cross_attention": (6, 8000, PYRAMID),
    "temporal_self_attention": (1, 40000, ((200, 200),)),
}


class Case(NamedTuple):
    """One operator at one size: its inputs and both implementations."""

    name: str
    tensors: tuple[Tensor, Tensor, Tensor]
    native: Callable[..., Tensor]
    grid_sample: Callable[..., Tensor]

    def bytes_forward(self) -> int:
        """Return the minimum traffic of a forward pass: read each input, write the output once."""
        output = self.tensors[0].nbytes * self.output_per_value()
        return round(sum(t.nbytes for t in self.tensors) + output)

    def bytes_forward_backward(self) -> int:
        """Return the minimum traffic of a forward and a backward pass.

        Inputs are read twice, the output's gradient once; the output and all gradients are written.
        """
        output = self.tensors[0].nbytes * self.output_per_value()
        return round(3 * sum(t.nbytes for t in self.tensors) + 2 * output)

    def output_per_value(self) -> float:
        """Return the size of the output divided by that of the first input."""
        values, points, factors = self.tensors
        if points.dim() == 4:  # dcnv3: the output has the height and width of the offsets
            return points.shape[1] * points.shape[2] / (values.shape[1] * values.shape[2])
        return factors.shape[1] / values.shape[1]


def dcnv3_by_grid_sample(
    input: Tensor, offset: Tensor, mask: Tensor, groups: int, scale: float
) -> Tensor:
    """Compute DCNv3 of a 3x3 kernel, stride 1: sample a group in one call, then sum by weight."""
    batch, height, width, channels = input.shape
    y = torch.arange(height, dtype=input.dtype, device=input.device).view(1, height, 1, 1, 1)
    x = torch.arange(width, dtype=input.dtype, device=input.device).view(1, 1, width, 1, 1)
    steps = torch.arange(-1, 2, dtype=input.dtype, device=input.device)
    grid_x, grid_y = steps.repeat_interleave(3), steps.repeat(3)  # the column is the outer index
    pairs = offset.view(batch, height, width, groups, 9, 2)
    sample_x = (x + (grid_x + pairs[..., 0]) * scale) * (2 / width) + (1 / width - 1)
    sample_y = (y + (grid_y + pairs[..., 1]) * scale) * (2 / height) + (1 / height - 1)
    grid = torch.stack((sample_x, sample_y), -1)  # (B, H, W, G, 9, 2)
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(batch * groups, height * width, 9, 2)
    maps = input.permute(0, 3, 1, 2).reshape(batch * groups, channels // groups, height, width)
    samples = F.grid_sample(maps, grid, align_corners=False)  # (B * G, D, H * W, 9)
    weights = mask.view(batch, height * width, groups, 9).transpose(1, 2)
    output = (samples * weights.reshape(batch * groups, 1, height * width, 9)).sum(-1)
    return output.view(batch, channels, height, width).permute(0, 2, 3, 1).contiguous()


def attention_by_grid_sample(
    value: Tensor, locations: Tensor, weights: Tensor, shapes: tuple[tuple[int, int], ...]
) -> Tensor:
    """Compute multi-scale deformable attention: sample each level in one call, sum by weight."""
    batch, _, heads, depth = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    grids = 2 * locations - 1
    sampled = []
    maps = value.split([h * w for h, w in shapes], dim=1)
    for level, (height, width) in enumerate(shapes):
        image = maps[level].flatten(2).transpose(1, 2).reshape(batch * heads, depth, height, width)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(image, grid, align_corners=False))
    factors = weights.transpose(1, 2).reshape(batch * heads, 1, queries, len(shapes) * points)
    output = (torch.stack(sampled, dim=-2).flatten(-2) * factors).sum(-1)
    return output.view(batch, heads * depth, queries).transpose(1, 2).contiguous()


def dcnv3_case(name: str, device: torch.device, images: int = 1) -> Case:
    """Return a DCNv3 case with offsets N(0, 1) pixel, times offset_scale like the kernel's grid."""
    (height, width), channels, groups, scale = DCNV3_SHAPES[name]
    shape = (images, height, width)
    tensors = (
        torch.randn(*shape, channels, device=device),
        torch.randn(*shape, groups * 18, device=device),
        torch.rand(*shape, groups, 9, device=device).softmax(-1).flatten(-2),
    )
    return Case(
        f"dcnv3 {name}",
        tensors,
        lambda *t: ops.dcnv3(*t, groups=groups, offset_scale=scale, **PAIRS),
        lambda *t: dcnv3_by_grid_sample(*t, groups, scale),
    )


def attention_case(name: str, device: torch.device) -> Case:
    """Return an attention case with queries in scan order and points N(0, 4) pixels about them."""
    images, queries, shapes = ATTENTION_SHAPES[name]
    levels, pixels = len(shapes), sum(h * w for h, w in shapes)
    columns = round((queries * shapes[0][1] / shapes[0][0]) ** 0.5)
    index = torch.arange(queries)
    centers = torch.stack(
        ((index % columns + 0.5) / columns, (index // columns + 0.5) * columns / queries), -1
    )
    sizes = torch.tensor([[w, h] for h, w in shapes]).view(levels, 1, 2)
    noise = torch.randn(images, queries, 8, levels, 8, 2) * 4 / sizes
    locations = centers.view(1, queries, 1, 1, 1, 2) + noise
    weights = torch.rand(images, queries, 8, levels * 8).softmax(-1)
    tensors = (
        torch.randn(images, pixels, 8, 32, device=device),
        locations.to(device),
        weights.view(images, queries, 8, levels, 8).to(device),
    )
    return Case(
        f"ms_deform_attn {name}",
        tensors,
        lambda value, points, factors: ops.ms_deform_attn(value, shapes, points, factors),
        lambda *t: attention_by_grid_sample(*t, shapes),
    )
