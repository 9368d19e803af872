"""Independent implementation of the detector's stages with loops and formulas, in float64.

The parameters of a stage come from its module, whose ``forward`` is never called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.geometry import BEVGrid, CameraRig
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.decoder import Decoder
from bevstack.models.layers.feedforward import FeedForward
from bevstack.types import Batch
from tests.models import naive
from tests.models.backbones import internimage_naive


def affine(x: Tensor, linear: nn.Linear) -> Tensor:
    return x @ linear.weight.T + linear.bias


def normalise(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return centred / deviation * norm.weight + norm.bias


def feedforward(x: Tensor, module: FeedForward) -> Tensor:
    return affine(affine(x, module.fc1).clamp(min=0), module.fc2)


def branch(x: Tensor, layers: nn.Sequential) -> Tensor:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = affine(x, layer)
        else:
            x = normalise(x, layer) if isinstance(layer, nn.LayerNorm) else x.clamp(min=0)
    return x


def pyramid(maps: Sequence[Tensor], laterals: nn.ModuleList, outputs: nn.ModuleList):
    """Compute the feature pyramid: laterals, nearest upsampling, extra levels from the last one."""
    merged = [
        torch.einsum("bchw,dc->bdhw", x, conv.weight[..., 0, 0]) + conv.bias[:, None, None]
        for x, conv in zip(maps, laterals, strict=True)
    ]
    for level in range(len(merged) - 1, 0, -1):
        (rows, columns), above = merged[level - 1].shape[2:], merged[level]
        r = [i * above.shape[2] // rows for i in range(rows)]
        c = [i * above.shape[3] // columns for i in range(columns)]
        merged[level - 1] = merged[level - 1] + above[:, :, r][..., c]
    levels = []
    for index, conv in enumerate(outputs):
        extra = index - len(merged)  # 0 or more for the extra levels
        x = merged[index] if extra < 0 else levels[-1]
        x = x.clamp(min=0) if extra > 0 else x
        stride = 1 if extra < 0 else 2
        levels.append(functional.conv2d(x, conv.weight, conv.bias, stride, 1))
    return levels


def visible_anchors(
    rig: CameraRig,  # leading axes (B,)
    grid: BEVGrid,
    heights: int,
    padded: tuple[int, int],
) -> tuple[Tensor, Tensor]:  # (B, N, Q, Z, 2), (B, N, Q, Z) bool
    """Project each anchor into each camera, one point at a time."""
    batch, cameras = rig.camera_mask.shape
    rows, columns = grid.shape
    uv = torch.zeros(batch, cameras, rows * columns, heights, 2, dtype=torch.float64)
    visible = torch.zeros(uv.shape[:-1], dtype=torch.bool)
    extent = grid.extent_m
    for b, n, q, k in ((*c,) for c in torch.cartesian_prod(*map(torch.arange, uv.shape[:4]))):
        z = grid.low_m[2] + 0.5 + float(k) * (extent[2] - 1) / (heights - 1)
        x = grid.low_m[0] + extent[0] * (int(q) % columns + 0.5) / columns
        y = grid.low_m[1] + extent[1] * (int(q) // columns + 0.5) / rows
        rotation, translation = rig.bev_from_cam[b, n, :3, :3], rig.bev_from_cam[b, n, :3, 3]
        point = rotation.T @ (torch.tensor((x, y, z), dtype=torch.float64) - translation)
        u, v, depth = (rig.intrinsics[b, n] @ point).tolist()
        u, v = u / max(depth, 1e-5), v / max(depth, 1e-5)
        height, width = rig.image_size[b, n].tolist()
        inside = depth > 1e-5 and 0 < u < width and 0 < v < height
        visible[b, n, q, k] = inside and bool(rig.camera_mask[b, n])
        uv[b, n, q, k] = torch.tensor((u / padded[1], v / padded[0]))
    return uv, visible


def encoder(
    module: BEVEncoder,
    levels: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
    rig: CameraRig,
    slots: Tensor,  # (B, N)
    padded: tuple[int, int],
) -> Tensor:  # (B, C, Y, X)
    tokens = [
        level.flatten(3).transpose(2, 3) + module.camera_embeds[slots][:, :, None] + embed
        for level, embed in zip(levels, module.level_embeds, strict=True)
    ]
    value, shapes = torch.cat(tokens, 2), [tuple(level.shape[-2:]) for level in levels]
    anchors, visible = visible_anchors(rig, module.grid, module.num_heights, padded)
    grid_shape, centers = module.grid.shape, module.grid.cell_centers(torch.float64)
    encoding = module.positional_encoding
    cells = [(row, column) for row in range(grid_shape[0]) for column in range(grid_shape[1])]
    pos = torch.stack([torch.cat((encoding.col_embed[c], encoding.row_embed[r])) for r, c in cells])
    query = module.bev_embedding.expand(slots.shape[0], -1, -1)
    for layer in module.layers:
        attended = naive.temporal_self_attention(
            layer.self_attention, query, pos, centers, grid_shape
        )
        query = normalise(query + attended, layer.norms[0])
        attended = naive.spatial_cross_attention(
            layer.cross_attention, query, value, shapes, anchors, visible
        )
        query = normalise(query + attended, layer.norms[1])
        query = normalise(query + feedforward(query, layer.feedforward), layer.norms[2])
    return query.transpose(1, 2).unflatten(2, grid_shape)


def resampled(bev: Tensor, augmentation: Tensor, grid: BEVGrid) -> Tensor:
    """Sample, for each cell, the map at the position before augmentation."""
    moved = torch.zeros_like(bev)
    low, extent = grid.low_m, grid.extent_m
    for b in range(bev.shape[0]):
        inverse = torch.linalg.inv(augmentation[b])[:2, :2]
        for row in range(grid.shape[0]):
            for column in range(grid.shape[1]):
                center = (
                    low[0] + extent[0] * (column + 0.5) / grid.shape[1],
                    low[1] + extent[1] * (row + 0.5) / grid.shape[0],
                )
                x, y = (inverse @ torch.tensor(center, dtype=torch.float64)).tolist()
                location = ((x - low[0]) / extent[0], (y - low[1]) / extent[1])
                moved[b, :, row, column] = naive.bilinear(bev[b].permute(1, 2, 0), *location)
    return moved


def self_attention(module: nn.Module, query: Tensor, pos: Tensor) -> Tensor:  # (B, Q, C)
    """Compute the decoder's self-attention with a loop over samples."""
    both = affine(query + pos, module.qk_proj)
    values = affine(query, module.v_proj)
    mixed = [
        naive.multihead_attention(*both[b].chunk(2, -1), values[b], module.num_heads)
        for b in range(query.shape[0])
    ]
    return affine(torch.stack(mixed), module.out_proj)


def decoder(module: Decoder, bev: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (R, B, Q, K) and codes (R, B, Q, 10)."""
    tokens, (pos, query) = bev.flatten(2).transpose(1, 2), module.query_embedding.chunk(2, -1)
    query = query.expand(bev.shape[0], -1, -1)
    reference = 1 / (1 + (-affine(pos, module.reference_points)).exp())
    reference = reference.expand(bev.shape[0], -1, -1)
    low, extent = (torch.tensor(v).double() for v in (module.grid.low_m, module.grid.extent_m))
    logits, codes = [], []
    for index, layer in enumerate(module.layers):
        attended = self_attention(layer.self_attention, query, pos)
        query = normalise(query + attended, layer.norms[0])
        attended = naive.deformable_attention(
            layer.cross_attention, query + pos, tokens, reference[..., :2], module.grid.shape
        )
        query = normalise(query + attended, layer.norms[1])
        query = normalise(query + feedforward(query, layer.feedforward), layer.norms[2])
        logits.append(branch(query, module.head.class_branches[index]))
        code = branch(query, module.head.box_branches[index])
        clamped = reference.clamp(1e-5, 1 - 1e-5)
        refined_logit = code[..., (0, 1, 4)] + (clamped / (1 - clamped)).log()
        reference = 1 / (1 + (-refined_logit).exp())
        center = low + extent * reference
        codes.append(
            torch.cat((center[..., :2], code[..., 2:4], center[..., 2:], code[..., 5:]), -1)
        )
    return torch.stack(logits), torch.stack(codes)


def detector(model: BEVFormerV2, batch: Batch) -> dict[str, Tensor]:
    """Return BEV map, logits and codes of the full model."""
    images, rig = batch.images[:, 0], batch.rig[:, 0]
    backbone = model.backbone
    maps = internimage_naive.stages(
        images.flatten(0, 1), dict(backbone.state_dict()), backbone.config
    )
    selected = [maps[stage] for stage in backbone.config.out_indices]
    levels = pyramid(selected, model.neck.lateral_convs, model.neck.output_convs)
    levels = [level.unflatten(0, images.shape[:2]) for level in levels]
    bev = encoder(model.encoder, levels, rig, batch.camera_slots, tuple(images.shape[-2:]))
    if batch.bev_augmentation is not None:
        bev = resampled(bev, batch.bev_augmentation, model.grid)
    logits, codes = decoder(model.decoder, bev)
    return {"bev": bev, "logits": logits, "codes": codes}


def smooth_l1(distance: float) -> float:
    return distance * distance / 2 if distance < 1 else distance - 0.5


def focal(logit: float, positive: bool) -> float:
    """Return the focal loss with alpha 0.25 and gamma 2."""
    p = 1 / (1 + math.exp(-logit))
    if positive:
        return -0.25 * (1 - p) ** 2 * math.log(p)
    return -0.75 * p**2 * math.log(1 - p)
