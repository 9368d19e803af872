"""Two InternImages, the second of which gets the maps of the first (CBNet, arXiv 2107.00420)."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.internimage import InternImageConfig
from bevstack.models.backbones.internimage import InternImage, InternImageStage


class CompositeInternImage(nn.Module):
    """The composite backbone of the released detector CB-InternImage-H.

    The second backbone starts from the first one's stem. Before each of its stages, the first
    one's maps of this stage and the coarser ones are added, scaled by a vector that starts at zero.
    """

    def __init__(self, config: InternImageConfig) -> None:
        super().__init__()
        self.config = config
        self.first = InternImage(replace(config, out_indices=tuple(range(len(config.depths)))))
        self.second = InternImage(config)
        del self.second.patch_embed
        widths = config.stage_channels
        self.gammas = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in widths)
        # For each stage, a map of this stage and of each coarser one; the first is the identity.
        self.linears = nn.ModuleList(
            nn.ModuleList(
                [nn.Identity(), *(nn.Conv2d(wide, width, 1) for wide in widths[stage + 1 :])]
            )
            for stage, width in enumerate(widths)
        )

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Return the channels of each returned stage."""
        return self.config.out_channels

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> tuple[Tensor, ...]:  # (B, C_l, H_l, W_l) each
        """Return the second backbone's stages."""
        return self.both(images)[1]

    def both(
        self,
        images: Tensor,  # (B, 3, H, W), sides that are multiples of 32
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the stages of both backbones, the first for a further loss in training."""
        stem = self.first.patch_embed(images)
        maps: tuple[Tensor, ...] = self.first.run_after_stem(stem, self.first.config.out_indices)
        x, outputs = stem, []
        for index, stage in enumerate(self.second.levels):
            level = cast(InternImageStage, stage)
            fed = self._feed(maps, index, (int(stem.shape[1]), int(stem.shape[2])))
            # The released code rounds the vector to half precision.
            gamma = self.gammas[index].half().to(x.dtype)
            x = level(x + gamma * fed)
            if index in self.config.out_indices:
                outputs.append(x.permute(0, 3, 1, 2).contiguous())
            if level.downsample is not None:
                x = level.downsample(x)
        own = tuple(maps[index] for index in self.config.out_indices)
        return own, tuple(outputs)

    def _feed(
        self, maps: tuple[Tensor, ...], stage: int, stem_size: tuple[int, int]
    ) -> Tensor:  # (B, H, W, C)
        """Return the sum of the first backbone's maps for a stage of the second."""
        size = [side // 2**stage for side in stem_size]
        linears = cast(nn.ModuleList, self.linears[stage])
        parts = [
            functional.interpolate(linear(found), size=size)
            for linear, found in zip(linears, maps[stage:], strict=True)
        ]
        total = sum(parts[1:], parts[0])
        return total.permute(0, 2, 3, 1)
