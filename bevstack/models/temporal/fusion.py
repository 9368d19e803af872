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
    """Return the slot that each slot takes its map from, row by row.

    A frame that exists takes its own map. A missing frame takes the map of the nearest existing
    frame between it and the current one. The current frame always counts as existing, whatever
    ``valid`` holds for it.

    Raises:
        ValueError: ``current`` is no slot of ``valid``.
    """
    expect_shape("valid", valid, ("B", "T"))
    frames = valid.shape[1]
    if not 0 <= current < frames:
        raise ValueError(f"current must be one of the {frames} slots, from 0; got {current}")
    slots = torch.arange(frames, device=valid.device)
    # (B, T), the current slot for missing ones
    existing = slots.expand_as(valid).masked_fill(~valid, current)
    # For older slots, the nearest existing one is the minimum from there to the current slot.
    older = existing[:, : current + 1].flip(1).cummin(1).values.flip(1)
    newer = existing[:, current:].cummax(1).values
    return torch.cat((older[:, :current], newer), 1)


def fill_missing(
    maps: Tensor,  # (B, T, C, Y, X)
    valid: Tensor,  # (B, T) bool
    current: int,  # the slot of the current frame, which always exists
) -> Tensor:  # (B, T, C, Y, X)
    """Return maps in which missing frames are replaced by those that ``source_slots`` chooses.

    Only the current slot carries gradient. Maps of missing frames are not read; they may be NaN.

    Raises:
        ValueError: shapes that do not agree, or ``current`` is no slot.
    """
    sizes = expect_shape("maps", maps, ("B", "T", "C", "Y", "X"))
    expect_shape("valid", valid, ("B", "T"), sizes)
    rows = torch.arange(maps.shape[0], device=maps.device)[:, None]
    filled = maps.detach()[rows, source_slots(valid, current)]
    if not (maps.requires_grad and torch.is_grad_enabled()):
        return filled
    current_map = maps[:, current : current + 1]
    return torch.cat((filled[:, :current], current_map, filled[:, current + 1 :]), 1)


class FusionBlock(nn.Module):
    """Residual block: two 3x3 convolutions with norms; ReLU of the sum with the input.

    If the number of channels changes, the input is convolved (3x3) and normalised before the sum.
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
        """Add the residual branch to the input."""
        branch = functional.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return functional.relu(branch + (x if self.downsample is None else self.downsample(x)))


class TemporalFusion(nn.Module):
    """Fusion of the BEV maps of several frames into one.

    Maps are concatenated along channels; residual blocks, a linear map and a norm follow.

    Args:
        config: the temporal section of the configuration.
        channels: C, of each map and of the fused one.
        frames: offsets of the frames, ascending: 0 and at least one more.
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
        """Initialise convolutions and the linear map Xavier-uniform; norms keep scale 1, bias 0."""
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
        """Fill missing frames and fuse all maps; only the current map carries gradient.

        Rows are independent, except for the statistics of batch norm in training. If only the
        current frame exists, its map fills every slot.

        Raises:
            ValueError: shapes that do not agree, or another number of frames than configured.
        """
        expect_shape("maps", maps, ("B", self.num_frames, "C", "Y", "X"))
        return self.fuse(fill_missing(maps, valid, self.current))

    def fuse(
        self,
        maps: Tensor,  # (B, T, C, Y, X), none missing
    ) -> Tensor:  # (B, C, Y, X)
        """Fuse maps of which none is missing, with gradient to each."""
        x = rearrange(maps, "b t c y x -> b (t c) y x")
        for block in self.blocks:
            x = run_block(block, x, checkpointed=self.activation_checkpointing)
        tokens: Tensor = self.norm(self.linear(rearrange(x, "b i y x -> b y x i")))
        return rearrange(tokens, "b y x c -> b c y x")
