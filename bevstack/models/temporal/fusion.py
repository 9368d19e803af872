"""Temporal fusion of BEV maps (arXiv 2211.10439, section 3.4; v2 specification, section 6).

Letters: B batch, T frames in ascending order, C channels, I inner channels, Y X grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.temporal import TemporalConfig
from bevstack.models.layers.norms import build_map_norm, run_block
from bevstack.shapes import expect_shape


def source_slots(
    valid: Tensor,  # (B, T) bool
    current: int,  # the slot of the current frame, which always exists
) -> Tensor:  # (B, T) int64
    """Which slot each slot takes its map from, row by row.

    A frame that exists keeps its own. Going back from the current frame, a missing one takes what
    its newer neighbour has; going forward, what its older neighbour has: the nearest frame towards
    the current one. What ``valid`` says of the current frame is not read.

    Raises:
        ValueError: ``current`` is no slot of ``valid``.
    """
    expect_shape("valid", valid, ("B", "T"))
    frames = valid.shape[1]
    if not 0 <= current < frames:
        raise ValueError(f"current must be one of the {frames} slots, from 0; got {current}")
    slots = torch.arange(frames, device=valid.device)
    own = torch.where(valid, slots, current)  # (B, T), the current slot where missing
    # The nearest existing slot towards the current one is the least of those from here up to it.
    older = own[:, : current + 1].flip(1).cummin(1).values.flip(1)
    newer = own[:, current:].cummax(1).values
    return torch.cat((older[:, :current], newer), 1)


def fill_missing(
    maps: Tensor,  # (B, T, C, Y, X)
    valid: Tensor,  # (B, T) bool
    current: int,  # the slot of the current frame, which always exists
) -> Tensor:  # (B, T, C, Y, X)
    """Every slot with a map: missing frames are filled as ``source_slots`` says.

    Only the current slot carries gradient. What stands in a missing slot is not read, be it NaN.

    Raises:
        ValueError: shapes that disagree, or ``current`` is no slot.
    """
    sizes = expect_shape("maps", maps, ("B", "T", "C", "Y", "X"))
    expect_shape("valid", valid, ("B", "T"), sizes)
    rows = torch.arange(maps.shape[0], device=maps.device)[:, None]
    filled = maps.detach()[rows, source_slots(valid, current)]
    if not (maps.requires_grad and torch.is_grad_enabled()):
        return filled
    now = maps[:, current : current + 1]
    return torch.cat((filled[:, :current], now, filled[:, current + 1 :]), 1)


class FusionBlock(nn.Module):
    """Two 3x3 convolutions with norms; ReLU of the sum with the input.

    The input is convolved (3x3) and normalised on its way to the sum where the channels change.
    """

    def __init__(self, in_channels: int, channels: int, *, norm: str, norm_groups: int) -> None:
        super().__init__()
        if norm == "GN" and channels % norm_groups:
            raise ValueError(
                f"temporal.norm_groups must divide the blocks' {channels} channels; "
                f"got {norm_groups}"
            )
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = build_map_norm(norm, channels, groups=norm_groups)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = build_map_norm(norm, channels, groups=norm_groups)
        self.downsample: nn.Sequential | None = None
        if in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
                build_map_norm(norm, channels, groups=norm_groups),
            )

    def forward(
        self,
        x: Tensor,  # (B, in_channels, Y, X)
    ) -> Tensor:  # (B, channels, Y, X)
        """The residual branch added to the input."""
        branch = functional.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return functional.relu(branch + (x if self.downsample is None else self.downsample(x)))


class TemporalFusion(nn.Module):
    """BEV maps of several frames to one: side by side on channels, residual blocks, linear, norm.

    Args:
        config: the temporal section of the configuration.
        channels: C, of each map and of the fused one.
        frames: offsets of the frames, ascending, 0 among them and not alone.
    """

    def __init__(self, config: TemporalConfig, *, channels: int, frames: Sequence[int]) -> None:
        super().__init__()
        if len(frames) < 2 or 0 not in frames or list(frames) != sorted(set(frames)):
            raise ValueError(
                f"frames must ascend and hold 0 and another offset; got {tuple(frames)}"
            )
        self.frames = tuple(frames)
        self.num_frames = len(frames)
        self.current = self.frames.index(0)
        self.activation_checkpointing = config.activation_checkpointing
        in_channels = self.num_frames * channels
        inner = config.inter_channels or in_channels
        self.blocks = nn.ModuleList(
            FusionBlock(
                inner if index else in_channels,
                inner,
                norm=config.norm,
                norm_groups=config.norm_groups,
            )
            for index in range(config.num_fusion)
        )
        self.linear = nn.Linear(inner, channels)
        self.norm = nn.LayerNorm(channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform convolutions and linear map; norms start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self,
        maps: Tensor,  # (B, T, C, Y, X), in the current frame's grid
        valid: Tensor,  # (B, T) bool, False where a frame is missing
    ) -> Tensor:  # (B, C, Y, X)
        """Fills missing frames and fuses; only the current map carries gradient.

        Rows are independent of each other but for the statistics of batch norm in training. With
        nothing but the current frame it stands in every slot, and is fused all the same.

        Raises:
            ValueError: shapes that disagree, or another number of frames than configured.
        """
        expect_shape("maps", maps, ("B", self.num_frames, "C", "Y", "X"))
        return self.fuse(fill_missing(maps, valid, self.current))

    def fuse(
        self,
        maps: Tensor,  # (B, T, C, Y, X), every slot with a map
    ) -> Tensor:  # (B, C, Y, X)
        """Fuses maps that are all there, with gradient to each."""
        x = rearrange(maps, "b t c y x -> b (t c) y x")
        for block in self.blocks:
            x = run_block(block, x, checkpointed=self.activation_checkpointing)
        tokens = self.norm(self.linear(rearrange(x, "b i y x -> b y x i")))
        return rearrange(tokens, "b y x c -> b c y x")
