"""Mask2Former's pixel decoder: deformable attention over three levels, and a map at stride 4.

Letters: B batch, L levels (coarse to fine), S cells of all levels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bevstack.config.mask_segmentation import MaskHeadConfig
from bevstack.models.layers.deformable_encoder import EncoderLayer
from bevstack.models.layers.sine_positions import encode_cells
from bevstack.models.segmentation.heads import map_size, resize_map

NUM_LEVELS = 3  # of strides 32, 16 and 8
TEMPERATURE = 10_000.0  # of the encoding of positions, as released


class PixelMaps(NamedTuple):
    """Maps of the pixel decoder."""

    mask_features: Tensor  # (B, C, H / 4, W / 4)
    levels: tuple[Tensor, ...]  # L x (B, C, H_l, W_l), coarse to fine


class ConvGroupNorm(nn.Module):
    """Convolution and group norm, with or without a ReLU; keeps the size."""

    def __init__(
        self, in_channels: int, config: MaskHeadConfig, *, kernel: int, bias: bool, relu: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, config.channels, kernel, padding=kernel // 2, bias=bias)
        self.norm = nn.GroupNorm(config.norm_groups, config.channels)
        self.relu = relu
        nn.init.xavier_uniform_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(
        self,
        maps: Tensor,  # (B, C', H, W)
    ) -> Tensor:  # (B, C, H, W)
        """Apply the layers."""
        output: Tensor = self.norm(self.conv(maps))
        return output.relu() if self.relu else output


class PixelDecoder(nn.Module):
    """Encoder of the three coarse stages, and its joint map with the finest one.

    Args:
        config: the head.
        in_channels: of the four stages, finest first.
    """

    def __init__(self, config: MaskHeadConfig, in_channels: Sequence[int]) -> None:
        super().__init__()
        channels, coarse_first = config.channels, list(reversed(in_channels))
        self.inputs = nn.ModuleList(
            ConvGroupNorm(size, config, kernel=1, bias=True, relu=False)
            for size in coarse_first[:NUM_LEVELS]
        )
        self.level_embeds = nn.Parameter(torch.empty(NUM_LEVELS, channels))
        self.encoder = nn.ModuleList(
            EncoderLayer(
                channels,
                num_heads=config.num_heads,
                num_levels=NUM_LEVELS,
                num_points=config.num_points,
                feedforward_channels=config.encoder_feedforward_channels,
            )
            for _ in range(config.encoder_layers)
        )
        self.lateral = ConvGroupNorm(in_channels[0], config, kernel=1, bias=False, relu=False)
        self.output = ConvGroupNorm(channels, config, kernel=3, bias=False, relu=True)
        self.mask_features = nn.Conv2d(channels, channels, 1)
        nn.init.normal_(self.level_embeds)

    def forward(
        self,
        stages: Sequence[Tensor],  # 4 x (B, C_l, H_l, W_l), finest first
    ) -> PixelMaps:
        """Return the encoded levels, and the features of masks at the finest stage's size."""
        coarse = reversed(stages[1:])
        maps = [layer(stage) for layer, stage in zip(self.inputs, coarse, strict=True)]
        levels = self.encode(maps)
        finest = self.lateral(stages[0])
        joined = self.output(finest + resize_map(levels[-1], map_size(finest)))
        return PixelMaps(self.mask_features(joined), levels)

    def encode(
        self,
        maps: Sequence[Tensor],  # L x (B, C, H_l, W_l)
    ) -> tuple[Tensor, ...]:  # L x (B, C, H_l, W_l)
        """Return the maps after attention to a few points of every level."""
        shapes = [map_size(level) for level in maps]
        cells = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)
        positions = [
            encode_positions(level) + embed
            for level, embed in zip(maps, self.level_embeds, strict=True)
        ]
        position = torch.cat(positions, 1)  # (1, S, C)
        references = cell_centers(shapes, cells)[None, :, None].expand(
            len(cells), -1, NUM_LEVELS, -1
        )
        for layer in self.encoder:
            cells = layer(cells, position, references, padding=None, shapes=shapes)
        parts = torch.split(cells, [height * width for height, width in shapes], 1)
        return tuple(
            torch.unflatten(part.transpose(1, 2), 2, shape)
            for part, shape in zip(parts, shapes, strict=True)
        )


def encode_positions(
    level: Tensor,  # (B, C, H_l, W_l)
) -> Tensor:  # (1, H_l * W_l, C)
    """Return sines of the places of a level's cells."""
    padding = level.new_zeros((1, *level.shape[2:]), dtype=torch.bool)
    codes = encode_cells(padding, channels=int(level.shape[1]), temperature=TEMPERATURE)
    return codes.flatten(1, 2)


def cell_centers(
    shapes: Sequence[tuple[int, int]],
    like: Tensor,  # of the device
) -> Tensor:  # (S, 2) float32 x, y, shares of the map
    """Return the centre of each cell of all levels."""
    centers = []
    for height, width in shapes:
        y = (torch.arange(height, device=like.device) + 0.5) / height
        x = (torch.arange(width, device=like.device) + 0.5) / width
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centers.append(torch.stack((grid_x, grid_y), -1).flatten(0, 1))
    return torch.cat(centers)
