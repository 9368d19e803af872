"""The model's attentions as loops, written from the formulas, without regard to speed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.models.detection3d.spatial_cross_attention import SpatialCrossAttention
from bevstack.models.detection3d.temporal_self_attention import TemporalSelfAttention
from bevstack.models.layers.deformable_attention import DeformableAttention


def bilinear(
    image: Tensor,  # (H, W, C)
    x: float,
    y: float,
) -> Tensor:  # (C,)
    """Sample at (x, y) in [0, 1]; pixel centres at (i + 0.5) / size, zero outside."""
    height, width = image.shape[:2]
    column, row = x * width - 0.5, y * height - 0.5
    left, top = math.floor(column), math.floor(row)
    total = image.new_zeros(image.shape[2])
    for r, weight_r in ((top, 1 - (row - top)), (top + 1, row - top)):
        for c, weight_c in ((left, 1 - (column - left)), (left + 1, column - left)):
            if 0 <= r < height and 0 <= c < width:
                total = total + weight_r * weight_c * image[r, c]
    return total


def temporal_self_attention(
    module: TemporalSelfAttention,
    query: Tensor,  # (B, Q, C)
    pos: Tensor,  # (Q, C)
    reference_points: Tensor,  # (Q, 2)
    grid_shape: tuple[int, int],
) -> Tensor:  # (B, Q, C)
    """Compute the published form: joint matrices on [q, q + pos], and the mean over queues."""
    heads, queues, points = module.num_heads, module.self_queues, module.self_points
    rows, columns = grid_shape
    joint = {}
    for name in ("sampling_offsets", "attention_weights"):
        second = getattr(module, f"{name}_pos").weight
        joint[name] = torch.cat((getattr(module, name).weight - second, second), 1)
    value = module.value_proj(query)
    mixed = torch.zeros_like(query)
    width = query.shape[2] // heads
    for b in range(query.shape[0]):
        for q in range(query.shape[1]):
            both = torch.cat((query[b, q], query[b, q] + pos[q]))
            offsets = joint["sampling_offsets"] @ both + module.sampling_offsets.bias
            logits = joint["attention_weights"] @ both + module.attention_weights.bias
            offsets = offsets.view(heads, queues, points, 2)
            weights = logits.view(heads, queues, points).softmax(-1)
            for h in range(heads):
                part = slice(h * width, (h + 1) * width)
                image = value[b, :, part].view(rows, columns, width)
                for u in range(queues):
                    for p in range(points):
                        x = float(reference_points[q, 0] + offsets[h, u, p, 0] / columns)
                        y = float(reference_points[q, 1] + offsets[h, u, p, 1] / rows)
                        sample = bilinear(image, x, y)
                        mixed[b, q, part] += weights[h, u, p] * sample / queues
    return module.output_proj(mixed)


def spatial_cross_attention(
    module: SpatialCrossAttention,
    query: Tensor,  # (B, Q, C)
    value: Tensor,  # (B, N, S, C)
    spatial_shapes: Sequence[tuple[int, int]],
    anchors: Tensor,  # (B, N, Q, Z, 2)
    visible: Tensor,  # (B, N, Q, Z)
) -> Tensor:  # (B, Q, C)
    """Average each query's attention to every camera that sees it."""
    heads, levels, points = module.num_heads, module.num_levels, module.cross_points
    width = query.shape[2] // heads
    value = module.value_proj(value)
    slots = torch.zeros_like(query)
    for b in range(query.shape[0]):
        for q in range(query.shape[1]):
            cameras = [n for n in range(value.shape[1]) if visible[b, n, q].any()]
            offsets = module.sampling_offsets(query[b, q]).view(heads, levels, points, 2)
            weights = module.attention_weights(query[b, q]).view(heads, -1).softmax(-1)
            weights = weights.view(heads, levels, points)
            for n in cameras:
                for h in range(heads):
                    part = slice(h * width, (h + 1) * width)
                    start = 0
                    for level, (rows, columns) in enumerate(spatial_shapes):
                        image = value[b, n, start : start + rows * columns, part]
                        image = image.view(rows, columns, width)
                        start += rows * columns
                        for p in range(points):
                            anchor = anchors[b, n, q, p % module.num_heights]
                            x = float(anchor[0] + offsets[h, level, p, 0] / columns)
                            y = float(anchor[1] + offsets[h, level, p, 1] / rows)
                            sample = bilinear(image, x, y)
                            slots[b, q, part] += weights[h, level, p] * sample / len(cameras)
    return module.output_proj(slots)


def deformable_attention(
    module: DeformableAttention,
    query: Tensor,  # (B, Q, C)
    value: Tensor,  # (B, S, C)
    reference_points: Tensor,  # (B, Q, 2)
    map_shape: tuple[int, int],
) -> Tensor:  # (B, Q, C)
    heads, points = module.num_heads, module.num_points
    rows, columns = map_shape
    value = module.value_proj(value)
    width = query.shape[2] // heads
    mixed = torch.zeros_like(query)
    for b in range(query.shape[0]):
        for q in range(query.shape[1]):
            offsets = module.sampling_offsets(query[b, q]).view(heads, points, 2)
            weights = module.attention_weights(query[b, q]).view(heads, points).softmax(-1)
            for h in range(heads):
                part = slice(h * width, (h + 1) * width)
                image = value[b, :, part].view(rows, columns, width)
                for p in range(points):
                    x = float(reference_points[b, q, 0] + offsets[h, p, 0] / columns)
                    y = float(reference_points[b, q, 1] + offsets[h, p, 1] / rows)
                    mixed[b, q, part] += weights[h, p] * bilinear(image, x, y)
    return module.output_proj(mixed)


def multihead_attention(
    query: Tensor,  # (Q, C)
    key: Tensor,  # (Q, C)
    value: Tensor,  # (Q, C)
    heads: int,
) -> Tensor:  # (Q, C)
    """Compute softmax attention of projected queries, head by head, query by query."""
    width = query.shape[1] // heads
    mixed = torch.zeros_like(query)
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        for q in range(query.shape[0]):
            logits = torch.stack([query[q, part] @ k for k in key[:, part]]) / math.sqrt(width)
            mixed[q, part] = functional.softmax(logits, 0) @ value[:, part]
    return mixed
