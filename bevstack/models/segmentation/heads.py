"""Heads of segmentation on the stages of a backbone: UperNet, its auxiliary head, SegFormer's.

Letters: B batch, K outputs, C channels, H W of the finest map (stride 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.segmentation import LabelHeadConfig


def map_size(
    maps: Tensor,  # (..., H, W)
) -> tuple[int, int]:
    """Return height and width of maps."""
    return int(maps.shape[-2]), int(maps.shape[-1])


def resize_map(
    maps: Tensor,  # (B, C, H', W')
    size: tuple[int, int],  # (H, W)
) -> Tensor:  # (B, C, H, W)
    """Interpolate maps bilinearly between the centres of cells."""
    if maps.shape[-2:] == torch.Size(size):
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm and ReLU; keeps the size."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int) -> None:
        super().__init__()
        padding = kernel // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        maps: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B, C', H, W)
        """Apply the three."""
        output: Tensor = self.norm(self.conv(maps)).relu()
        return output


class PixelClassifier(nn.Module):
    """Dropout of whole channels and a linear map of each cell to logits."""

    def __init__(self, channels: int, num_outputs: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.logits = nn.Conv2d(channels, num_outputs, 1)
        nn.init.normal_(self.logits.weight, std=0.01)  # the released code's
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def forward(
        self,
        maps: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B, K, H, W)
        """Predict logits."""
        output: Tensor = self.logits(self.dropout(maps))
        return output


class UperHead(nn.Module):
    """UperNet (arXiv 1807.10221): pyramid pooling, a feature pyramid, and its fusion at stride 4.

    Args:
        config: the head.
        in_channels: of the four stages.
        num_outputs: channels of the logits.
    """

    def __init__(
        self, config: LabelHeadConfig, *, in_channels: Sequence[int], num_outputs: int
    ) -> None:
        super().__init__()
        width, top = config.channels, in_channels[-1]
        self.pool_cells = config.pool_cells
        self.pooled = nn.ModuleList(ConvNormReLU(top, width, kernel=1) for _ in config.pool_cells)
        self.bottleneck = ConvNormReLU(top + len(config.pool_cells) * width, width, kernel=3)
        self.laterals = nn.ModuleList(
            ConvNormReLU(size, width, kernel=1) for size in in_channels[:-1]
        )
        self.outputs = nn.ModuleList(ConvNormReLU(width, width, kernel=3) for _ in in_channels[:-1])
        self.fusion = ConvNormReLU(len(in_channels) * width, width, kernel=3)
        self.classifier = PixelClassifier(width, num_outputs, dropout=config.dropout)

    def pool_top(
        self,
        top: Tensor,  # (B, C, H', W') of the last stage
    ) -> Tensor:  # (B, C', H', W')
        """Join the last stage with its means over 1, 4, 9 and 36 cells (PSPNet, arXiv 1612.01105).

        The numbers of cells are those of the configuration.
        """
        size = map_size(top)
        means = [
            resize_map(layer(functional.adaptive_avg_pool2d(top, cells)), size)
            for cells, layer in zip(self.pool_cells, self.pooled, strict=True)
        ]
        joined: Tensor = self.bottleneck(torch.cat((top, *means), dim=1))
        return joined

    def fuse(
        self,
        stages: Sequence[Tensor],  # 4 x (B, C_l, H_l, W_l), finest first
    ) -> Tensor:  # (B, C, H, W)
        """Return the joined map at the finest stage's size."""
        levels = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=False)]
        levels.append(self.pool_top(stages[-1]))
        for index in range(len(levels) - 1, 0, -1):
            finer = levels[index - 1]
            size = map_size(finer)
            levels[index - 1] = finer + resize_map(levels[index], size)
        convolved = [conv(level) for conv, level in zip(self.outputs, levels, strict=False)]
        size = map_size(levels[0])
        resized = [resize_map(level, size) for level in (*convolved, levels[-1])]
        fused: Tensor = self.fusion(torch.cat(resized, dim=1))
        return fused

    def forward(
        self,
        stages: Sequence[Tensor],  # 4 x (B, C_l, H_l, W_l), finest first
    ) -> Tensor:  # (B, K, H, W)
        """Predict logits at the finest stage's size."""
        logits: Tensor = self.classifier(self.fuse(stages))
        return logits


class SegFormerHead(nn.Module):
    """The head of SegFormer (arXiv 2105.15203): linear maps of all stages, joined at stride 4.

    It has convolutions with batch norm where the paper has linear maps, as in the released code.

    Args:
        config: the head.
        in_channels: of the four stages.
        num_outputs: channels of the logits.
    """

    def __init__(
        self, config: LabelHeadConfig, *, in_channels: Sequence[int], num_outputs: int
    ) -> None:
        super().__init__()
        width = config.channels
        self.laterals = nn.ModuleList(ConvNormReLU(size, width, kernel=1) for size in in_channels)
        self.fusion = ConvNormReLU(len(in_channels) * width, width, kernel=1)
        self.classifier = PixelClassifier(width, num_outputs, dropout=config.dropout)

    def forward(
        self,
        stages: Sequence[Tensor],  # 4 x (B, C_l, H_l, W_l), finest first
    ) -> Tensor:  # (B, K, H, W)
        """Predict logits at the finest stage's size."""
        size = map_size(stages[0])
        levels = [
            resize_map(lateral(stage), size)
            for lateral, stage in zip(self.laterals, stages, strict=True)
        ]
        logits: Tensor = self.classifier(self.fusion(torch.cat(levels, dim=1)))
        return logits


class AuxiliaryHead(nn.Module):
    """One convolution and a classifier on the third stage, for a second loss in training."""

    def __init__(self, config: LabelHeadConfig, *, in_channels: int, num_outputs: int) -> None:
        super().__init__()
        self.conv = ConvNormReLU(in_channels, config.auxiliary_channels, kernel=3)
        self.classifier = PixelClassifier(
            config.auxiliary_channels, num_outputs, dropout=config.dropout
        )

    def forward(
        self,
        stage: Tensor,  # (B, C, H', W')
    ) -> Tensor:  # (B, K, H', W')
        """Predict logits at the stage's size."""
        logits: Tensor = self.classifier(self.conv(stage))
        return logits
